"""Which columns of its source a table needs: nothing else is ever carried."""

from __future__ import annotations

from featureflow.core.expressions import compile_condition
from featureflow.plan.nodes import CompiledTable


def columns_needed(table: CompiledTable) -> tuple[str, ...]:
    """List the source's columns that a table reads, in the source's order."""
    source = table.source
    needed = {*table.keys, *table.keep, *source.order}
    if source.time:
        needed.add(source.time)
    for feature in table.features:
        series = feature.series
        needed.update(name for name in (series.column, series.by, feature.other) if name)
        if series.where:
            needed.update(compile_condition(series.where, source.columns).columns)
    for lookup in table.lookups:
        needed.update(lookup.left_keys)
    return tuple(name for name in source.columns if name in needed)
