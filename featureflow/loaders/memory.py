"""Rows in memory as a source: a dataset that is loaded without an export."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from featureflow.contracts.shard_manifest import ShardColumn
from featureflow.core.errors import ComputeError
from featureflow.core.roles import EMBARGOED, Roles
from featureflow.library.shards.columns import element_type_and_shape
from featureflow.loaders.columns import describe, to_array
from featureflow.loaders.source import SplitInfo

_USUAL = ("train", "valid", "validation", "test")


class MemorySource:
    """The rows of one table, by split."""

    in_memory = True

    def __init__(
        self,
        table: pa.Table,
        roles: Roles,
        *,
        name: str,
        splits: Sequence[str] | None,
        dtype: str | None,
        keep_sampled_out: bool,
        matrix: str | None,
        normalization: dict[str, dict[str, float]] | None,
    ) -> None:
        self.name = name
        self.normalization = dict(normalization or {})
        wanted = [field.name for field in table.schema if roles.of(field.name) not in {"split", "other"}]
        of_split = _positions(table, roles, splits, keep_sampled_out=keep_sampled_out)
        kept = _narrowed(table.select(wanted), roles, dtype)
        if matrix is not None:
            kept = _packed(kept, roles, matrix, dtype or "float64")
        self._tables = {split: _rows(kept, rows).combine_chunks() for split, rows in of_split.items()}
        self.schema = kept.schema
        self.columns = tuple(
            _column(field, "feature", roles.features)
            if field.name == matrix
            else _column(field, roles.of(field.name))
            for field in kept.schema
        )
        self.splits = {
            split: SplitInfo((rows.num_rows,), rows.nbytes / max(rows.num_rows, 1))
            for split, rows in self._tables.items()
        }

    @cached_property
    def identity(self) -> str:
        """Hash of the rows themselves."""
        digest = xxhash.xxh3_64()
        for split, rows in self._tables.items():
            digest.update(f"{split}\0".encode())
            with pa.ipc.new_stream(pa.PythonFile(_Sink(digest), mode="w"), rows.schema) as writer:
                writer.write_table(rows)
        return digest.hexdigest()

    def table(self, split: str, shard: int, columns: Sequence[str]) -> pa.Table:  # noqa: ARG002
        """Give the rows of a split, which is one shard."""
        return self._tables[split].select(list(columns))

    def fetch_ahead(self, split: str, shards: Sequence[int]) -> None:
        """Do nothing: all is here."""


class _Sink:
    """A file that only hashes what is written to it."""

    closed = False

    def __init__(self, digest: xxhash.xxh3_64) -> None:
        self._digest = digest
        self._written = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def _positions(
    table: pa.Table, roles: Roles, splits: Sequence[str] | None, *, keep_sampled_out: bool
) -> dict[str, pa.Array | None]:
    """Rows of each split, in order; None for all of them."""
    keep = None
    if roles.weight is not None and not keep_sampled_out:
        weights = table[roles.weight]
        if weights.null_count:
            raise ComputeError(
                f"column {roles.weight!r} has {weights.null_count} nulls; a weight is a number."
            )
        keep = pc.not_equal(weights, 0)
    if roles.split is None:
        return {"all": None if keep is None else pc.indices_nonzero(keep)}
    of_row = table[roles.split]
    if pa.types.is_dictionary(of_row.type):
        of_row = of_row.cast(of_row.type.value_type)
    there = [split for split in of_row.unique().to_pylist() if split not in {None, EMBARGOED}]
    if splits is None:
        splits = sorted(there, key=lambda s: (_USUAL.index(s) if s in _USUAL else len(_USUAL), s))
    found = {}
    for split in splits:
        rows = pc.equal(of_row, split)
        found[split] = pc.indices_nonzero(rows if keep is None else pc.and_(rows, keep))
    return found


def _rows(table: pa.Table, rows: pa.Array | None) -> pa.Table:
    """The rows of one split; a view if they lie side by side, as those of a split by time do."""
    if rows is None or len(rows) == table.num_rows:
        return table
    positions = rows.to_numpy()
    if len(positions) and int(positions[-1]) - int(positions[0]) + 1 == len(positions):
        return table.slice(int(positions[0]), len(positions))
    return table.take(rows)


def _narrowed(table: pa.Table, roles: Roles, dtype: str | None) -> pa.Table:
    """Cast the float64 columns that models see; keys and times stay as they are."""
    if dtype is None:
        return table
    target = {"float32": pa.float32(), "float64": pa.float64(), "float16": pa.float16()}.get(dtype)
    if target is None:
        raise ComputeError(f"dtype={dtype!r}: give 'float32', 'float16', 'float64', or None for no change.")
    for number, field in enumerate(table.schema):
        element, shape = element_type_and_shape(field.type)
        if roles.of(field.name) in {"feature", "label", "weight"} and pa.types.is_float64(element):
            narrow = target
            for size in reversed(shape):
                narrow = pa.list_(narrow, size)
            values = table.column(number).cast(narrow, safe=False)
            table = table.set_column(number, pa.field(field.name, narrow), values)
    return table


def _packed(table: pa.Table, roles: Roles, matrix: str, dtype: str) -> pa.Table:
    """Put the features into one column of fixed-size lists, where the first of them was."""
    features = list(roles.features)
    if matrix in set(table.column_names) - set(features):
        raise ComputeError(f"matrix={matrix!r}: there is a column of that name. Give another.")
    values = np.empty((table.num_rows, len(features)), dtype)
    for number, name in enumerate(features):
        column = describe(table.schema.field(name))
        if column.dtype is None or column.shape or column.dtype.kind not in "biuf":
            raise ComputeError(
                f"matrix={matrix!r}: feature {name!r} is {table.schema.field(name).type}, not a number. "
                "Encode it, or load the columns one by one with matrix=None."
            )
        values[:, number] = to_array(table.column(name), column)
    packed = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), max(len(features), 1))
    place = min((table.column_names.index(name) for name in features), default=0)
    return table.add_column(place, matrix, packed).drop_columns(features) if features else table


def _column(field: pa.Field, role: str, names: tuple[str, ...] = ()) -> ShardColumn:
    element, shape = element_type_and_shape(field.type)
    return ShardColumn(field.name, str(element), shape, role, names)
