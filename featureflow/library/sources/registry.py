"""The formats that a source can have, by name and by suffix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from featureflow.contracts.source import Format
from featureflow.core.errors import SourceError
from featureflow.library.sources.arrow import Arrow
from featureflow.library.sources.csv import Csv
from featureflow.library.sources.json_lines import JsonLines
from featureflow.library.sources.parquet import Parquet

#: Adding a format: one class in one file, one line here.
FORMATS: Mapping[str, Format] = {f.name: f for f in (Parquet(), Csv(), JsonLines(), Arrow())}
ALIASES = {
    "jsonlines": "json",
    "jsonl": "json",
    "ndjson": "json",
    "json_lines": "json",
    "tsv": "csv",
    "ipc": "arrow",
}
_COMPRESSED = (".gz", ".zst", ".bz2", ".lz4")


def format_of(path: str) -> str | None:
    """Name of the format that a path's suffix says; None if it says none (a folder).

    Examples
    --------
    >>> format_of("s3://lake/t/*.parquet"), format_of("a/b.jsonl.gz"), format_of("lake/")
    ('parquet', 'json', None)
    """
    name = path.lower().rpartition("/")[2]
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    for each in FORMATS.values():
        if name.endswith(each.suffixes):
            return each.name
    return None


def format_named(name: str, options: Mapping[str, Any] | None = None) -> Format:
    """Look a format up by the name that a spec gives it, with its options; a Delta table's files are Parquet.

    Raises
    ------
    SourceError
        If there is none of that name; lists those that there are.
    """
    name = ALIASES.get(name, name)
    found = FORMATS.get("parquet" if name == "delta" else name)
    if found is None:
        raise SourceError(f"format {name!r} is not known. Known: {', '.join(sorted([*FORMATS, 'delta']))}.")
    if options:
        known: set[str] = set()
        if dataclasses.is_dataclass(found):
            known = {field.name for field in dataclasses.fields(found)}
        if unknown := sorted(set(options) - known):
            raise SourceError(
                f"format {name} has no option {unknown[0]!r}. Known: {', '.join(sorted(known)) or 'none'}."
            )
        found = dataclasses.replace(found, **options)  # type: ignore[type-var]
    return found
