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
_GRID_FORMATS = ("zarr", "netcdf")


def source_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about sources and Python functions."""
    for name, source in scope.project.sources.items():
        path: Path = ("sources", name)
        yield from format_findings(path, source)
        yield from _roles(path, source)
        yield from _clip(path, source)
        for i, column in enumerate(source.deduplicate):
            if column in source.deduplicate[:i]:
                yield Finding((*path, "deduplicate", i), f"{column!r} is there twice. Remove one.")
    for section in ("sources", "features"):
        tables: dict[str, Source] = getattr(scope.project, section)
        for name, table in tables.items():
            yield from _python((section, name), table, allowed=scope.project.allow_python)


def format_findings(path: Path, source: Source) -> Iterator[Finding]:
    """Formats that there are, with the options that they have."""
    if source.format in _GRID_FORMATS:
        place = (*path, "format") if "format" in source.model_fields_set else (*path, "path")
        message = f"format {source.format} is for grids, which are not in this version. Use a tabular format."
        yield Finding(place, message)
    if source.format == "delta" and len(source.path) > 1:
        yield Finding((*path, "path"), "a Delta table is one folder; got a list. Make a source for each.")
    for option in source.options.model_fields_set:
        wanted = "csv" if option in _CSV_OPTIONS else "delta"
        if source.format != wanted:
            message = (
                f"{option!r} is an option of format {wanted}; this source is {source.format}. Remove it."
            )
            yield Finding((*path, "options", option), message, at_key=True)


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
