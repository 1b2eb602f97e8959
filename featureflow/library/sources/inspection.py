"""Looking at a source before planning: its files, the facts of each, and one schema for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from featureflow.contracts.source import FileFacts, SourceSchema, SourceSpec, TimeColumn
from featureflow.core.errors import SourceError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.raw_files import RawFile, list_files
from featureflow.core.storage import is_local
from featureflow.core.types import type_name
from featureflow.library.sources import delta
from featureflow.library.sources.reader import SourceReader
from featureflow.library.sources.registry import ALIASES, format_named, format_of
from featureflow.library.sources.schema import check_schemas, declared_types

_REMOTE_THREADS = 32


@dataclass(frozen=True, slots=True)
class Inspected:
    """What planning knows of a source: its files with their facts, sorted by path, and the schema of all.

    ``delta_version`` is the version that was read, None for other formats.
    """

    format: str
    facts: tuple[FileFacts, ...]
    schema: SourceSchema
    delta_version: int | None = None


def facts_key(spec: SourceSpec) -> str:
    """Fingerprint of what facts of a file depend on besides the file: a cache must not mix different ones."""
    parts = {
        "facts": 1,  # raise when what facts hold changes
        "time": spec.time,
        "timezone": spec.timezone,
        "columns": dict(spec.columns),
        "format": spec.format,
        "options": {name: str(value) for name, value in spec.options.items()},
        "derived": [spec.where, dict(spec.derive)] if spec.time in spec.derive else None,
    }
    return fingerprint(parts)


def inspect_source(
    spec: SourceSpec,
    cached: Mapping[tuple[str, int, str], FileFacts] | None = None,
    pinned: SourceSchema | None = None,
) -> Inspected:
    """List a source's files, learn their facts and check that all have one schema.

    Parameters
    ----------
    cached
        Facts of an earlier call by (path, size, version) of the file, made under the same :func:`facts_key`.
    pinned
        Schema of an earlier build: files are checked against it instead of the first file's.

    Raises
    ------
    SourceError
        If no file is there, one is damaged, or they don't have one schema.
    Unreachable
        If the store does not answer.

    Notes
    -----
    Cost: one footer for each Parquet file; CSV and JSON files are parsed once in full.
    """
    name = _find_format(spec)
    log: dict[str, str] | None = None
    version = None
    if name == "delta":
        files, delta_schema, _, version = delta.snapshot(spec.path[0], spec.version)
        log = {field.name: type_name(field.type) for field in delta_schema}
        if not files:
            return Inspected(name, (), _empty_delta(spec, log), version)
    else:
        files = list_files(spec.path)
    cached = cached or {}
    facts = _all_facts(spec, name, files, cached, pinned)
    if pinned is not None and log is None:
        schema = check_against(spec, facts, pinned)
    else:
        schema = check_schemas(spec, facts, log)
    if spec.time is not None and spec.time in spec.derive:
        facts = _with_derived_times(spec, name, facts, schema, cached)
    return Inspected(name, facts, schema, version)


def _with_derived_times(
    spec: SourceSpec,
    name: str,
    facts: tuple[FileFacts, ...],
    schema: SourceSchema,
    cached: Mapping[tuple[str, int, str], FileFacts],
) -> tuple[FileFacts, ...]:
    """Compute a derived event time to learn its range; no footer knows it, so the files are read."""
    reader = SourceReader(spec, schema, name)
    if spec.time not in reader.output_schema:
        return facts  # its expression is wrong, which is reported with all other mistakes of the spec
    known = {(f.file.path, f.file.size, f.file.version) for f in facts} & set(cached)
    return tuple(
        each
        if (each.file.path, each.file.size, each.file.version) in known
        else replace(each, groups=tuple(reader.timed(each, group) for group in each.groups))
        for each in facts
    )


def check_against(spec: SourceSpec, facts: Sequence[FileFacts], pinned: SourceSchema) -> SourceSchema:
    """Check files against the schema of an earlier build; a stand-in for the first file carries it."""
    fields = tuple((c.name, c.stored) for c in pinned.columns if not c.hive)
    hive = {c.name: "0" if c.type == "int64" else "a" for c in pinned.columns if c.hive}
    first = FileFacts(RawFile("the last build", 0, "", dict(hive)), fields, 0, ())
    return check_schemas(spec, [first, *facts])


def _empty_delta(spec: SourceSpec, log: Mapping[str, str]) -> SourceSchema:
    nothing = FileFacts(RawFile(spec.path[0], 0, ""), (), 0, ())
    return check_schemas(spec, [nothing], log)


def _find_format(spec: SourceSpec) -> str:
    if spec.format is not None:
        name = ALIASES.get(spec.format, spec.format)
        format_named(name)
        return name
    if any(delta.is_delta(path) for path in spec.path):
        return "delta"
    names = {format_of(path) for path in spec.path} - {None}
    if not names:
        names = {format_of(file.path) for file in list_files(spec.path)}
    if len(names) != 1 or None in names:
        raise SourceError(
            f"source {spec.name}: the format of {', '.join(spec.path)} can't be told from the suffix"
            f"{' (found several)' if len(names) > 1 else ''}. Write `format:`."
        )
    return str(names.pop())


def _all_facts(
    spec: SourceSpec,
    name: str,
    files: Sequence[RawFile],
    cached: Mapping[tuple[str, int, str], FileFacts],
    pinned: SourceSchema | None,
) -> tuple[FileFacts, ...]:
    kind = format_named(name, spec.options)
    declared = {column: text for column, (text, _) in declared_types(spec).items()}
    time = TimeColumn(spec.time, declared.get(spec.time), spec.timezone) if spec.time else None
    types = None if pinned is None else {c.name: c.stored for c in pinned.columns if c.name not in declared}

    def one(file: RawFile) -> FileFacts:
        known = cached.get((file.path, file.size, file.version))
        if known is not None:
            return FileFacts(file, known.fields, known.rows, known.groups)
        return kind.facts(file, time=time, declared=declared, pinned=types, timezone=spec.timezone)

    if kind.typed and all(is_local(file.path) for file in files):
        return tuple(map(one, files))  # footers are short work under the GIL: threads made them slower
    first: list[FileFacts] = []
    if not kind.typed and types is None:
        first = [one(files[0])]
        types = {column: text for column, text in first[0].fields if column not in declared}
    with ThreadPoolExecutor(_REMOTE_THREADS if not is_local(files[0].path) else 2) as threads:
        return (*first, *threads.map(one, files[len(first) :]))
