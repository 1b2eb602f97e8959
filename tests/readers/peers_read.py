"""Read shards with the libraries that they are for; runs in an environment of `make_environment.py`.

`python peers_read.py READER FOLDER OUT.npz '{"option": …}'` writes every value that the library gives, by column.
It knows nothing of featureflow: what it finds is what a user of the library finds.
"""

from __future__ import annotations

import glob
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1"
)

import numpy as np


def columns(samples: Iterable[dict[str, Any]], *, blocked: bool = False) -> dict[str, np.ndarray]:
    """Values of all samples by column; of blocked samples one after another."""
    rows = list(samples)
    join = np.concatenate if blocked else np.stack
    return {name: join([np.asarray(row[name]) for row in rows]) for name in rows[0]} if rows else {}


def shards(folder: str, pattern: str) -> list[str]:
    return sorted(glob.glob(os.path.join(folder, pattern)))


def mds(folder: str, blocked: bool = False) -> dict[str, np.ndarray]:
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    with tempfile.TemporaryDirectory() as local:
        dataset = StreamingDataset(
            remote=folder,
            local=local,
            shuffle=False,
            batch_size=1,
            validate_hash="xxh3_64",
            download_timeout=10,
        )
        return columns((dataset[i] for i in range(dataset.num_samples)), blocked=blocked)


def litdata(folder: str, blocked: bool = False) -> dict[str, np.ndarray]:
    from litdata import StreamingDataset

    dataset = StreamingDataset(folder, shuffle=False)
    return columns((dataset[i] for i in range(len(dataset))), blocked=blocked)


def litdata_loader(folder: str, column: str) -> dict[str, np.ndarray]:
    """One column by a loader with two workers and shuffling, in whatever order."""
    from litdata import StreamingDataLoader, StreamingDataset

    loader = StreamingDataLoader(StreamingDataset(folder, shuffle=True), batch_size=7, num_workers=2)
    return {column: np.concatenate([np.asarray(batch[column]) for batch in loader])}


def litdata_parquet(folder: str) -> dict[str, np.ndarray]:
    from litdata import StreamingDataset
    from litdata.streaming.item_loader import ParquetLoader
    from litdata.streaming.writer import index_parquet_dataset

    with tempfile.TemporaryDirectory() as cache:
        index_parquet_dataset(folder, cache, num_workers=1)
        dataset = StreamingDataset(folder, item_loader=ParquetLoader(), index_path=cache, shuffle=False)
        return columns(dataset[i] for i in range(len(dataset)))


def tfrecord(folder: str, kinds: dict[str, str], index: bool = False) -> dict[str, np.ndarray]:
    """With an index: every file as two shards of the library, one after the other."""
    from tfrecord import tfrecord_loader

    rows = []
    for path in shards(folder, "*.tfrecord*"):
        if index:
            beside = path.removesuffix(".tfrecord") + ".idx"
            readers = [tfrecord_loader(path, beside, kinds, shard=(i, 2)) for i in range(2)]
        else:
            compression = "gzip" if path.endswith(".gz") else None
            readers = [tfrecord_loader(path, None, kinds, compression_type=compression)]
        rows += [row for reader in readers for row in reader]
    found = columns({n: b"" if kinds[n] == "byte" else v for n, v in row.items()} for row in rows)
    # a zero at the end would be lost in NumPy's own bytes
    return {
        n: _objects([bytes(row[n]) for row in rows]) if kinds[n] == "byte" else v for n, v in found.items()
    }


def _objects(values: list[bytes]) -> np.ndarray:
    return np.array([value.hex() for value in values])


def tensorflow(folder: str, features: dict[str, Any], compression: str = "") -> dict[str, np.ndarray]:
    """`parse_example` with ``{"column": [shape, dtype]}``; a float64 is decoded from its bytes, as documented."""
    import tensorflow as tf

    wide = {name for name, (_, dtype) in features.items() if dtype == "float64"}
    spec = {
        name: tf.io.FixedLenFeature([], tf.string)
        if name in wide
        else tf.io.FixedLenFeature(shape, getattr(tf, dtype))
        for name, (shape, dtype) in features.items()
    }
    files = shards(folder, "*.tfrecord*")
    dataset = tf.data.TFRecordDataset(files, compression_type=compression).batch(64)
    found: dict[str, list[np.ndarray]] = {name: [] for name in features}
    for batch in dataset:
        for name, values in tf.io.parse_example(batch, spec).items():
            if name in wide:
                values = tf.reshape(tf.io.decode_raw(values, tf.float64), [-1, *features[name][0]])
            found[name].append(values.numpy())
    joined = {name: np.concatenate(values) for name, values in found.items()}
    return {n: np.array([v.hex() for v in a]) if features[n][1] == "string" else a for n, a in joined.items()}


def tensorflow_ragged(folder: str, features: dict[str, Any]) -> dict[str, np.ndarray]:
    """Records of several rows, as documented: `FixedLenSequenceFeature(shape, dtype, allow_missing=True)`."""
    import tensorflow as tf

    spec = {
        name: tf.io.FixedLenSequenceFeature(shape, getattr(tf, dtype), allow_missing=True)
        for name, (shape, dtype) in features.items()
    }
    found = [
        {name: values.numpy() for name, values in tf.io.parse_single_example(record, spec).items()}
        for record in tf.data.TFRecordDataset(shards(folder, "*.tfrecord"))
    ]
    joined = columns(found, blocked=True)
    return {n: np.array([v.hex() for v in a]) if features[n][1] == "string" else a for n, a in joined.items()}


