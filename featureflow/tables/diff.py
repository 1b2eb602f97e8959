"""What changed between two versions of a table: definition, schema, files, rows and statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from featureflow.tables.labelled import sizes_of

if TYPE_CHECKING:
    from featureflow.tables.parquet_files import StagedFile
    from featureflow.tables.table import Table

ROW_BYTES = 256 << 20
"""Rows are compared one by one when the files that differ are not larger than this together."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A place in the definition and what it held before and after; None is absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Rows compared by keys and time, over the columns that both versions have with the same type."""

    added: int
    removed: int
    changed: int


@dataclass(frozen=True, slots=True)
class VariableChanges:
    """Chunks of a grid's variable compared by place and by the digest of their values."""

    name: str
    chunks_shared: int
    chunks_changed: int
    chunks_added: int
    chunks_removed: int

    @property
    def same(self) -> bool:
        """Whether no chunk differs."""
        return not (self.chunks_changed or self.chunks_added or self.chunks_removed)

    def line(self) -> str:
        """In words."""
        return (
            f"variable {self.name}: {self.chunks_shared:,} chunks shared, {self.chunks_changed:,} changed, "
            f"{self.chunks_added:,} added, {self.chunks_removed:,} removed"
        )


@dataclass(frozen=True, slots=True, repr=False)
class Diff:
    """The answer of :func:`diff`.

    Parameters
    ----------
    columns_added, columns_removed, columns_changed
        Names; the last with both types.
    slices_changed, slices_shared
        Values of the partition where some file differs, and where all files are the same.
    files_shared, files_added, files_removed
        How much of the data is literally the same.
    rows
        None if it would have been too much to read.
    statistics
        One line for each column (of a grid: variable) whose statistics differ, before and after.
    variables
        Of a grid, what changed in each variable; its rows are its chunks. Chunks that were cut otherwise are others.
    sizes_before, sizes_after
        Of a grid, its dimensions.
    """

    before: str
    after: str
    definition: tuple[Changed, ...]
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_changed: tuple[tuple[str, str, str], ...]
    slices_changed: tuple[str | None, ...]
    slices_shared: int
    files_shared: int
    files_added: int
    files_removed: int
    rows_before: int
    rows_after: int
    rows: RowChanges | None
    statistics: pl.DataFrame
    variables: tuple[VariableChanges, ...] = ()
    sizes_before: dict[str, int] = field(default_factory=dict)
    sizes_after: dict[str, int] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether definition, schema and data are the same."""
        if self.variables:
            changed = self.definition or self._schema_changes() or self.sizes_before != self.sizes_after
            return not changed and all(variable.same for variable in self.variables)
        return not (self.definition or self._schema_changes() or self.files_added or self.files_removed)

    def _schema_changes(self) -> list[str]:
        return [
            *_few("+", self.columns_added),
            *_few("-", self.columns_removed),
            *(f"~ column {name}: {old} -> {new}" for name, old, new in self.columns_changed),
        ]

    def lines(self) -> list[str]:
        """The difference in words, one line each."""
        if self.same:
            return ["no difference"]
        lines = [f"~ {c.path}: {c.before!r} -> {c.after!r}" for c in self.definition]
        lines += self._schema_changes()
        if self.variables:
            return lines + self._grid_lines()
        lines.append(f"rows: {self.rows_before:,} -> {self.rows_after:,}")
        if self.rows is not None:
            lines[-1] += (
                f" ({self.rows.added:,} added, {self.rows.removed:,} removed, {self.rows.changed:,} changed)"
            )
        lines.append(
            f"files: {self.files_shared:,} shared, {self.files_added:,} added, {self.files_removed:,} removed"
        )
        shown = [str(s) for s in self.slices_changed[:8]] + (["…"] if len(self.slices_changed) > 8 else [])
        if self.slices_changed != (None,):
            lines.append(
                f"partitions: {len(self.slices_changed):,} changed ({', '.join(shown)}), {self.slices_shared:,} shared"
            )
        return lines

    def _grid_lines(self) -> list[str]:
        old, new = self.sizes_before, self.sizes_after
        moved = [
            f"{dim} {old.get(dim, 'none')} -> {new.get(dim, 'none')}"
            for dim in dict.fromkeys([*old, *new])
            if old.get(dim) != new.get(dim)
        ]
        return [*([f"sizes: {', '.join(moved)}"] if moved else []), *(one.line() for one in self.variables)]

    def __repr__(self) -> str:
        """All lines."""
        return "\n".join([f"{self.before} -> {self.after}", *("  " + line for line in self.lines())])

    def _repr_html_(self) -> str:
        from featureflow.tables.html import diff_html

        return diff_html(self)


def _few(sign: str, names: tuple[str, ...]) -> list[str]:
    """A line for each column, or one for all when there are many."""
    if len(names) <= 6:
        return [f"{sign} column {name}" for name in names]
    return [f"{sign} {len(names)} columns: {', '.join(names)}"]


def diff(before: Table, after: Table) -> Diff:
    """Compare two versions of one table.

    Notes
    -----
    Cost: records only, and the files that differ if they are small together (:data:`ROW_BYTES`): shared files are
    the same bytes and are never read.
    """
    old = {file.path: file for file in before.state.files}
    new = {file.path: file for file in after.state.files}
    removed = [file for path, file in old.items() if path not in new]
    added = [file for path, file in new.items() if path not in old]
    changed = {file.slice for file in [*removed, *added]}
    slices = {file.slice for file in [*old.values(), *new.values()]}
    types = {f.name: f.type for f in before.schema}, {f.name: f.type for f in after.schema}
    return Diff(
        before=f"{before.name}@{before.version}",
        after=f"{after.name}@{after.version}",
        definition=tuple(_compare("", before.definition, after.definition)),
        columns_added=tuple(n for n in types[1] if n not in types[0]),
        columns_removed=tuple(n for n in types[0] if n not in types[1]),
        columns_changed=tuple(
            (n, str(t), str(types[1][n])) for n, t in types[0].items() if n in types[1] and types[1][n] != t
        ),
        slices_changed=tuple(sorted(changed, key=lambda s: (s is not None, s or ""))),
        slices_shared=len(slices - changed),
        files_shared=len(set(old) & set(new)),
        files_added=len(added),
        files_removed=len(removed),
        rows_before=before.rows,
        rows_after=after.rows,
        rows=None if after.is_grid else _row_changes(before, after, removed, added),
        statistics=_statistics(before, after),
        variables=_variable_changes(before, after) if after.is_grid and before.is_grid else (),
        sizes_before=sizes_of(before.record["arrays"]) if before.is_grid else {},
        sizes_after=sizes_of(after.record["arrays"]) if after.is_grid else {},
    )


def _variable_changes(before: Table, after: Table) -> tuple[VariableChanges, ...]:
    old, new = _chunk_digests(before), _chunk_digests(after)
    found = []
    for name in dict.fromkeys([*after.schema.names, *before.schema.names]):
        was, now = old.get(name, {}), new.get(name, {})
        both = was.keys() & now.keys()
        shared = sum(was[place] == now[place] for place in both)
        found.append(
            VariableChanges(name, shared, len(both) - shared, len(now.keys() - both), len(was.keys() - both))
        )
    return tuple(found)


def _chunk_digests(table: Table) -> dict[str, dict[tuple[Any, ...], str]]:
    """Digest of each chunk by variable and position; an edge chunk that grew is changed, not another one."""
    places = [name for name in table.state.schema.names if name.endswith("_start")]
    found: dict[str, dict[tuple[Any, ...], str]] = {}
    for row in pl.DataFrame(table.to_arrow(["variable", "digest", *places], sort=False)).iter_rows(
        named=True
    ):
        at = tuple((name, row[name]) for name in places if row[name] is not None)
        found.setdefault(row["variable"], {})[at] = row["digest"]
    return found


def _compare(path: str, before: Any, after: Any) -> list[Changed]:
    if isinstance(before, dict) and isinstance(after, dict):
        names = list(dict.fromkeys([*before, *after]))
        found = [_compare(f"{path}.{n}" if path else str(n), before.get(n), after.get(n)) for n in names]
        return [change for part in found for change in part]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        found = [_compare(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(before, after, strict=True))]
        return [change for part in found for change in part]
    return [] if before == after else [Changed(path or "definition", before, after)]


def _row_changes(
    before: Table, after: Table, removed: list[StagedFile], added: list[StagedFile]
) -> RowChanges | None:
    if sum(file.size for file in [*removed, *added]) > ROW_BYTES:
        return None
    identity = [*after.keys, *([after.time] if after.time else [])]
    types = {f.name: f.type for f in before.schema}
    common = [f.name for f in after.schema if types.get(f.name) == f.type]
    if any(name not in common for name in identity) or identity != [
        *before.keys,
        *([before.time] if before.time else []),
    ]:
        return RowChanges(sum(f.rows for f in added), sum(f.rows for f in removed), 0)
    rest = [name for name in common if name not in identity]
    old, new = _counted(before, removed, identity, rest), _counted(after, added, identity, rest)
    both = old.join(new, on=[*identity, "_row"], how="full", coalesce=True, nulls_equal=True)
    both = both.with_columns(pl.col("n").fill_null(0), pl.col("n_right").fill_null(0))
    # Rows that are the same on both sides cancel; what is left of one (keys, time) on both sides was changed.
    left = both.group_by(identity).agg(
        gone=(pl.col("n") - pl.col("n_right")).clip(lower_bound=0).sum(),
        come=(pl.col("n_right") - pl.col("n")).clip(lower_bound=0).sum(),
    )
    gone, come = int(left["gone"].sum()), int(left["come"].sum())
    changed = int(left.select(pl.min_horizontal("gone", "come").sum()).item() or 0)
    return RowChanges(come - changed, gone - changed, changed)


def _counted(table: Table, files: list[StagedFile], identity: list[str], rest: list[str]) -> pl.DataFrame:
    """How often each different row occurs; the columns beside keys and time as one 64-bit hash."""
    scan = table.scan_files(tuple(files))
    columns = [*identity, *rest]
    parts = [_hashed(pl.DataFrame(part), identity, rest) for part in scan.tables(columns)]
    empty = pl.DataFrame(pa.schema([table.schema.field(name) for name in columns]).empty_table())
    rows = pl.concat([_hashed(empty, identity, rest), *parts])
    return rows.group_by([*identity, "_row"]).agg(n=pl.len().cast(pl.Int64))


def _hashed(frame: pl.DataFrame, identity: list[str], rest: list[str]) -> pl.DataFrame:
    values = frame.select(rest).hash_rows(seed=0) if rest else pl.Series([0] * frame.height, dtype=pl.UInt64)
    return frame.select(identity).with_columns(values.alias("_row"))


def _statistics(before: Table, after: Table) -> pl.DataFrame:
    names = ["count", "nulls", "min", "max", "mean"]
    both = before.stats.select("column", *names).join(
        after.stats.select("column", *names),
        on="column",
        how="full",
        coalesce=True,
        suffix="_after",
        maintain_order="right_left",
    )
    same = pl.all_horizontal(pl.col(n).eq_missing(pl.col(f"{n}_after")) for n in names)
    return both.filter(~same)
