"""Fitted encoders: plain JSON that encodes rows, those that it was fitted on and new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.encoder import Json, Output, Rows
from featureflow.core.durations import Duration
from featureflow.core.errors import ComputeError
from featureflow.datasets.chains import Chain, Made
from featureflow.kernels.hashing import hash_rows
from featureflow.library.encoders.columns import plain


def rows_of(table: pa.Table, chain: Chain, identity: tuple[str, ...]) -> Rows:
    """What a chain's target encoder may know of train rows; nothing for other chains."""
    if chain.target is None:
        return Rows()
    target = chain.target[1]
    labels = (
        {str(target.label): plain(table.column(str(target.label)))}
        if target.label in table.column_names
        else {}
    )
    by_fold = isinstance(target.folds, int)
    return Rows(labels, hash_rows(table.select(list(identity))) if by_fold else None)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Encoders that were fitted on train rows.

    Parameters
    ----------
    chains
        One for each encoded column, in the order of the spec.
    labels, time, identity
        As in `Fitting`; only needed to encode train rows.
    """

    chains: tuple[Chain, ...]
    labels: Mapping[str, int]
    time: str | None
    identity: tuple[str, ...]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Encoded columns with their types, in order."""
        return tuple(output for chain in self.chains for output in chain.outputs())

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Columns that are encoded, each with the names of what is made of it."""
        return {chain.column: tuple(output.name for output in chain.outputs()) for chain in self.chains}

    def transform(
        self,
        table: pa.Table,
        train: NDArray[np.bool_] | None = None,
        known: pa.Table | None = None,
    ) -> pa.Table:
        """Encode rows; returns the encoded columns only.

        Parameters
        ----------
        table
            Raw rows.
        train
            Which rows are those that the encoders were fitted on: a target encoder must not know their labels, and
            needs the columns of ``identity`` for them. None: none is.
        known
            What :meth:`known_before` gave for the train rows of the table, in their order.

        Raises
        ------
        ComputeError
            If a value does not fit the column's type, or is one that the encoder was told to refuse.
        """
        found: Made = []
        for place, chain in enumerate(self.chains):
            column = table.column(chain.column)
            made = chain.apply(column, None)
            if train is not None and chain.target is not None and train.any():
                own = self._train(place, table.filter(pa.array(train)), known)
                made = [
                    (output, _put(array, train, new))
                    for (output, array), (_, new) in zip(made, own, strict=True)
                ]
            found += made
        outputs = self.outputs
        arrays = [array for _, array in found]
        return (
            pa.table(arrays, schema=pa.schema([(o.name, o.type) for o in outputs]))
            if arrays
            else pa.table({})
        )

    def _train(self, place: int, rows: pa.Table, known: pa.Table | None) -> Made:
        """Encode train rows with one chain."""
        chain = self.chains[place]
        about = rows_of(rows, chain, self.identity)
        names = self._known_names().get(place)
        if names is not None:
            if known is None or len(known) != len(rows):
                raise ComputeError(
                    f"encode {chain.column!r}: target with folds: time needs what was known before each train row."
                )
            about = Rows(known=[plain(known.column(name)) for name in names])
        return chain.apply(rows.column(chain.column), about)

    def _known_names(self) -> dict[int, list[str]]:
        """Columns of :meth:`known_before`, by the place of the chain."""
        names: dict[int, list[str]] = {}
        for place, chain in enumerate(self.chains):
            if chain.target is not None and chain.target[1].folds == "time":
                fitted = chain.fitted[chain.target[0]]
                names[place] = [f"{chain.column}:{target}" for target in range(len(fitted["targets"]))]
        return names

    @property
    def by_time(self) -> bool:
        """Whether there are target encoders with `folds: time`; their train rows must be gathered."""
        return bool(self._known_names())

    @property
    def gather_columns(self) -> tuple[str, ...]:
        """Raw columns that :meth:`gather` reads."""
        chains = [self.chains[place] for place in self._known_names()]
        labels = [str(chain.target[1].label) for chain in chains if chain.target]
        time = [self.time] if self.time and chains else []
        return tuple(dict.fromkeys([*(chain.column for chain in chains), *labels, *time]))

    def gather(self, table: pa.Table) -> pa.Table:
        """What :meth:`known_before` needs of train rows, as narrow as it can be: codes of categories, labels, times.

        Of all files, one behind the other: about 8 bytes a row for the time, 8 a label, and 4 an encoder.
        """
        columns = {"time": plain(table.column(str(self.time)))}
        for place in self._known_names():
            chain = self.chains[place]
            assert chain.target is not None  # noqa: S101  (`_known_names` takes no others)
            at, target = chain.target
            _, kind, fitted = list(chain.kinds())[at]
            values = chain.apply(table.column(chain.column), None, until=at)[0][1]
            codes = target.codes(kind, fitted, plain(values))
            columns[f"code:{place}"] = pa.array(codes.astype(np.int32))
            columns[f"label:{target.label}"] = plain(table.column(str(target.label)))
        return pa.table(columns)

    def known_before(self, gathered: pa.Table) -> pa.Table:
        """Out-of-time encodings of all train rows, in the order of ``gathered``; any order gives each row the same.

        Notes
        -----
        Time: a row knows the labels of rows of the train split with ``time + delay <= its time`` (and earlier than
        its own), where the delay is the label's, or `label_delay`.
        Cost: O(n log n) for all train rows at once, in one process; about 100 bytes a row beside ``gathered``.
        """
        columns = {}
        for place, names in self._known_names().items():
            chain = self.chains[place]
            assert chain.target is not None  # noqa: S101
            at, target = chain.target
            delay = self.labels.get(str(target.label), 0)
            if target.label_delay is not None:
                delay = Duration.parse(target.label_delay).microseconds or 0
            made = target.known_before(
                chain.fitted[at],
                plain(gathered.column(f"code:{place}")).to_numpy().astype(np.int64),
                gathered.column("time"),
                gathered.column(f"label:{target.label}"),
                delay,
            )
            columns.update(dict(zip(names, made, strict=True)))
        return pa.table(columns)

    def to_json(self) -> Json:
        """Plain values; doubles are written so that they are read back to the last bit."""
        return {
            "chains": [chain.to_json() for chain in self.chains],
            "labels": dict(self.labels),
            "time": self.time,
            "identity": list(self.identity),
        }

    @classmethod
    def from_json(cls, given: Json) -> Fitted:
        """Read what `to_json` wrote."""
        chains = tuple(Chain.from_json(chain) for chain in given["chains"])
        return cls(chains, given["labels"], given["time"], tuple(given["identity"]))


def _put(array: pa.Array, rows: NDArray[np.bool_], new: pa.Array) -> pa.Array:
    """Replace the values of some rows."""
    place = np.arange(len(array))
    place[rows] = len(array) + np.arange(len(new))
    return pa.concat_arrays([array, new]).take(pa.array(place))
