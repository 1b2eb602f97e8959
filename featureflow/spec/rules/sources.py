"""Rules about one source, and about Python functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from featureflow.spec.messages import Finding
from featureflow.spec.models import Source
from featureflow.spec.names import RESERVED_PREFIXES
from featureflow.spec.paths import Path
from featureflow.spec.rules.scope import Scope

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[A-Za-z_][\w.-]*")
_CSV_OPTIONS = ("delimiter", "quote", "header", "null_values", "comment", "skip_rows", "encoding")
#: option -> formats that have it
_OPTIONS = {
    "version": ("delta",),
    "group": ("zarr", "netcdf", "hdf5", "grib"),
    "engine": ("netcdf", "hdf5"),
    "dims": ("hdf5", "tiff"),
    **dict.fromkeys(_CSV_OPTIONS, ("csv",)),
}
#: what a table can do and a grid does by a step
_STEPS = ("where", "derive", "fill", "clip", "mask")
_OF_TABLES = (
    *(
        "created",
        "sequence",
        "timezone",
        "columns",
        "missing_columns",
        "extra_columns",
        "udf",
        "deduplicate",
        "checks",
    ),
    *_STEPS,
)
_OF_GRIDS = ("chunks", "concat")


def source_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about sources and Python functions."""
    for name, source in scope.project.sources.items():
        path: Path = ("sources", name)
        yield from format_findings(path, source)
        yield from _roles(path, source)
        yield from _clip(path, source)
        yield from _shape(path, source)
        for i, column in enumerate(source.deduplicate):
            if column in source.deduplicate[:i]:
                yield Finding((*path, "deduplicate", i), f"{column!r} is there twice. Remove one.")
    for section in ("sources", "features"):
        tables: dict[str, Source] = getattr(scope.project, section)
        for name, table in tables.items():
            yield from _python((section, name), table, allowed=scope.project.allow_python)


def format_findings(path: Path, source: Source) -> Iterator[Finding]:
    """Formats that there are, with the options that they have."""
    if source.format == "delta" and len(source.path) > 1:
        yield Finding((*path, "path"), "a Delta table is one folder; got a list. Make a source for each.")
    for option in source.options.model_fields_set:
        wanted = _OPTIONS[option]
        if source.format not in wanted:
            formats = " and ".join(wanted)
            message = (
                f"{option!r} is an option of format {formats}; this source is {source.format}. Remove it."
            )
            yield Finding((*path, "options", option), message, at_key=True)


def _shape(path: Path, source: Source) -> Iterator[Finding]:
    """Fields that are for tables alone, or for N-d data alone."""
    for field in _OF_TABLES if source.is_grid else _OF_GRIDS:
        if field not in source.model_fields_set:
            continue
        if source.is_grid:
            advice = (
                f"Write it as a step of a grid: steps: [{{{field}: …}}]." if field in _STEPS else "Remove it."
            )
            message = f"{field!r} is for tables, and this source is {source.format}. {advice}"
        else:
            message = (
                f"{field!r} is for N-d data (zarr, netcdf, …); this source is {source.format}. Remove it."
            )
        yield Finding((*path, field), message, at_key=True)


def _roles(path: Path, source: Source) -> Iterator[Finding]:
    roles = {"time": source.time, "created": source.created, "sequence": source.sequence}
    for role, column in roles.items():
        if column is not None and source.mask.get(column) is not None:
            message = f"{column!r} is the {role} of this source and can't be masked."
            yield Finding((*path, "mask", column), message)
    for role in ("created", "sequence"):
        if roles[role] is not None and source.time is None:
            message = f"{role} orders rows of one time, and the source has no time. Add time:, or remove it."
            yield Finding((*path, role), message, at_key=True)
        elif roles[role] is not None and roles[role] == source.time:
            yield Finding((*path, role), f"{source.time!r} is already the time. Name another column.")
    for field in ("derive", "udf", "columns"):
        for column in getattr(source, field):
            if column.lower().startswith(RESERVED_PREFIXES):
                message = f"names that begin with {column[:4]!r} are the engine's own. Rename it."
                yield Finding((*path, field, column), message, at_key=True)
    for column in source.udf:
        if column in source.derive:
            place: Path = (*path, "derive", column)
            message = f"column {column!r} is also made by derive ({{other}}). Rename one."
            yield Finding((*path, "udf", column), message, at_key=True, other=place)


def _clip(path: Path, source: Source) -> Iterator[Finding]:
    for column, (least, greatest) in source.clip.items():
        place: Path = (*path, "clip", column)
        if least is None and greatest is None:
            yield Finding(place, "clips nothing: both ends are null. Give one, or remove it.")
        elif least is not None and greatest is not None and least > greatest:
            yield Finding(
                place, f"the least value {least} is greater than the greatest {greatest}. Swap them."
            )


def _python(path: Path, table: Source, *, allowed: bool) -> Iterator[Finding]:
    if table.udf and not allowed:
        message = (
            "Python functions are off in this project. Add allow_python: true at the top, or remove udf."
        )
        yield Finding((*path, "udf"), message, at_key=True)
    for column, udf in table.udf.items():
        if not _FUNCTION.fullmatch(udf.function):
            message = f"{udf.function!r} is not module:function, nor the name of an entry point."
            yield Finding((*path, "udf", column, "function"), message)
