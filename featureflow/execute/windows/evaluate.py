"""Evaluate aggregates for query rows over sorted events: one pair of bounds a window, shared by all aggregations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.contracts.aggregation import Aggregation, EventColumn, Windows
from featureflow.core.errors import ComputeError
from featureflow.core.expressions import compile_condition
from featureflow.core.meter import spending, spent
from featureflow.execute.windows.arrays import booleans
from featureflow.execute.windows.keycodes import sorted_distinct
from featureflow.execute.windows.lifetime import Group, History, operation_of
from featureflow.execute.windows.sorted_rows import SortedRows, column
from featureflow.kernels.bounds import window_bounds
from featureflow.library.aggregations import make
from featureflow.plan.nodes import Feature, Series, Window


@dataclass(slots=True)
class Queries:
    """Rows to evaluate at: key k's times are ``times[offsets[k]:offsets[k + 1]]``, never decreasing."""

    offsets: NDArray[np.int64]
    times: NDArray[np.int64]


class Evaluator:
    """Evaluates features on the events of one bucket; keeps what several of them share."""

    def __init__(
        self,
        rows: SortedRows,
        queries: Queries,
        history: History | None = None,
        groups: Mapping[str, Group] | None = None,
    ) -> None:
        self._rows = rows
        self._history, self._groups = history, groups or {}
        self._lifetime: dict[Group, EventColumn] = {}
        self._events = rows.events
        self._queries = queries
        self._windows: dict[Window, Windows] = {}
        self._columns: dict[tuple[Series, str | None], EventColumn] = {}
        self._frame: pl.DataFrame | None = None

    @spending("compute:windows")
    def windows(self, window: Window) -> Windows:
        """Bounds of a window for every query; computed once."""
        if window not in self._windows:
            rows, queries = self._rows, self._queries
            lo, hi = window_bounds(
                rows.offsets,
                rows.times,
                queries.offsets,
                queries.times,
                length=window.length_us,
                closed=window.closed,
                delay=window.delay_us,
                tail_hop=window.tail_hop_us,
            )
            self._windows[window] = Windows(lo, hi, queries.times, window.length_us)
        return self._windows[window]

    def features(self, features: tuple[Feature, ...]) -> dict[str, pa.Array]:
        """Evaluate features; the result keeps their order, the work goes window by window to share it."""
        found = {}
        for window in dict.fromkeys(feature.window for feature in features):
            found.update(
                {feature.name: self.feature(feature) for feature in features if feature.window == window}
            )
            self._windows.pop(window, None)  # its bounds weigh as much as two columns
        return {feature.name: found[feature.name] for feature in features}

    def feature(self, feature: Feature) -> pa.Array:
        """Evaluate one feature for every query, in the queries' order."""
        windows = self.windows(feature.window)
        operation = make(operation_of(feature))
        try:
            events = self.events(feature)
            with spent(f"compute:{_family(operation)}"):
                values = operation.compute(events, windows)
        except Exception as error:
            error.add_note(f"while computing {feature.name!r}")
            raise
        if len(values) != len(windows.lo):
            raise ComputeError(
                f"{feature.op} gave {len(values)} values for {len(windows.lo)} rows of {feature.name!r}."
            )
        if feature.fills_empty:
            values = self._fill_empty(values, feature, windows)
        return values if values.type == feature.type else values.cast(feature.type)

    def _fill_empty(self, values: pa.Array, feature: Feature, windows: Windows) -> pa.Array:
        """Put ``fill_empty`` where nothing that counts is in the window (not where the value is undefined)."""
        valid = self.events(feature).valid
        before = np.concatenate(([0], np.cumsum(valid)))
        empty = before[windows.hi] == before[windows.lo]
        return pc.if_else(booleans(empty), pa.scalar(feature.fill_empty, values.type), values)

    @spending("compute:columns")
    def events(self, feature: Feature) -> EventColumn:
        """Give the events of a feature; with a state, rows that stand for the history of a lifetime window."""
        found = self._event_column(feature.series, feature.other)
        if self._history is None or feature.window.length_us is not None:
            return found
        group = self._groups[feature.name]
        if group not in self._lifetime:
            self._lifetime[group] = self._history.column(group, found)
        return self._lifetime[group]

    def _event_column(self, series: Series, other: str | None) -> EventColumn:
        found = self._columns.get((series, other))
        if found is None:
            found = self._build(series)
            if other is not None:
                found.other = self._build(Series(other, series.where, series.by, series.by_value))
            self._columns[(series, other)] = found
        return found

    def _build(self, series: Series) -> EventColumn:
        mask = self._mask(series)
        times = self._rows.times
        if series.column is None:
            return EventColumn(None, np.ones(len(times), np.bool_) if mask is None else mask, times, None)
        array = column(self._events, series.column)
        values, valid, categories = physical(array)
        return EventColumn(values, valid if mask is None else valid & mask, times, array.type, categories)

    def _mask(self, series: Series) -> NDArray[np.bool_] | None:
        mask: NDArray[np.bool_] | None = None
        if series.where is not None:
            if self._frame is None:
                self._frame = pl.DataFrame(self._events)
            condition = compile_condition(series.where, self._frame.schema)
            mask = condition.mask(self._frame).to_numpy()
        if series.by is not None:
            chosen = column(self._events, series.by)
            hit = pc.equal(chosen, pa.scalar(series.by_value).cast(chosen.type)).fill_null(False)
            equal = hit.to_numpy(zero_copy_only=False)
            mask = equal if mask is None else mask & equal
        return mask


def _family(operation: Aggregation) -> str:
    """Name of the file of the library that an aggregation is in: ``moments``, ``quantiles``."""
    return type(operation).__module__.rpartition(".")[2]


def physical(array: pa.Array) -> tuple[NDArray[Any], NDArray[np.bool_], pa.Array | None]:
    """Split an Arrow array into what kernels take: values, validity, and sorted categories of strings."""
    kind = array.type
    valid = (
        np.ones(len(array), np.bool_)
        if array.null_count == 0
        else array.is_valid().to_numpy(zero_copy_only=False)
    )
    if (
        pa.types.is_large_string(kind)
        or pa.types.is_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        words = sorted_distinct(array)
        codes = pc.index_in(array, value_set=words, skip_nulls=True).fill_null(0)
        return codes.to_numpy(zero_copy_only=False).astype(np.int32, copy=False), valid, words
    if pa.types.is_boolean(kind):
        return array.fill_null(False).to_numpy(zero_copy_only=False), valid, None
    if pa.types.is_floating(kind):
        values = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        return values, valid & ~np.isnan(values), None
    if pa.types.is_date32(kind):
        array = array.cast(pa.int32())
    return array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), valid, None
