"""Names of output columns (section 2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from featureflow.core.durations import Duration
from featureflow.spec.datasets import Dataset, UsedTable
from featureflow.spec.models import AggregateEntry, Feature
from featureflow.spec.ops import Op

#: what Delta Lake refuses in a column's name
FORBIDDEN_CHARACTERS = " ,;{}()\n\t="
PLACEHOLDERS = ("column", "op", "window", "value")
#: beginnings of names that the engine keeps for its own columns
RESERVED_PREFIXES = ("_ff_", "__ff")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


#: a column, and the place in its table or dataset that it comes from
Placed = tuple[str, tuple[str | int, ...]]
Tables = Callable[[str], Sequence[Placed] | None]


class OutputColumn(NamedTuple):
    """One output column of an aggregate entry."""

    name: str
    op: Op
    window: Duration
    value: Any = None


def value_text(value: Any) -> str:
    """A value of ``by`` as part of a name: characters other than letters, digits and ``_`` become ``_``.

    Examples
    --------
    >>> value_text("e-commerce"), value_text(True), value_text(1.5)
    ('e_commerce', 'true', '1_5')
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def placeholders(template: str) -> list[str]:
    """Names between braces in an ``as:``."""
    return _PLACEHOLDER.findall(template)


def column_name(entry: AggregateEntry, op: Op, window: Duration, value: Any = None) -> str:
    """Name of one output column.

    ``{column}_{op}_{window}``, without ``{column}_`` if there is no column; with ``by`` then ``__{value}``. ``as``
    replaces the first part; where it has no ``{value}``, ``__{value}`` still follows.
    """
    parts = {"column": entry.column or "", "op": op.label, "window": str(window), "value": value_text(value)}
    if entry.as_ is None:
        base = "_".join(part for part in (entry.column, op.label, str(window)) if part)
    else:
        base = _PLACEHOLDER.sub(lambda found: parts.get(found[1], found[0]), entry.as_)
    has_value = entry.as_ is not None and "value" in placeholders(entry.as_)
    return base if entry.by is None or has_value else f"{base}__{parts['value']}"


def output_columns(entry: AggregateEntry) -> list[OutputColumn]:
    """All output columns of an aggregate entry: by op, then window, then value of ``by``.

    Examples
    --------
    >>> given = {"column": "amount", "ops": ["sum"], "windows": ["1d"], "by": "channel", "values": ["web", "pos"]}
    >>> [column.name for column in output_columns(AggregateEntry.model_validate(given))]
    ['amount_sum_1d__web', 'amount_sum_1d__pos']
    """
    values = (entry.values or ()) if entry.by is not None else (None,)
    return [
        OutputColumn(column_name(entry, op, window, value), op, window, value)
        for op in entry.ops
        for window in entry.windows
        for value in values
    ]


def table_columns(feature: Feature, time: str | None) -> list[Placed]:
    """Every column of a feature table in order, with the place in the feature that it comes from.

    The order is keys, time, kept columns, aggregates, look-ups, derived columns, columns of Python functions. A
    name that is there twice is in the list twice.

    Parameters
    ----------
    time
        Name of the time column of the table's source.
    """
    found: list[Placed] = []
    found += [(key, ("keys", i)) for i, key in enumerate(feature.keys)]
    found += [(time, ("source",))] if time else []
    found += [(column, ("keep", i)) for i, column in enumerate(feature.keep)]
    for i, entry in enumerate(feature.aggregate):
        found += [(column.name, ("aggregate", i)) for column in output_columns(entry)]
    for i, lookup in enumerate(feature.lookup):
        found += [(lookup.output(c), ("lookup", i, "columns", j)) for j, c in enumerate(lookup.columns)]
    found += [(column, ("derive", column)) for column in feature.derive]
    found += [(column, ("udf", column)) for column in feature.udf]
    return found


def dataset_columns(dataset: Dataset, time: str | None, tables: Tables) -> list[Placed]:
    """Columns of a dataset that its spec alone knows, in order, with the place that each comes from.

    The order is the spine's, features, look-ups, derived columns, labels, ``split``, ``fold``, sample weights. What
    a spine of files carries along is known only if it is listed. A name that is there twice is in the list twice.
    Encoded columns are not in it.

    Parameters
    ----------
    time
        Name of the spine's time column.
    tables
        Gives the columns of a feature table as :func:`table_columns` does; None for what is no feature table.
    """
    spine = dataset.spine
    found: list[Placed] = []
    found += [(key, ("spine", "keys", i)) for i, key in enumerate(spine.keys)]
    found += [(time, ("spine", "time"))] if time and time not in spine.keys else []
    carried: list[Placed] = []
    if spine.columns is not None:
        carried = [(column, ("spine", "columns", i)) for i, column in enumerate(spine.columns)]
    elif spine.source is not None:
        carried = [(name, ("spine", "source")) for name, _ in tables(spine.source) or ()]
    seen = {name for name, _ in found}
    for name, place in carried:
        if name not in seen:
            found.append((name, place))
            seen.add(name)
    for i, used in enumerate(dataset.features):
        found += [(f"{used.prefix}{name}", ("features", i, *place)) for name, place in _used(used, tables)]
    for i, lookup in enumerate(dataset.lookup):
        found += [(lookup.output(c), ("lookup", i, "columns", j)) for j, c in enumerate(lookup.columns)]
    found += [(name, ("derive", name)) for name in dataset.derive]
    for i, label in enumerate(dataset.label):
        if label.source is not None or label.name != label.column or label.name not in seen:
            found.append((label.name, ("label", i, "as")))
    if dataset.split is not None:
        found.append(("split", ("split", "by")))
        found += [("fold", ("split", "folds"))] if dataset.split.folds else []
    found += [(dataset.sample.weight, ("sample", "weight"))] if dataset.sample is not None else []
    return found


def _used(used: UsedTable, tables: Tables) -> list[Placed]:
    """Features that a dataset takes of a table: not its keys, its time, and what it keeps of its own rows."""
    if used.columns is not None:
        return [(name, ("columns", j)) for j, name in enumerate(used.columns)]
    own = ("keys", "source", "keep")
    return [(name, ("table",)) for name, place in tables(used.table) or () if place[0] not in own]
