"""Stored grids for people and for ``--json``: dimensions with their ranges, variables with their statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featureflow.observe.terminal import Paint, table
from featureflow.observe.units import count, value
from featureflow.tables.labelled import grid_bytes, sizes_of

if TYPE_CHECKING:
    import xarray as xr

    from featureflow.tables.table import Table


def grid_size(found: Table) -> dict[str, Any]:
    """How large a grid is: its dimensions, its chunks, and the bytes of all values before compression."""
    arrays = found.record["arrays"]
    chunks = int(found.state.info.rows)
    return {"dims": sizes_of(arrays), "chunks": chunks, "bytes": grid_bytes(found.record)}


def describe_grid_version(found: Table) -> dict[str, Any]:
    """Describe dimensions, how they are cut, and where the values are; opens the arrays to read the coordinates."""
    arrays = found.record["arrays"]
    about = {name: arrays.get(name) for name in ("dims", "sizes", "chunks", "shards", "snapshot", "attrs")}
    outline = found.to_xarray()
    return {**about, "coordinates": {dim: _range(outline, dim) for dim in arrays["dims"]}}


def _range(outline: xr.Dataset, dim: str) -> dict[str, Any]:
    """First and last label of a dimension as text or number; none where it has positions only."""
    if dim not in outline.coords:
        return {"type": None, "units": None, "first": None, "last": None}
    labels = outline[dim]
    ends = [_label(labels.values[at]) for at in (0, -1)] if labels.size else [None, None]
    units = labels.attrs.get("units")
    kind = {"type": str(labels.dtype), "units": None if units is None else str(units)}
    return {**kind, "first": ends[0], "last": ends[1]}


def _label(given: Any) -> Any:
    if getattr(given, "dtype", None) is not None and given.dtype.kind in "Mm":
        return str(given).rstrip("0").rstrip(".") if "." in str(given) else str(given)
    found = given.item() if hasattr(given, "item") else given
    return found if isinstance(found, int | float | str) else str(found)


def describe_variables(found: Table) -> list[dict[str, Any]]:
    """Describe the variables of a grid: type, dimensions, units, and statistics of all values."""
    variables = found.record["arrays"]["variables"]
    statistics = {row["column"]: row for row in found.stats.iter_rows(named=True)}
    return [
        {
            "name": name,
            "type": about["dtype"],
            "dims": about["dims"],
            "units": about.get("units"),
            "attrs": about.get("attrs"),
            "count": statistics[name]["count"],
            "nulls": statistics[name]["nulls"],
            **{
                key: None if statistics[name][key] is None else float(statistics[name][key])
                for key in ("min", "max", "mean")
            },
        }
        for name, about in variables.items()
    ]


def sizes_line(dims: dict[str, int]) -> str:
    """Sizes by dimension in a line."""
    return " × ".join(f"{dim} {count(n)}" for dim, n in dims.items()) or "no dimensions"  # noqa: RUF001


def grid_lines(entry: dict[str, Any], limit: int, brush: Paint) -> list[str]:
    """Lay out the dimensions and the variables of a described grid."""
    grid = entry["grid"]
    dims = []
    for dim in grid["dims"]:
        labels, size = grid["coordinates"][dim], grid["sizes"][dim]
        ends = [_short(labels[end]) for end in ("first", "last")]
        dims.append((dim, count(size), count(grid["chunks"].get(dim, size)), *ends, labels["units"] or ""))
    headers = ("dimension", "size", "chunk", "first", "last", "units")
    lines = table(dims, headers, limit=limit, right=(1, 2, 3, 4), paint=brush, indent="  ")
    rows = [
        (
            one["name"],
            one["type"],
            ", ".join(one["dims"]),
            one["units"] or "",
            count(one["count"]),
            _missing(one["nulls"], one["count"] + one["nulls"]),
            *("" if one[name] is None else value(one[name]) for name in ("min", "mean", "max")),
        )
        for one in entry["schema"]
    ]
    headers_of = ("variable", "type", "dimensions", "units", "values", "missing", "min", "mean", "max")
    return [*lines, "", *table(rows, headers_of, limit=limit, right=range(4, 9), paint=brush, indent="  ")]


def _short(label: Any) -> str:
    if label is None:
        return ""
    if isinstance(label, str):
        return label.removesuffix("T00:00:00").replace("T", " ") if label[4:5] == "-" else label
    return value(label)


def _missing(nulls: int, values: int) -> str:
    if not nulls:
        return "-"
    share = nulls / values
    return "all" if nulls == values else f"{share:.1%}" if share >= 0.001 else count(nulls)
