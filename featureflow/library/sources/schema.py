"""One schema for all files of a source: declared, or taken from the first file, and then enforced on every other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featureflow.contracts.source import Column, FileFacts, SourceSchema, SourceSpec
from featureflow.core.errors import SourceError
from featureflow.core.types import parse_type, type_name
from featureflow.library.sources.casts import refusal

_SHOWN = 20
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})")


@dataclass(slots=True)
class _Findings:
    problems: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.problems.append(text)

    def raise_any(self, name: str) -> None:
        if not self.problems:
            return
        more = len(self.problems) - _SHOWN
        lines = [*self.problems[:_SHOWN], *([f"and {more} more."] if more > 0 else [])]
        head = f"source {name}: {len(self.problems)} file(s) or column(s) do not have the source's schema:"
        raise SourceError("\n  ".join([head, *lines]))


def declared_types(spec: SourceSpec) -> dict[str, tuple[str, bool]]:
    """Type and optionality by declared column.

    Raises
    ------
    SourceError
        If a type name is none.
    """
    types = {}
    for name, text in spec.columns.items():
        optional = text.strip().endswith("?")
        kind = text.strip().removesuffix("?")
        try:
            arrow = parse_type(kind)
        except ValueError as error:
            raise SourceError(f"source {spec.name}: columns.{name}: {error}") from None
        types[name] = (type_name(arrow), optional)
    return types


def check_schemas(
    spec: SourceSpec, facts: Sequence[FileFacts], log: Mapping[str, str] | None = None
) -> SourceSchema:
    """Find the schema of a source and check every file against it, without reading data.

    Parameters
    ----------
    facts
        Of every file, sorted by path; the first one gives the types that are not declared.
    log
        Types by column from a table's log (Delta): it rules instead of the first file, and files may lack columns
        and have narrower types.

    Raises
    ------
    SourceError
        With every mistake (the first 20 are shown): file, column, both types and what to do.
    """
    declared = declared_types(spec)
    first = facts[0]
    reference = dict(log) if log is not None else dict(first.fields)
    for each in facts:
        for name, kind in each.fields:
            if name in declared or spec.nulls_for_missing:
                reference.setdefault(name, kind)
    hive = _hive_columns(spec, facts, reference if log is None else {})
    hive = {name: log[name] for name in hive} if log is not None else hive
    findings = _Findings()
    for name in declared:
        if name not in reference and name not in hive:
            findings.add(f"columns.{name}: is in no file. Known: {', '.join([*reference, *hive])}.")
    checked: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for each in facts:
        if each.fields not in checked:
            checked[each.fields] = _differences(
                dict(each.fields), reference, declared, log, first.file.path, set(hive), spec
            )
        for text in checked[each.fields]:
            findings.add(f"{each.file.path}: {text}")
    columns, may_lack = [], spec.nulls_for_missing
    for name, stored in {**reference, **hive}.items():
        wanted, optional = declared.get(name, (_read_as(stored), False))
        if name in hive and (why := refusal("string", wanted)):
            findings.add(f"columns.{name}: {why}.")
        if wanted == "date" and name in (spec.time, spec.created):
            wanted = "timestamp"
        columns.append(Column(name, stored, wanted, may_lack or optional or log is not None, name in hive))
    findings.raise_any(spec.name)
    return SourceSchema(tuple(columns))


def _read_as(stored: str) -> str:
    """Type after reading without a declaration: all times are instants."""
    return "timestamp" if stored.startswith("timestamp") else stored


def _differences(
    fields: Mapping[str, str],
    reference: Mapping[str, str],
    declared: Mapping[str, tuple[str, bool]],
    log: Mapping[str, str] | None,
    first: str,
    hive: set[str],
    spec: SourceSpec,
) -> list[str]:
    found = []
    where = "in the table's log" if log is not None else f"in {first}"
    for name, expected in reference.items():
        given = fields.get(name)
        if given is None:
            if log is None and not spec.nulls_for_missing and not declared.get(name, ("", False))[1]:
                found.append(
                    f"column {name!r} ({expected}) is missing. Add it to the file, or let it be null with "
                    "`missing_columns: null`."
                )
        elif name in declared:
            if why := refusal(given, declared[name][0]):
                found.append(
                    f"column {name!r} is {given}, but `columns:` declares {declared[name][0]}: {why}."
                )
        elif given != expected and not (log is not None and refusal(given, expected) is None):
            found.append(
                f"column {name!r} is {given}, but {expected} {where}. Repair the file, or declare one type for all: "
                f"`columns: {{{name}: {_wider(given, expected)}}}`."
            )
    for name, given in fields.items():
        if name not in reference and name not in hive and not spec.ignore_extra:
            found.append(
                f"column {name!r} ({given}) is extra: it is not {where}. Remove it, leave it out with "
                "`extra_columns: ignore`, or read it as null where it is missing with `missing_columns: null`."
            )
    return found


def _wider(one: str, other: str) -> str:
    """A type that both can be read as, for the hint."""
    for kind in (one, other, "int64", "float64", "timestamp", "string"):
        if refusal(one, kind) is None and refusal(other, kind) is None and kind != "null":
            return kind
    return "string"


def _hive_columns(
    spec: SourceSpec, facts: Sequence[FileFacts], reference: Mapping[str, str]
) -> dict[str, str]:
    """Type by column that only folder names hold; the file's own column of the same name wins."""
    keys = list(facts[0].file.hive)
    for each in facts:
        if list(each.file.hive) != keys:
            raise SourceError(
                f"source {spec.name}: {each.file.path} lies in folders of {list(each.file.hive)}, but "
                f"{facts[0].file.path} in folders of {keys}. All files of a source need the same key=value folders."
            )
    types = {}
    for key in keys:
        values = [each.file.hive[key] for each in facts]
        whole = all(value is None or _INTEGER.fullmatch(value) for value in values)
        some = any(value is not None for value in values)
        if key not in reference:
            types[key] = "int64" if whole and some else "string"
    return types
