"""What the columns of a stored version come from, those that splitting, weighing and encoding added among them."""

from __future__ import annotations

import json
from typing import Any

from featureflow.core.errors import TableError
from featureflow.core.roles import Roles
from featureflow.observe.datasets import deciding_columns
from featureflow.spec.splits import Split
from featureflow.spec.suggest import did_you_mean
from featureflow.tables.table import Table


def origins_of(table: Table, column: str) -> tuple[str, ...]:
    """Input columns that a column of a table or dataset was computed from, as ``source.column``.

    Parameters
    ----------
    table
        A stored version of either kind.
    column
        As stored, or, of a dataset, as a model gets it.

    Raises
    ------
    TableError
        If there is no such column, or its origin was not recorded.

    Notes
    -----
    A split comes from what decides it (time, keys, group), a weight from the column whose values are sampled, and an
    encoded column from the raw one; from the label, too, if it is encoded by its target.
    """
    recorded = table.record.get("lineage") or {}
    if column in recorded and column not in table.schema.names:  # values of patches, which stay in their grid
        return tuple(recorded[column])
    if column in recorded or "dataset" not in table.record:
        return tuple(table.lineage(column))
    added = _added(table)
    if column not in added:
        known = list(dict.fromkeys([*table.schema.names, *added]))
        raise TableError(f"{table.name}@{table.version}: no column {column!r}. {did_you_mean(column, known)}")
    return tuple(dict.fromkeys(origin for name in added[column] for origin in recorded.get(name, ())))


def _added(table: Table) -> dict[str, tuple[str, ...]]:
    """Columns that were added after the rows were put together, with the columns of the rows that they come from."""
    found = table.record["dataset"]
    roles, spec = Roles.from_json(found["roles"]), table.definition["dataset"]
    added: dict[str, tuple[str, ...]] = {}
    if roles.split is not None:
        added[roles.split] = tuple(
            deciding_columns(Split.model_validate(spec["split"]), roles.keys, roles.time)
        )
    if roles.fold is not None:
        added[roles.fold] = added.get(roles.split or "", ())
    if roles.weight is not None:
        added[roles.weight] = (spec["sample"]["column"],)
    if found.get("encoder") is not None:
        added.update(_encoded(json.loads(found["encoder"])))
    return added


def _encoded(encoder: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    from featureflow.datasets.encoding import SUFFIX
    from featureflow.datasets.fitted import Fitted

    made: dict[str, tuple[str, ...]] = {}
    for chain in Fitted.from_json(encoder["fitted"]).chains:
        label = [str(chain.target[1].label)] if chain.target is not None else []
        for output in chain.outputs():
            made[output.name] = made[f"{output.name}{SUFFIX}"] = (chain.column, *label)
    return made
