"""The typed spec: one frozen model for each section of the YAML, with the YAML's own names.

A name that Python reserves ends in an underscore here: ``from_``, ``as_``. What is not given has its default, so
that code that reads a spec never asks for presence. Lists of YAML are tuples.

After :func:`featureflow.spec.load.load_project` these also hold: every ``source`` and ``from`` names something that
exists, tables have no cycles, ``Lookup.keys`` is never empty, ``Source.format`` is the real format, and a feature of
a source without time has ``partition: none``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

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
    datasets: dict[TableName, Dataset] = Field(default_factory=dict)
    tests: Annotated[tuple[SpecTest, ...], AsTuple()] = ()
