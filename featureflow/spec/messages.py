"""What pydantic found, in the words of the spec's author."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from featureflow.spec.datasets import FILE_FIELDS, Spine
from featureflow.spec.fields import Misplaced
from featureflow.spec.models import GRID_FIELDS, GRIDS, Feature, GridFeature, Project
from featureflow.spec.paths import Path
from featureflow.spec.suggest import closest, did_you_mean

#: what other tools call a field; only for suggestions
_FIELD_ALIASES = {
    **dict.fromkeys(("entity", "entities", "key", "group_by", "groupby", "join_keys"), "keys"),
    **dict.fromkeys(("tz", "zone", "time_zone"), "timezone"),
    **dict.fromkeys(("timestamp", "event_time", "timestamp_field", "time_column"), "time"),
    **dict.fromkeys(("created_timestamp", "knowledge_time"), "created"),
    **dict.fromkeys(("filter", "filters", "condition"), "where"),
    **dict.fromkeys(("aggregations", "aggregates", "aggs", "agg"), "aggregate"),
    **dict.fromkeys(("lookups", "join", "joins", "asof"), "lookup"),
    **dict.fromkeys(("functions", "operations", "op"), "ops"),
    **dict.fromkeys(("rename", "alias", "name"), "as"),
    **dict.fromkeys(("paths", "file", "files", "url", "uri"), "path"),
    **dict.fromkeys(("python", "function"), "udf"),
    **dict.fromkeys(("expressions", "select", "transform"), "derive"),
    **dict.fromkeys(("dedup", "unique"), "deduplicate"),
}
_EXAMPLES = {
    "sources": "a mapping of names to sources",
    "features": "a mapping of names to feature tables",
    "keys": "a mapping such as {this_column: other_column}",
    "datasets": "a mapping of names to datasets",
    "spine": "a mapping such as {source: orders, keys: [customer], time: ordered_at}",
    "split": "a mapping such as {by: keys, train: 0.8, test: rest}",
    "label": "a mapping such as {column: is_fraud}",
    "sample": "a mapping such as {column: label, keep: {0: 0.25}}",
    "keep": "a mapping of values to shares such as {0: 0.25}",
    "export": "a mapping such as {format: parquet}",
    "shuffle": "true, false, or a mapping such as {seed: 7}",
    "select": "a mapping such as {missing: 0.9, correlation: 0.95}",
    "window": "a mapping such as {closed: left, delay: 0s}",
    "availability": "a mapping such as {interval: 1d, delay: 2h}",
    "chunks": "a mapping such as {time: 100, lat: 64, lon: 64}",
    "shards": "a mapping such as {time: 400, lat: 256, lon: 256}",
    "patch": "a mapping such as {lat: 64, lon: 64, time: 8}",
    "stride": "a mapping such as {lat: 32, lon: 32, time: 8}",
    "block": "a mapping such as {lat: 128, lon: 128}",
    "labels": "source.variable, or a mapping such as {source: land, variable: zone}",
    "at": "a mapping such as {lat: latitude, lon: longitude}",
    "cluster": "a mapping such as {class: dask_jobqueue.SLURMCluster, queue: batch}",
    "adaptive": "a mapping such as {minimum: 0, maximum: 40}",
    "tls": "a mapping such as {ca: ca.pem, cert: me.pem, key: me-key.pem}",
    "row_count": "a mapping such as {min: 1, max: 1000}",
}


class Finding(NamedTuple):
    """A mistake and its place in the document.

    Parameters
    ----------
    path
        The value, or the key with ``at_key``.
    other
        A second place that the message is about; it is put where the message has ``{other}``.
    missing
        Name of the required field that the mapping at ``path`` does not have.
    """

    path: Path
    message: str
    at_key: bool = False
    other: Path | None = None
    missing: str = ""


def findings(error: ValidationError) -> Iterator[Finding]:
    """Every mistake that pydantic found."""
    for detail in error.errors(include_url=False):
        loc = detail["loc"]
        at_key = "[key]" in loc
        path = tuple(step for step in loc if isinstance(step, int) or not step.startswith(("<", "[")))
        if loc and loc[0] == GRIDS:
            path = ("features", *path)
        kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
        if kind == "missing":
            yield _missing(path, grid=loc[0] == GRIDS)
        elif kind == "extra_forbidden":
            yield _unknown(path, grid=loc[0] == GRIDS)
        elif kind == "value_error" and isinstance(context["error"], Misplaced):
            wrong = context["error"]
            yield Finding((*path, *wrong.place), wrong.message, wrong.at_key)
        elif kind == "value_error":
            yield Finding(path, str(context["error"]), at_key)
        else:
            yield Finding(path, _message(kind, given, context, path, detail["msg"]), at_key)


def _model_around(path: Path, grid: bool) -> type[BaseModel] | None:
    """The model of the mapping that a field is in; grids are kept beside the other features."""
    return model_at(Project, (GRIDS, *path[1:-1]) if grid else path[:-1])


def _missing(path: Path, *, grid: bool) -> Finding:
    name = path[-1]
    if isinstance(name, int):
        return Finding(path[:-1], "must be two values, [least, greatest]; either may be null.")
    if name == "format":
        return Finding(
            path[:-1],
            "the path's suffix does not tell the format. Add format: parquet, csv, json, delta or arrow "
            "(N-d data: zarr, netcdf, hdf5, grib, tiff, dicom or nifti).",
            missing="format",
        )
    model = _model_around(path, grid)
    field = (
        next((f for n, f in model.model_fields.items() if (f.alias or n) == name), None) if model else None
    )
    about = f" ({field.description.rstrip('.').strip()})" if field is not None and field.description else ""
    return Finding(path[:-1], f"missing field {name!r}{about}.", missing=name)


def _unknown(path: Path, *, grid: bool) -> Finding:
    name = path[-1]
    model = _model_around(path, grid)
    if model is None:
        return Finding(path, f"unknown field {name!r}.", at_key=True)
    if model is GridFeature and name in Feature.model_fields:
        advice = "Write it as a step: steps: [{derive: …}]." if name == "derive" else "Remove it."
        message = (
            f"{name!r} belongs to feature tables. What has {_alternatives(sorted(GRID_FIELDS))}, or N-d data as its "
            f"source, is a grid. {advice}"
        )
        return Finding(path, message, at_key=True)
    known = [field.alias or key for key, field in model.model_fields.items()]
    known = [*(n for n in known if not n.startswith("<")), *(FILE_FIELDS if model is Spine else ())]
    known += sorted(GRID_FIELDS) if model is Feature else ()
    return Finding(
        path, f"unknown field {name!r}. {did_you_mean(name, known, aliases=_FIELD_ALIASES)}", at_key=True
    )


def _got(given: Any) -> str:
    if given is None:
        return "it is empty"
    if isinstance(given, dict):
        return "got a mapping"
    if isinstance(given, list | tuple):
        return "got a list"
    if isinstance(given, bool):
        return f"got {str(given).lower()}"
    return f"got {given!r}"


def _alternatives(names: list[str]) -> str:
    words = ["true" if name == "True" else name for name in names]
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _hint(given: Any, names: list[str]) -> str:
    found = closest(given, names) if isinstance(given, str) else None
    return f" Did you mean {found!r}?" if found else ""


def _message(kind: str, given: Any, context: Mapping[str, Any], path: Path, fallback: str) -> str:
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if kind == "literal_error":
        names = [n.strip("'") for n in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return f"must be {_alternatives(names)}; {_got(given)}.{_hint(given, names)}"
    if kind == "at_form":
        return f"{fallback}; {_got(given)}."
    if kind == "string_type":
        quotes = f" Put it in quotes: '{given}'." if isinstance(given, int | float) else ""
        return f"must be text; {_got(given)}.{quotes}"
    if kind in ("too_short", "too_long"):
        if name in ("row_count", "clip") or (len(path) > 1 and path[-2] == "clip"):
            return "must be two values, [least, greatest]; either may be null."
        return f"has too few or too many items; {_got(given)}."
    wanted = {
        "int_type": "a whole number",
        "float_type": "a number",
        "bool_type": "true or false",
        "tuple_type": "a list",
        "dict_type": _example(path),
        "model_type": _example(path),
        "model_attributes_type": _example(path),
        "less_than_equal": f"at most {context.get('le')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "string_too_short": "one character or more",
        "string_too_long": f"at most {context.get('max_length')} character",
    }.get(kind)
    return f"must be {wanted}; {_got(given)}." if wanted else f"{fallback}; {_got(given)}."


def _example(path: Path) -> str:
    """What is wanted instead of something that is no mapping."""
    if len(path) == 4 and path[0] == "datasets" and path[2] == "features":
        return "the name of a feature table, or a mapping such as {table: clicks, prefix: c_}"
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    return _EXAMPLES.get(name, "a mapping") if len(path) != 2 else "a mapping"


def model_at(root: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model that describes the mapping at a path; None if no model does."""
    types: list[Any] = [root]
    for step in path:
        below: list[Any] = []
        for model in _models(types):
            fields = {f.alias or n: f for n, f in model.model_fields.items()}
            if step in fields:
                below.append(fields[str(step)].annotation)
            else:  # what is written beside the others, but kept in a field of its own
                hidden = [f.annotation for name, f in fields.items() if name.startswith("<")]
                below += [
                    m.model_fields[str(step)].annotation for m in _models(hidden) if step in m.model_fields
                ]
        if not below:  # an item of a list or a value of a mapping: the type's last argument
            below = [get_args(t)[1] if _is_dict(t) else get_args(t)[0] for t in _containers(types)]
        types = below
    return next(iter(_models(types)), None)


def _is_dict(type_: Any) -> bool:
    return getattr(type_, "__origin__", None) is dict


def _leaves(types: list[Any]) -> Iterator[Any]:
    """Types without Annotated and unions around them."""
    for type_ in types:
        if hasattr(type_, "__metadata__"):
            yield from _leaves([type_.__origin__])
        elif getattr(type_, "__origin__", None) not in (dict, tuple) and get_args(type_):
            yield from _leaves([one for one in get_args(type_) if not isinstance(one, str)])
        else:
            yield type_


def _models(types: list[Any]) -> list[type[BaseModel]]:
    return [t for t in _leaves(types) if isinstance(t, type) and issubclass(t, BaseModel)]


def _containers(types: list[Any]) -> list[Any]:
    return [t for t in _leaves(types) if getattr(t, "__origin__", None) in (dict, tuple)]
