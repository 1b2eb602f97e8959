"""Distributed feature engineering: YAML specs to point-in-time correct, versioned feature tables.

>>> import featureflow as ff
>>> project = ff.Project("configs/fraud.yaml")   # doctest: +SKIP
>>> project.build()                              # doctest: +SKIP
>>> ff.open("./store").table("card_spend").to_polars()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featureflow.api import Project
    from featureflow.core.errors import (
        CheckFailed,
        CommitConflict,
        CommitUnknown,
        ComputeError,
        CorruptionError,
        FeatureflowError,
        PlanError,
        SourceError,
        SpecError,
        TableError,
        Unreachable,
    )
    from featureflow.datasets.dataset import Dataset
    from featureflow.datasets.store import Store, open  # noqa: A004  (read as ff.open)
    from featureflow.loaders.shards import load_shards
    from featureflow.tables.table import Table

__version__ = "0.1.0"

_ERRORS = (
    *(
        "CheckFailed",
        "CommitConflict",
        "CommitUnknown",
        "ComputeError",
        "CorruptionError",
        "FeatureflowError",
    ),
    *("PlanError", "SourceError", "SpecError", "TableError", "Unreachable"),
)
#: Where each public name lives: importing the package itself loads none of it.
_HOMES = {
    "Project": "featureflow.api",
    "Dataset": "featureflow.datasets.dataset",
    "Store": "featureflow.datasets.store",
    "Table": "featureflow.tables.table",
    "open": "featureflow.datasets.store",
    "load_shards": "featureflow.loaders.shards",
    **dict.fromkeys(_ERRORS, "featureflow.core.errors"),
}

__all__ = [  # noqa: RUF022  (what people use first, then what they catch)
    "Project",
    "open",
    "Store",
    "Table",
    "Dataset",
    "load_shards",
    "FeatureflowError",
    "SpecError",
    "PlanError",
    "SourceError",
    "ComputeError",
    "CheckFailed",
    "TableError",
    "CorruptionError",
    "CommitConflict",
    "CommitUnknown",
    "Unreachable",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'featureflow' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
