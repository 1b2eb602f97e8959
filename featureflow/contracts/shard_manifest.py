"""The manifest of exported shards: what is there, byte for byte. Written last; without it there is no export."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from featureflow.contracts.shard_format import ShardOptions
from featureflow.core.errors import CorruptionError, TableError
from featureflow.core.roles import Roles

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file of a shard: path inside the export, size, xxh3_64 of its bytes as 16 hexadecimal digits."""

    path: str
    bytes: int
    xxh3_64: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard: its rows, its files (the first is the shard itself), and what the format's index needs."""

    stem: str
    rows: int
    files: tuple[ShardFile, ...]
    entry: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardColumn:
    """A column of the shards.

    Parameters
    ----------
    dtype
        Arrow's name of the (innermost) type: ``float``, ``double``, ``int64``, ``bool``, ``string``,
        ``timestamp[us, tz=UTC]``; ``list<…>`` where arrow and parquet hold lists of any length.
    shape
        Of one row's value: ``(4, 5, 3)`` for a nested fixed-size list; ``()`` for a scalar.
    role
        As `Roles.of`: feature, label, key, time, weight, fold, indicator, other.
    names
        Of the entries of a matrix column, in order; empty otherwise.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    role: str = "other"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that a reader must know about exported shards.

    Parameters
    ----------
    dataset, version, definition_hash
        What was exported. ``options_hash`` names how.
    format, options
        As written in the spec.
    columns
        In order.
    splits
        Shards by split, in order. A dataset without splits has one, ``all``.
    shuffle
        Seed of the global shuffle; None where rows are in the spine's order.
    rows
        ``{"in": n, "kept": n, "embargoed": n, "sampled_out": n, …}``; kept and the named reasons add up to ``in``.
    normalization
        By column ``{"mean": …, "scale": …}`` that a loader applies; ``{}`` if none or if already applied.
    arrow_schema
        The exact schema, as base64 of Arrow's IPC message.
    """

    dataset: str
    version: int
    definition_hash: str
    options_hash: str
    engine: str
    format: str
    options: ShardOptions
    columns: tuple[ShardColumn, ...]
    roles: Roles
    splits: dict[str, tuple[Shard, ...]]
    shuffle: int | None
    rows: dict[str, int]
    normalization: dict[str, dict[str, float]]
    arrow_schema: str

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every shard."""
        import base64

        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.arrow_schema)))

    def to_json(self) -> str:
        """Readable JSON text, with a digest of what it says; the same manifest gives the same text."""
        content = json.loads(json.dumps({"featureflow_shards": FORMAT_VERSION, **asdict(self)}))
        return json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, place: str) -> Manifest:
        """Read what `to_json` wrote; ``place`` is the path for messages.

        Raises
        ------
        CorruptionError
            If it is not a whole manifest.
        TableError
            If a newer featureflow wrote it.
        """
        try:
            given = json.loads(text)
            # Manifests of exports before this digest was written have none.
            if "digest" in given and given.pop("digest") != _digest(given):
                raise ValueError("its bytes are not those that were written (digest differs)")
            written = given.pop("featureflow_shards")
            if written > FORMAT_VERSION:
                raise TableError(
                    f"{place} was written by a newer featureflow (shards format {written}; this one reads "
                    f"{FORMAT_VERSION} and older). Upgrade featureflow."
                )
            splits = {
                name: tuple(
                    Shard(s["stem"], s["rows"], tuple(ShardFile(**f) for f in s["files"]), s["entry"])
                    for s in shards
                )
                for name, shards in given.pop("splits").items()
            }
            columns = tuple(
                ShardColumn(c["name"], c["dtype"], tuple(c["shape"]), c["role"], tuple(c["names"]))
                for c in given.pop("columns")
            )
            options, roles = ShardOptions(**given.pop("options")), Roles.from_json(given.pop("roles"))
            return cls(options=options, columns=columns, roles=roles, splits=splits, **given)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptionError(
                f"{place} is not a whole manifest of shards: {error!r}. Export again."
            ) from error


def _digest(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