def tensorflow_records(folder: str) -> dict[str, np.ndarray]:
    """Whether each record is the deterministic serialisation of the Example that it parses to."""
    import tensorflow as tf

    records = [record.numpy() for record in tf.data.TFRecordDataset(shards(folder, "*.tfrecord"))]
    same = [tf.train.Example.FromString(r).SerializeToString(deterministic=True) == r for r in records]
    return {"same": np.array(same, bool)}


def webdataset(folder: str, blocked: bool = False, pattern: str = "*.tar") -> dict[str, np.ndarray]:
    import webdataset as wds

    urls = shards(folder, pattern)
    if pattern.endswith(".zst"):
        urls = [f"pipe:zstd -dcq {url}" for url in urls]
    dataset = wds.WebDataset(urls, shardshuffle=False, nodesplitter=None, empty_check=False).decode()
    left_out = ("__url__", "__local_path__", *(["__key__"] if blocked else []))
    return columns(({k: v for k, v in row.items() if k not in left_out} for row in dataset), blocked=blocked)


def wids(folder: str, order: list[int]) -> dict[str, np.ndarray]:
    """Random access: the samples of the given numbers, in that order."""
    from wids import ShardListDataset

    with tempfile.TemporaryDirectory() as cache:
        dataset = ShardListDataset(os.path.join(folder, "wids.json"), cache_dir=cache, keep=True)
        if len(dataset) <= max(order):
            raise IndexError(f"{len(dataset)} samples")
        keep = [{k: v for k, v in dataset[i].items() if k == "__key__" or k.startswith(".")} for i in order]
        return columns(keep)


def hugging_face(folder: str, builder: str, pattern: str) -> dict[str, np.ndarray]:
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache:
        given = {"train": shards(folder, pattern)}
        dataset = load_dataset(builder, data_files=given, split="train", cache_dir=cache)
        names = [name for name in dataset.column_names if name not in ("__url__", "__local_path__")]
        return {name: np.array(dataset[name][:]) for name in names}


def hugging_face_folder(folder: str) -> dict[str, np.ndarray]:
    """A whole export by its card: rows by split, and one column of each split."""
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache:
        found = load_dataset(folder, cache_dir=cache)
        return {
            f"{split}/{name}": np.array(dataset[name][:])
            for split, dataset in found.items()
            for name in dataset.column_names
        }


def hugging_face_stream(folder: str, builder: str, pattern: str) -> dict[str, np.ndarray]:
    from datasets import load_dataset

    given = {"train": shards(folder, pattern)}
    return columns(load_dataset(builder, data_files=given, split="train", streaming=True))


def polars(folder: str, pattern: str) -> dict[str, np.ndarray]:
    import polars as pl

    read = pl.read_ipc if pattern.endswith(".arrow") else pl.read_parquet
    frame = pl.concat([read(path) for path in shards(folder, pattern)])
    return {name: np.array(frame[name].to_list()) for name in frame.columns}


def pandas(folder: str, pattern: str) -> dict[str, np.ndarray]:
    import pandas as pd

    frame = pd.concat([pd.read_parquet(path) for path in shards(folder, pattern)])

    def plain(value: Any) -> Any:
        return [plain(v) for v in value] if isinstance(value, np.ndarray) else value

    return {name: np.array([plain(value) for value in frame[name]]) for name in frame.columns}


def pyarrow_dataset(folder: str, pattern: str) -> dict[str, np.ndarray]:
    import pyarrow.dataset as ds

    table = ds.dataset(shards(folder, pattern), format=pattern.removeprefix("*.")).to_table()
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def torch_numpy(folder: str, names: list[str]) -> dict[str, np.ndarray]:
    """PyTorch's own loader over the `.npy` files of the first shard."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    arrays = [np.load(shards(os.path.join(folder, name), "*.npy")[0]) for name in names]
    loader = DataLoader(TensorDataset(*[torch.from_numpy(array) for array in arrays]), batch_size=16)
    batches = list(loader)
    return {name: torch.cat([batch[i] for batch in batches]).numpy() for i, name in enumerate(names)}


def featureflow_tf(folder: str, batch_size: int = 16) -> dict[str, np.ndarray]:
    """featureflow's own loader as a `tf.data.Dataset`."""
    from featureflow.loaders.shards import load_shards

    dataset = load_shards(folder).tf(batch_size, "train", seed=3, tail="partial")
    rows = [{name: values.numpy() for name, values in batch.items()} for batch in dataset]
    found = columns(rows, blocked=True)
    return {n: np.array([v.decode() for v in a]) if a.dtype.kind in "SO" else a for n, a in found.items()}


def featureflow_jax(folder: str, batch_size: int = 16, skip: int = 0) -> dict[str, np.ndarray]:
    """featureflow's own loader as JAX arrays; `skip` batches are read by a loader whose state the next one takes."""
    import jax

    from featureflow.loaders.shards import load_shards

    first = load_shards(folder).jax(batch_size, "train", seed=3, tail="partial")
    batches = iter(first)
    rows = [next(batches) for _ in range(skip)]
    rest = load_shards(folder).jax(batch_size, "train", seed=3, tail="partial")
    rest.load_state_dict(first.state_dict())
    rows += list(rest)
    # JAX would narrow doubles in silence: they stay NumPy arrays
    right = all(isinstance(row["x"], jax.Array) and isinstance(row["amount"], np.ndarray) for row in rows)
    return {**columns(rows, blocked=True), "arrays": np.array([right])}


READERS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    name: value for name, value in list(globals().items()) if callable(value) and not name.startswith("_")
}

if __name__ == "__main__":
    reader, folder, out = sys.argv[1:4]
    np.savez(out, **READERS[reader](folder, **json.loads(sys.argv[4] if len(sys.argv) > 4 else "{}")))
