"""What a compiled dataset is: a spine, and what is asked of other inputs for each of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from featureflow.core.expressions import compile_condition
from featureflow.core.types import to_polars
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import Derived, Feature, Input, Lookup
from featureflow.plan.patches import PatchSpine
from featureflow.spec.models import Dataset


@dataclass(frozen=True, slots=True)
class WindowJoin:
    """Aggregates of another input's events, in windows of the spine's rows.

    Parameters
    ----------
    right
        The events.
    left_keys, right_keys
        The spine's columns, and the events' that they equal.
    features
        What to compute; their names are those of the result.
    shift_us
        Windows are those of the row's time plus this: a label's window, which looks forward, is the trailing window
        of the time at which it ends.
    finished_only
        Null where a window ends after the last event that there is (labels).
    carried
        Columns that the exchange files hold: all that the events' own feature table needs, so that both use them.
    """

    right: Input
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    features: tuple[Feature, ...]
    carried: tuple[str, ...]
    shift_us: int = 0
    finished_only: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns of the events that are read, in the input's order."""
        found = {*self.right_keys, *self.right.order, *([self.right.time] if self.right.time else [])}
        for feature in self.features:
            series = feature.series
            found.update(name for name in (series.column, series.by, feature.other) if name)
            if series.where:
                found.update(compile_condition(series.where, self.right.columns).columns)
        return tuple(name for name in self.right.columns if name in found)

    @property
    def reach_us(self) -> int | None:
        """How far before the shifted time a window can begin; None for ``lifetime``."""
        reaches = [feature.window.reach_us for feature in self.features]
        return None if None in reaches else max((r for r in reaches if r is not None), default=0)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the results."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True, slots=True)
class Use:
    """Features of one table at the spine's rows.

    Its windows, look-ups and derived columns live in a namespace of their own, with the table's names: ``carried``
    are the spine's columns that go into it (local name, spine's name), ``outputs`` what comes out (local, final).
    """

    table: str
    windows: WindowJoin | None
    lookups: tuple[Lookup | GridLookup, ...]
    derived: tuple[Derived, ...]
    carried: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LabelNode:
    """A label: an aggregate of later events, or a column that is there; ``derived`` makes its final value."""

    name: str
    windows: WindowJoin | None
    column: str | None
    derived: Derived | None
    reach_us: int


@dataclass(frozen=True, slots=True)
class CompiledDataset:
    """A dataset, typed and checked.

    ``schema`` holds its raw columns in order: the spine's, features, look-ups, derived columns, labels; what splits,
    sampling and encoders add comes after them. ``features`` names those that a model may learn from. ``notices`` says
    which columns of used tables are left out and why.
    ``patches`` says what the rows hold beside their columns, if they are patches of a grid: values that stay there.
    """

    name: str
    spine: Input
    where: str | None
    keys: tuple[str, ...]
    time: str | None
    carried: tuple[str, ...]
    uses: tuple[Use, ...]
    lookups: tuple[Lookup | GridLookup, ...]
    derived: tuple[Derived, ...]
    labels: tuple[LabelNode, ...]
    features: tuple[str, ...]
    schema: pa.Schema
    lineage: dict[str, tuple[str, ...]]
    notices: tuple[str, ...]
    spec: Dataset
    definition: dict[str, Any]
    definition_hash: str
    patches: PatchSpine | None = None

    @property
    def as_input(self) -> Input:
        """The rows as checks see them."""
        columns = {f.name: to_polars(f.type) for f in self.schema if not pa.types.is_map(f.type)}
        return Input("table", self.name, columns, self.time, keys=self.keys)

    @property
    def joins(self) -> tuple[WindowJoin | Lookup | GridLookup, ...]:
        """Everything that is asked of other inputs, in order."""
        found: list[WindowJoin | Lookup | GridLookup] = []
        for use in self.uses:
            found += [*([use.windows] if use.windows else []), *use.lookups]
        found += self.lookups
        found += [label.windows for label in self.labels if label.windows]
        return tuple(found)

    @property
    def spine_columns(self) -> tuple[str, ...]:
        """Columns of the spine that are read, in its order."""
        needed = {*self.keys, *self.carried, *([self.time] if self.time else [])}
        for join in self.joins:
            needed.update(join.left_keys)
        for use in self.uses:
            needed.update(name for _, name in use.carried)
        return tuple(name for name in self.spine.columns if name in needed)
