"""The definition of a table as a plain value: what its hash is made of.

In it is everything that can change a value and nothing else. Not in it: descriptions, owners, tags, checks that only
warn or fail, and where files are, so that the hash is the same on every machine and for every user.
"""

from __future__ import annotations

import os
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel

from featureflow.core.durations import Duration
from featureflow.core.fingerprints import fingerprint
from featureflow.plan.functions import source_digest
from featureflow.spec.models import Feature, Project, Source

_METADATA = {"description", "owner", "tags", "checks"}
_PLACES = {"path", "format"}


def table_definition(
    project: Project, name: str, upstream: dict[str, str], folder: str = ""
) -> dict[str, Any]:
    """Write a table's definition, with those of its sources and the hashes of the tables that it builds on.

    ``folder`` is where modules of Python functions are looked for first; it is no part of the definition.
    """
    spec = project.features[name]
    inputs = dict.fromkeys([spec.source, *(lookup.from_ for lookup in spec.lookup)])
    return {
        "table": _without(spec, _METADATA),
        "quarantine": _quarantine(spec),
        "python": _python(spec, folder),
        "sources": {
            used: source_definition(project.sources[used], folder)
            for used in inputs
            if used in project.sources
        },
        "tables": {used: upstream[used] for used in inputs if used in upstream},
    }


def dataset_definition(
    project: Project, name: str, used: tuple[str, ...], upstream: dict[str, str], folder: str = ""
) -> dict[str, Any]:
    """Write a dataset's definition; how it is exported is no part of it."""
    spec = project.datasets[name]
    found: dict[str, Any] = {
        "dataset": _without(spec, _METADATA | {"export"}),
        "sources": {
            one: source_definition(project.sources[one], folder) for one in used if one in project.sources
        },
        "tables": {one: upstream[one] for one in used if one in upstream},
    }
    if spec.spine.files is not None:  # where its files are is not what they mean
        found["dataset"]["spine"] = _without(spec.spine, {"files"})
        found["sources"]["spine"] = source_definition(spec.spine.files, folder)
    return found


def source_definition(source: Source, folder: str = "") -> dict[str, Any]:
    """Write a source's definition: its row steps, not where its files are."""
    definition = {
        "steps": _without(source, _METADATA | _PLACES),
        "quarantine": _quarantine(source),
        "python": _python(source, folder),
    }
    if "sha256" in source.mask.values():
        # the salt changes values; its hash is enough to tell that it changed
        definition["salt"] = fingerprint(["salt", os.environ.get("FEATUREFLOW_SALT", "")])
    return definition


def without_metadata(model: BaseModel) -> dict[str, Any]:
    """Write everything of a table or grid that can change a value, and differs from the default."""
    return _without(model, _METADATA)


def _without(model: BaseModel, names: set[str]) -> dict[str, Any]:
    """Write what differs from the defaults.

    So a default that is spelt out, or a later release with one more option, is no other definition.
    """
    found = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        # an explicit `fill_empty: null` is not the same as none
        written = name == "fill_empty" and name in model.model_fields_set
        if name not in names and (
            written or field.is_required() or value != field.get_default(call_default_factory=True)
        ):
            found[name] = plain(value)
    return found


def _quarantine(spec: Feature | Source) -> list[Any]:
    return [
        [check.kind, list(check.columns), plain(check.value), check.where]
        for check in spec.each_check
        if check.on_fail == "quarantine"
    ]


def _python(spec: Feature | Source, folder: str) -> dict[str, str]:
    return {name: source_digest(udf.function, folder) for name, udf in spec.udf.items()}


def plain(value: Any) -> Any:
    """Turn a value of a spec into lists, strings, numbers, booleans and None; mappings keep their order."""
    if isinstance(value, Duration):
        return value.text
    if isinstance(value, BaseModel):
        return _without(value, set())
    if isinstance(value, dict):
        return [[key, plain(item)] for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if hasattr(value, "name") and hasattr(value, "params"):  # an op
        return [value.name, plain(dict(value.params))]
    return str(value)
