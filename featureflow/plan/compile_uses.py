"""Feature tables that a dataset uses: by their windows at the spine's times, by their latest tick, by their zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from featureflow.contracts.cube import Cube
from featureflow.core.errors import Problem
from featureflow.core.expressions import compile_expression
from featureflow.core.types import to_polars
from featureflow.plan.columns import ColumnBuilder, Path, no_column
from featureflow.plan.dataset_nodes import Use, WindowJoin
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable, Derived, Input, Lookup
from featureflow.plan.required import columns_needed
from featureflow.spec.datasets import UsedTable
from featureflow.spec.load import LoadedProject
from featureflow.spec.resolve import keys_of_use

if TYPE_CHECKING:
    from featureflow.plan.grid_nodes import CompiledGrid


class UsedTables(ColumnBuilder):
    """Columns that a dataset takes from feature tables; mistakes go to ``problems`` and the rest is still looked at."""

    def __init__(
        self,
        loaded: LoadedProject,
        name: str,
        sources: dict[str, Input],
        tables: dict[str, CompiledTable],
        problems: list[Problem],
        grids: Mapping[str, CompiledGrid],
        cubes: Mapping[str, Cube],
    ) -> None:
        super().__init__(loaded, ("datasets", name), sources, tables, problems)
        self.grids, self.cubes = grids, cubes
        self.name, self.spec = name, loaded.project.datasets[name]
        self.notices: list[str] = []
        self.features: list[str] = []

    def use(self, spine: Input, time: str | None, used: UsedTable, index: int) -> Use | None:
        """How the dataset gets features of one table; None if something is wrong, which has been told."""
        path: Path = ("features", index)
        if used.table in self.grids and used.table in self.sources:
            return self._from_zones(spine, time, self.sources[used.table], used, path)
        table = self.tables.get(used.table)
        if table is None:
            return None
        before = len(self.problems)
        for left, right in used.keys.items():
            self.check_pair(spine, self._keys_of(table), left, right, path)
        if time is None:
            self.tell(
                ("spine",), f"features of {used.table!r} are evaluated at a time; give the spine a `time:`."
            )
        if len(self.problems) > before:
            return None
        found = (
            self._from_grid(table, used, path)
            if table.grid is not None
            else self._from_events(spine, time or "", table, used, path)
        )
        for local, final in found.outputs:
            self.add(final, table.schema.field(local).type, table.lineage[local], path)
        return found

    def _keys_of(self, table: CompiledTable) -> Input:
        columns = {key: to_polars(table.schema.field(key).type) for key in table.keys}
        return Input("table", table.name, columns, table.time)

    def _from_grid(self, table: CompiledTable, used: UsedTable, path: Path) -> Use:
        """The latest tick at or before the row's time."""
        right = self.input(table.name)
        own = (*table.keys, table.time)
        names = used.columns or tuple(name for name in table.schema.names if name not in own)
        self._check_columns(table, names, path)
        outputs = tuple((name, f"{used.prefix}{name}") for name in names if name in table.schema.names)
        if right is None or any(name not in right.columns for name, _ in outputs):
            self.tell((*path, "columns"), "a histogram of a grid table can't be looked up; leave it out.")
            return Use(table.name, None, (), (), (), ())
        lookup = Lookup(
            right=right,
            left_keys=tuple(used.keys),
            right_keys=tuple(used.keys.values()),
            columns=tuple((name, name) for name, _ in outputs),
            ttl_us=used.ttl.microseconds if used.ttl else None,
            allow_exact=True,
            on_tie="latest",
            knowledge="event_time",
            skip_nulls=False,
            interval_us=None,
            availability_delay_us=0,
            place=f"datasets.{self.name}.features[{path[1]}]",
        )
        return Use(table.name, None, (lookup,), (), (), outputs)

    def _from_zones(
        self, spine: Input, time: str | None, right: Input, used: UsedTable, path: Path
    ) -> Use | None:
        """The latest row of a grid of zones that was known at the row's time."""
        before = len(self.problems)
        keys = keys_of_use(used.keys, right.keys)
        if keys is None:
            self.tell(
                (*path, "keys"),
                f"does not fit {right.name!r}, whose keys are {', '.join(right.keys)}. "
                "Write {column of the spine: key of the table}.",
            )
        for left, other in (keys or {}).items():
            self.check_pair(spine, right, left, other, path)
        if time is None or right.time is None:
            which = "the spine" if time is None else repr(right.name)
            self.tell((*path, "table"), f"features are evaluated at a time, and {which} has none.")
        names = used.columns or tuple(str(name) for name in self.grids[right.name].outline.data_vars)
        for j, name in enumerate(names):
            if name not in right.columns:
                self.tell((*path, "columns", j), no_column(name, right))
        if len(self.problems) > before or keys is None:
            return None
        lookup = Lookup(
            right=right,
            left_keys=tuple(keys),
            right_keys=tuple(keys.values()),
            columns=tuple((name, name) for name in names),
            ttl_us=used.ttl.microseconds if used.ttl else None,
            allow_exact=True,
            on_tie="latest",
            knowledge="created",
            skip_nulls=False,
            interval_us=None,
            availability_delay_us=0,
            place=f"datasets.{self.name}.features[{path[1]}]",
        )
        outputs = tuple((name, f"{used.prefix}{name}") for name in names)
        for name, final in outputs:
            origins = (f"{right.name}.{name}", *(f"{right.name}.{key}" for key in keys.values()))
            self.add(final, right.columns[name], origins, path)
        return Use(right.name, None, (lookup,), (), (), outputs)

    def _from_events(self, spine: Input, time: str, table: CompiledTable, used: UsedTable, path: Path) -> Use:
        """Windows, look-ups and derived columns of a table at the spine's own times."""
        if used.ttl is not None:
            self.tell(
                (*path, "ttl"),
                f"{table.name!r} is evaluated at the row's own time: there is nothing to be old.",
            )
        spine_of = {right: left for left, right in used.keys.items()}
        if table.time:
            spine_of.setdefault(table.time, time)
        local = {name: name for name in spine_of}
        own = {feature.name for feature in table.features}
        reachable = {name: spine_of[name] for name in spine_of} | {
            name: name
            for name in table.source.columns
            if name not in spine_of
            and name in spine.columns
            and spine.columns[name] == table.source.columns[name]
        }
        lookups = {
            name: lookup
            for lookup in table.lookups
            if all(key in reachable for key in lookup.left_keys)
            for _, name in lookup.columns
        }
        known = {*local, *own, *lookups, *(name for name in table.keep if name in reachable)}
        for item in table.derived:
            if all(name in known for name in _inputs(item, table)):
                known.add(item.name)
        wanted = self._wanted(table, used, known, path)
        needed = _closure(wanted, table)
        windows = WindowJoin(
            right=table.source,
            left_keys=tuple(used.keys),
            right_keys=tuple(used.keys.values()),
            features=tuple(feature for feature in table.features if feature.name in needed),
            carried=columns_needed(table),
        )
        nodes = [lookup for lookup in table.lookups if any(name in needed for _, name in lookup.columns)]
        return Use(
            table=table.name,
            windows=windows if windows.features else None,
            lookups=tuple(_moved(lookup, reachable) for lookup in nodes),
            derived=tuple(item for item in table.derived if item.name in needed),
            carried=tuple(
                (name, reachable[name]) for name in sorted(needed) if name in reachable and name not in own
            ),
            outputs=tuple((name, f"{used.prefix}{name}") for name in wanted),
        )

    def _wanted(self, table: CompiledTable, used: UsedTable, known: set[str], path: Path) -> tuple[str, ...]:
        """Columns of the table that the dataset gets; those that belong to the table's own rows can't be had."""
        own = {*table.keys, *table.keep, *([table.time] if table.time else [])}
        if used.columns is not None:
            self._check_columns(table, used.columns, path)
            for j, name in enumerate(used.columns):
                if name in own:
                    self.tell(
                        (*path, "columns", j),
                        f"{name!r} is carried along in rows of {table.name!r} and is no feature. For its latest value "
                        f"use `lookup: [{{from: {table.source.name}, columns: [{name}]}}]`.",
                    )
                elif name in table.schema.names and name not in known:
                    self.tell((*path, "columns", j), _unreachable(name, table))
            return tuple(name for name in used.columns if name in known and name not in own)
        features = [name for name in table.schema.names if name not in own]
        missing = [name for name in features if name not in known]
        if missing:
            self.notices.append(f"datasets.{self.name}: left out: {_unreachable(', '.join(missing), table)}")
        return tuple(name for name in features if name in known)

    def _check_columns(self, table: CompiledTable, names: Sequence[str], path: Path) -> None:
        rows = Input("table", table.name, dict.fromkeys(table.schema.names, pl.Null()), None)
        for j, name in enumerate(names):
            if name not in table.schema.names:
                self.tell((*path, "columns", j), no_column(name, rows))


def _inputs(item: Derived, table: CompiledTable) -> Sequence[str]:
    """Columns of its table that a derived column reads."""
    if item.sql is None:
        return item.inputs
    schema = {field.name: to_polars(field.type) for field in table.schema if not pa.types.is_map(field.type)}
    return list(compile_expression(item.sql, schema).columns)


def _closure(wanted: Sequence[str], table: CompiledTable) -> set[str]:
    """Everything in the table's namespace that some columns come from, themselves included."""
    needed = set(wanted)
    for item in reversed(table.derived):
        if item.name in needed:
            needed.update(_inputs(item, table))
    return needed


def _moved(lookup: Lookup | GridLookup, reachable: dict[str, str]) -> Lookup | GridLookup:
    """A table's look-up, from the spine's columns."""
    if isinstance(lookup, GridLookup):
        return replace(lookup, at=tuple((dim, reachable[column]) for dim, column in lookup.at))
    return replace(lookup, left_keys=tuple(reachable[key] for key in lookup.left_keys))


def _unreachable(names: str, table: CompiledTable) -> str:
    return (
        f"{names} of {table.name!r}: made from columns of the table's own rows that the spine does not have. "
        "Give the spine columns of those names, or leave them out with `columns:`."
    )
