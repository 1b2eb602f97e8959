"""Look at a source before the graph is built: its files, their schemas and times, and the reader for them.

Footers are all that is read of Parquet, Delta and Arrow files. What was found is kept on scratch by path, size and
version of the file, so that the next plan opens new files only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from featureflow.contracts.source import FileFacts, SourceSpec
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import is_local, write_atomic
from featureflow.core.types import parse_type, to_polars
from featureflow.library.sources.inspection import facts_key, inspect_source
from featureflow.library.sources.reader import SourceReader
from featureflow.plan.definition import source_definition
from featureflow.plan.nodes import Derived, Input
from featureflow.spec.models import Source


@dataclass(frozen=True, slots=True)
class ScannedSource:
    """A source with its files' facts and a reader; ``id`` names everything about how its rows are made."""

    input: Input
    facts: tuple[FileFacts, ...]
    reader: SourceReader
    udfs: tuple[Derived, ...]
    id: str
    delta_version: int | None = None


def scan_source(name: str, source: Source, folder: str, scratch: str) -> ScannedSource:
    """Find a source's files, compare their schemas and prepare to read them.

    Parameters
    ----------
    folder
        Where relative paths start: the spec's folder.
    scratch
        Folder for what is kept between plans.

    Raises
    ------
    SourceError
        If there are no files, or they do not have one schema; says which and how.
    """
    spec = source_spec(name, source, folder)
    cache = os.path.join(scratch, "facts", f"{fingerprint([list(spec.path), facts_key(spec)])}.jsonl")
    known = known_facts(cache)
    inspected = inspect_source(spec, known)
    if {(f.file.path, f.file.size, f.file.version) for f in inspected.facts} != set(known):
        write_atomic(cache, packed_facts(inspected.facts), durable=False)
    reader = SourceReader(spec, inspected.schema, inspected.format)
    columns: dict[str, pl.DataType] = dict(reader.output_schema)
    home = os.path.abspath(folder)
    udfs = tuple(
        Derived(
            column,
            None,
            udf.function,
            udf.inputs,
            tuple(sorted(udf.params.items())),
            to_polars(parse_type(udf.type)),
            home,
        )
        for column, udf in source.udf.items()
    )
    reader.problems.extend(_function_problems(reader, udfs))
    columns.update((udf.name, udf.dtype) for udf in udfs if udf.dtype is not None)
    found = Input("source", name, columns, source.time, source.created, source.sequence)
    identity = fingerprint([source_definition(source, home), inspected.schema.to_json()])
    return ScannedSource(found, inspected.facts, reader, udfs, identity, inspected.delta_version)


def _function_problems(reader: SourceReader, udfs: tuple[Derived, ...]) -> list[tuple[str, str]]:
    """Inputs that are not there, and results that hide a column; a function may use the results of earlier ones."""
    known = [*reader.steps.raw, *reader.steps.derive]
    found = []
    for udf in udfs:
        missing = [name for name in udf.inputs if name not in known]
        if missing:
            text = f"there is no column {missing[0]!r}. Known: {', '.join(known)}."
            found.append((f"udf.{udf.name}.inputs", text))
        if udf.name in known:
            text = f"there is a column {udf.name!r} already; give the result its own name."
            found.append((f"udf.{udf.name}", text))
        known.append(udf.name)
    return found


def source_spec(name: str, source: Source, folder: str) -> SourceSpec:
    """Translate the YAML's model into what the sources shelf takes, with paths resolved."""
    paths = tuple(
        path if "://" in path or os.path.isabs(path) else os.path.join(folder, path) for path in source.path
    )
    return SourceSpec(
        name=name,
        path=paths,
        format=source.format,
        time=source.time,
        created=source.created,
        sequence=source.sequence,
        timezone=source.timezone,
        columns=source.columns,
        options={
            name: getattr(source.options, name)
            for name in sorted(source.options.model_fields_set - {"version"})
        },
        nulls_for_missing=source.missing_columns == "null",
        ignore_extra=source.extra_columns == "ignore",
        where=source.where,
        derive=source.derive,
        fill=source.fill,
        clip=source.clip,
        mask=source.mask,
        version=source.options.version,
    )


def packed_facts(facts: Iterable[FileFacts]) -> bytes:
    """Facts to be kept: a line for each file. Those of 100,000 files at once take half a gigabyte as text and dicts."""
    return b"".join(json.dumps(one.to_json(), separators=(",", ":")).encode() + b"\n" for one in facts)


def known_facts(path: str) -> dict[tuple[str, int, str], FileFacts]:
    """Facts of an earlier plan by (path, size, version); none if the file is not there or of another release."""
    if not is_local(path) or not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            facts = [FileFacts.from_json(json.loads(line)) for line in file]
    except (ValueError, KeyError, TypeError):
        return {}
    return {(f.file.path, f.file.size, f.file.version): f for f in facts}
