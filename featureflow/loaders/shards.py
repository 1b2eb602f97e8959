"""Training data by the batch: from exported shards of any format, or from rows in memory."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from featureflow.contracts.shard_manifest import Manifest
from featureflow.core.errors import ComputeError, TableError
from featureflow.core.roles import Roles
from featureflow.loaders.batches import Batches, Reading, Tail
from featureflow.loaders.cache import ShardCache
from featureflow.loaders.columns import choose
from featureflow.loaders.files import FileSource, check_balance, find_export
from featureflow.loaders.memory import MemorySource

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def load_shards(path: str | os.PathLike[str], *, cache: str | None = None, verify: bool = True) -> Shards:
    """Open exported shards of any format.

    Parameters
    ----------
    path
        The folder with ``manifest.json``; or the folder of a dataset's exports, ``shards/fraud_train``, of which the
        highest finished version is taken. Local, or a URL that fsspec knows.
    cache
        Folder for copies of remote shards; ``~/.cache/featureflow/shards`` if None. It holds as many bytes as
        ``FEATUREFLOW_SHARD_CACHE_BYTES`` says, 64 GiB without it, and never more than half of the free disk.
    verify
        Compare every file with its checksum when it is first read. A remote file always is when it is fetched.

    Raises
    ------
    TableError
        If nothing is there, the export is unfinished, or a newer featureflow wrote it.
    CorruptionError
        If the manifest is damaged. A damaged shard is found when it is first read; the error names it.

    Notes
    -----
    Cost: one small file is read. A checksum takes about as long as reading the file from memory.
    """
    url, text = find_export(os.fspath(path))
    source = FileSource(url, text, cache=ShardCache(cache), verify=verify)
    check_balance(source.manifest, url)
    return Shards(source, manifest=source.manifest)


def memory_shards(
    table: pa.Table,
    roles: Roles,
    *,
    name: str = "dataset",
    splits: Sequence[str] | None = None,
    dtype: str | None = "float32",
    keep_sampled_out: bool = False,
    matrix: str | None = None,
    normalization: Mapping[str, Mapping[str, float]] | None = None,
) -> Shards:
    """Give rows in memory the loaders of exported shards.

    Parameters
    ----------
    table
        The rows of a dataset, those of all splits, in its order.
    roles
        Which column plays which part. Keys, time, features, labels, fold and weight are loaded; the split says where
        a row belongs; other columns are not.
    splits
        Names and order of the splits; those that the split column has if None.
    dtype
        Of features, labels and weights that are float64; None leaves them. Keys and times are never changed.
    keep_sampled_out
        Whether to keep the rows of weight 0.0, which down-sampling left out.
    matrix
        Name of one column ``(rows, features)`` that stands for all features, which must be numbers;
        None for a column each.
    normalization
        By column ``{"mean": …, "scale": …}``.

    Notes
    -----
    Nulls: NaN in columns of floats; any other null is an error that names the column, when the column is read.
    Order: shuffled, every row is equally likely at every place: one permutation of the whole split.
    Cost: shuffled reading lays the split out once more in memory.
    """
    given = {column: dict(one) for column, one in (normalization or {}).items()}
    source = MemorySource(
        table,
        roles,
        name=name,
        splits=splits,
        dtype=dtype,
        keep_sampled_out=keep_sampled_out,
        matrix=matrix,
        normalization=given,
    )
    return Shards(source)


class Shards:
    """Training data, split by split, as batches or as whole tables.

    Parameters
    ----------
    source
        Where rows come from.
    manifest
        Of exported shards; None for rows in memory.
    """

    def __init__(self, source: FileSource | MemorySource, *, manifest: Manifest | None = None) -> None:
        self._source = source
        self.manifest = manifest

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._source.splits)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self._source.columns)

    def rows(self, split: str | None = None) -> int:
        """Count the rows of a split, or of all."""
        chosen = self.splits if split is None else [self._split(split)]
        return sum(sum(self._source.splits[name].shard_rows) for name in chosen)

    def __len__(self) -> int:
        return self.rows()

    # ------------------------------------------------------------ batches

    def numpy(
        self,
        batch_size: int = 1024,
        split: str | None = None,
        *,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        columns: Sequence[str] | None = None,
        lanes: int = 64,
        rank: int | None = None,
        world: int | None = None,
        prefetch: int = 2,
        tail: Tail | None = None,
        normalize: bool = True,
    ) -> Batches:
        """Give batches as dicts from column to NumPy array.

        Parameters
        ----------
        batch_size
            Rows of one batch of one rank.
        split
            Its name; ``train`` if None and there is one, or else the only split.
        shuffle
            Another order in each epoch; False: the order of the shards.
        seed, epoch
            Say which order; the epoch goes up by one with each whole iteration.
        columns
            Names, in the order wanted; all if None.
        lanes
            How many places of the shards are read at the same time. Ranks read nothing in vain if their
            number divides it. Part of the order: a state can be resumed with the same number only.
        rank, world
            Which of how many readers this is; from ``torch.distributed`` where that is initialised, else from
            the environment's ``RANK`` and ``WORLD_SIZE``, else one.
        prefetch
            How many batches (groups of small ones) a thread makes ahead; 0: no thread.
        tail
            Rows at the end that fill no global batch: ``partial``, a shorter last batch, the default; ``drop``, the
            default of several ranks with shuffle; ``pad``, zeros, and a column ``mask`` that says which rows are rows.
        normalize
            Apply the manifest's normalization.

        Returns
        -------
        Batches
            Iterate over it once for each epoch; it has `state_dict` and `load_state_dict`.

        Raises
        ------
        ComputeError
            If there is no such split or column, or an argument makes no sense.

        Notes
        -----
        Nulls: NaN in columns of floats; an error elsewhere.
        Time: int64 microseconds UTC.
        Order: the same global batches, as sets of rows, for any number of ranks; see `Batches`.
        Cost: columns of one type are views of one array ``(rows, columns)``. A matrix column, whose
        names are in the manifest, is read fastest. Text and lists are Python lists, made row by row.
        """
        rank, world = _place(rank, world)
        reading = Reading(
            split=self._split(split),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            columns=None if columns is None else tuple(choose(self.columns, columns)),
            lanes=lanes,
            rank=rank,
            world=world,
            prefetch=prefetch,
            tail=tail or ("drop" if shuffle and world > 1 else "partial"),
            normalize=normalize,
        )
        return Batches(self._source, reading, epoch=epoch)

    def torch(self, batch_size: int = 1024, split: str | None = None, **options: Any) -> Any:
        """Give batches as dicts from column to tensor: a `torch.utils.data.IterableDataset`.

        Parameters
        ----------
        batch_size, split, **options
            As in `numpy`.

        Returns
        -------
        TorchBatches
            To iterate over, or to give to ``DataLoader(batches, batch_size=None, num_workers=…)``. No workers are
            fastest: a thread makes batches ahead, and nothing is sent between processes.

        Raises
        ------
        ImportError
            If torch is not installed.
        """
        try:
            from featureflow.loaders.torch_batches import TorchBatches
        except ImportError as error:
            raise _missing("torch", "torch") from error
        return TorchBatches(self.numpy(batch_size, split, **options))

    def tf(self, batch_size: int = 1024, split: str | None = None, **options: Any) -> Any:
        """Give batches as a ``tf.data.Dataset`` of dicts; one pass over it is one epoch.

        Parameters
        ----------
        batch_size, split, **options
            As in `numpy`.

        Raises
        ------
        ImportError
            If TensorFlow is not installed.
        """
        from featureflow.loaders.frameworks import tf_dataset

        try:
            return tf_dataset(self.numpy(batch_size, split, **options))
        except ImportError as error:
            raise _missing("tensorflow", "tf") from error

    def jax(
        self, batch_size: int = 1024, split: str | None = None, *, device: Any = None, **options: Any
    ) -> Any:
        """Give batches as dicts from column to JAX array.

        Parameters
        ----------
        batch_size, split, **options
            As in `numpy`. ``tail="pad"`` keeps shapes the same, so that nothing is compiled twice.
        device
            Device or sharding to put arrays on; JAX's default if None.

        Raises
        ------
        ImportError
            If JAX is not installed.

        Notes
        -----
        Without ``jax_enable_x64``, JAX has no 64-bit numbers: keys and times stay NumPy arrays then.
        """
        from featureflow.loaders.frameworks import JaxBatches

        try:
            return JaxBatches(self.numpy(batch_size, split, **options), device)
        except ImportError as error:
            raise _missing("jax", "jax") from error

    # ------------------------------------------------------------ tables

    def to_arrow(self, split: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the rows of a split, or of all splits one after another, in the order of the shards.

        Notes
        -----
        Values are as they were written: no normalization.
        """
        chosen = choose(self.columns, columns)
        parts = [
            self._source.table(name, number, chosen).select(chosen)
            for name in (self.splits if split is None else [self._split(split)])
            for number in range(len(self._source.splits[name].shard_rows))
        ]
        schema = pa.schema([self._source.schema.field(name) for name in chosen])
        return pa.concat_tables([part.cast(schema) for part in parts]) if parts else schema.empty_table()

    def to_pandas(self, split: str | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read as `to_arrow`, as a pandas frame; matrices become columns of arrays."""
        frame: pd.DataFrame = self.to_arrow(split, columns).to_pandas()
        return frame

    def to_polars(self, split: str | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read as `to_arrow`, as a Polars frame; matrices become columns of type Array."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow(split, columns))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101  (a table never becomes a series)
        return frame

    # ------------------------------------------------------------ display

    def _split(self, name: str | None) -> str:
        there = self._source.splits
        if name is None and "train" in there:
            return "train"
        if name is None and len(there) == 1:
            return next(iter(there))
        if name not in there:
            asked = "name a split" if name is None else f"there is no split {name!r}"
            raise ComputeError(f"{self._source.name}: {asked}: split={' or '.join(map(repr, there))}.")
        return name

    def __repr__(self) -> str:
        """One line for each split."""
        kind = "in memory" if self.manifest is None else f"{self.manifest.format} shards"
        lines = [
            f"  {name}: {sum(info.shard_rows):,} rows in {len(info.shard_rows)} shards"
            for name, info in self._source.splits.items()
        ]
        return "\n".join([f"<Shards {self._source.name}, {kind}, {len(self.columns)} columns", *lines]) + ">"

    def _repr_html_(self) -> str:
        """Draw splits and columns as tables for notebooks."""
        splits = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{sum(info.shard_rows):,}</td><td>{len(info.shard_rows)}</td></tr>"
            for name, info in self._source.splits.items()
        )
        columns = "".join(
            f"<tr><td>{html.escape(c.name)}</td><td>{html.escape(c.dtype)}"
            f"{html.escape(str(list(c.shape)) if c.shape else '')}</td><td>{html.escape(c.role)}</td></tr>"
            for c in self._source.columns
        )
        return (
            f"<b>{html.escape(self._source.name)}</b>"
            f"<table><tr><th>split</th><th>rows</th><th>shards</th></tr>{splits}</table>"
            f"<table><tr><th>column</th><th>type</th><th>role</th></tr>{columns}</table>"
        )


def _missing(package: str, method: str) -> ImportError:
    return ImportError(
        f".{method}() needs {package}, which is not installed: `pip install {package}`. "
        ".numpy() gives the same batches without it."
    )


def _place(rank: int | None, world: int | None) -> tuple[int, int]:
    """Which of how many ranks this process is."""
    if (rank is None) != (world is None):
        raise ComputeError(f"rank={rank}, world={world}: give both, or neither.")
    if rank is not None and world is not None:
        return rank, world
    distributed = sys.modules.get("torch.distributed")  # whoever initialised it has imported it
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    given = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    try:
        return int(given[0] or 0), int(given[1] or 1)
    except ValueError as error:
        raise TableError(
            f"RANK={given[0]!r}, WORLD_SIZE={given[1]!r} in the environment: not numbers."
        ) from error
