"""The typed spec: one frozen model for each section of the YAML, with the YAML's own names.

A name that Python reserves ends in an underscore here: ``from_``, ``as_``. What is not given has its default, so
that code that reads a spec never asks for presence. Lists of YAML are tuples.

After :func:`featureflow.spec.load.load_project` these also hold: every ``source`` and ``from`` names something that
exists, tables have no cycles, ``Lookup.keys`` is never empty (but for look-ups of grids), ``Source.format`` is the
real format, and a feature of a source without time has ``partition: none``. The one ``features:`` of the YAML is
split: ``Project.features`` are the tables, ``Project.grids`` the grids; they share one set of names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from featureflow.spec.checks import Check, CheckEntry, OnFail
from featureflow.spec.datasets import Dataset
from featureflow.spec.features import (
    AggregateEntry,
    Availability,
    Every,
    Feature,
    Lookup,
    WindowDefaults,
    WindowRule,
)
from featureflow.spec.fields import AsTuple, SpecModel, TableName, Text, Url
from featureflow.spec.formats import GRID_FORMATS, format_of
from featureflow.spec.grids import GridFeature, GridStepSpec
from featureflow.spec.ops import Op
from featureflow.spec.sources import Source, SourceOptions, Udf
from featureflow.spec.targets import Adaptive, Cluster, Target, Tls

__all__ = [
    "Adaptive",
    "AggregateEntry",
    "Availability",
    "Check",
    "CheckEntry",
    "Cluster",
    "Dataset",
    "Every",
    "Feature",
    "GridFeature",
    "GridStepSpec",
    "Lookup",
    "OnFail",
    "Op",
    "Project",
    "Source",
    "SourceOptions",
    "SpecTest",
    "Target",
    "Tls",
    "Udf",
    "WindowDefaults",
    "WindowRule",
]

#: where grids are kept: angle brackets, so that no document can have it
GRIDS = "<grids>"
#: what only grids have
GRID_FIELDS = frozenset(("variables", "steps", "chunks", "shards"))
#: what only tables have
TABLE_FIELDS = frozenset(
    field.alias or name
    for name, field in Feature.model_fields.items()
    if name not in GridFeature.model_fields
)


class SpecTest(SpecModel):
    """An example that the author promises: rows given to sources, rows expected of tables and datasets."""

    name: Text
    given: dict[str, Annotated[tuple[dict[str, Any], ...], AsTuple()]] = Field(
        description="Source to its rows."
    )
    expect: dict[str, Annotated[tuple[dict[str, Any], ...], AsTuple()]] = Field(
        description="Feature table or dataset to rows that it must have; columns that are left out may have any value."
    )


class Project(SpecModel):
    """A whole spec."""

    featureflow: Literal[1] = Field(default=1, description="Version of this language.")
    project: Text = Field(default="default", description="Name of the project.")
    description: str | None = None
    store: Url = Field(default="./store", description="Folder or any fsspec URL where tables are kept.")
    allow_python: bool = Field(default=False, description="Whether `udf:` may run Python functions.")
    targets: dict[TableName, Target] = Field(default_factory=dict)
    sources: dict[TableName, Source] = Field(default_factory=dict)
    features: dict[TableName, Feature] = Field(default_factory=dict)
    grids: dict[TableName, GridFeature] = Field(
        default_factory=dict,
        alias="<grids>",  # GRIDS; a checker of types wants the text itself
        description="Those of `features:` that are grids.",
    )
    datasets: dict[TableName, Dataset] = Field(default_factory=dict)
    tests: Annotated[tuple[SpecTest, ...], AsTuple()] = ()

    @model_validator(mode="before")
    @classmethod
    def _apart(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("features"), dict) or GRIDS in given:
            return given
        grids = grids_among(given)
        tables = {name: table for name, table in given["features"].items() if name not in grids}
        return {**given, "features": tables, GRIDS: grids} if grids else given

    @model_serializer(mode="wrap")
    def _together(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        made: dict[str, Any] = handler(self)
        grids = made.pop(GRIDS, None) or made.pop("grids", None) or {}
        return {**made, "features": {**made["features"], **grids}}


def grids_among(document: dict[str, Any]) -> dict[str, Any]:
    """Grids among the features of a document: what has a field that only grids have, or reads N-d data or a grid.

    A grid of zones has rows: what reads one, and has a field that only tables have, is a table.
    """
    features, sources = document["features"], document.get("sources")
    arrays = (
        {name for name, given in sources.items() if _holds_arrays(given)}
        if isinstance(sources, dict)
        else set()
    )

    def is_grid(name: Any) -> bool:
        seen: set[str] = set()
        while isinstance(name, str) and name not in seen:
            seen.add(name)
            given = features.get(name)
            if not isinstance(given, dict):
                return name in arrays
            if not GRID_FIELDS.isdisjoint(given):
                return True
            name = given.get("source")
            reads = features.get(name) if isinstance(name, str) else None
            if not TABLE_FIELDS.isdisjoint(given) and _ends_in_zones(reads):
                return False
        return False

    return {name: given for name, given in features.items() if isinstance(given, dict) and is_grid(name)}


def _ends_in_zones(given: Any) -> bool:
    steps = given.get("steps") if isinstance(given, dict) else None
    last = steps[-1] if isinstance(steps, list) and steps else steps
    return isinstance(last, dict) and "zonal" in last


def _holds_arrays(given: Any) -> bool:
    return isinstance(given, dict) and (given.get("format") or format_of(given.get("path"))) in GRID_FORMATS
