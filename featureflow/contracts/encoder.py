"""What an encoder must implement.

An encoder is fitted in three steps, so that train rows may lie in any number of files: a *statistic* of each file is
taken, the statistics are merged, and what they say when merged becomes the fitted parameters. Merging is associative
and commutative and does not round, so what is fitted does not depend on how the rows were cut. Some statistics need
another look at the rows (quantiles of many different values); then the merged state says what to look for next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: dicts, lists, text, numbers, booleans and None
Json = Any


@dataclass(frozen=True, slots=True)
class Rows:
    """What an encoder may know of train rows beside its own column.

    Parameters
    ----------
    labels
        Label columns by name; null where the label is not known.
    hashes
        One for each row, from whose fold it is decided; uint64.
    known
        Encodings that were made elsewhere with what was known at each row's time: one float64 column for each column
        that the encoder makes. Only for ``folds: time``.
    """

    labels: Mapping[str, pa.Array] = field(default_factory=dict)
    hashes: NDArray[np.uint64] | None = None
    known: Sequence[pa.Array] | None = None


class Output(NamedTuple):
    """A column that an encoder makes; an ``extra`` one (an indicator) is not given to the steps that follow."""

    name: str
    type: pa.DataType
    extra: bool = False


@runtime_checkable
class Statistic(Protocol):
    """What has to be known about a column's train rows, as plain mergeable states."""

    def start(self) -> Json:
        """Say what the first pass looks for."""

    def chunk(self, search: Json, column: pa.Array, rows: Rows) -> Json:
        """State of some rows.

        Raises
        ------
        ValueError
            If the values have no such statistic, such as a mean with an infinity.
        """

    def merge(self, first: Json, second: Json) -> Json:
        """State of the rows of both; in any order, with the same final result."""

    def advance(self, search: Json, state: Json) -> tuple[bool, Json]:
        """Whether all is known and what was found; or False and what the next pass looks for."""


@runtime_checkable
class Encoder(Protocol):
    """A named encoder with its parameters as frozen dataclass fields.

    ``kind`` is the column's type as `featureflow.library.encoders.columns.plain` makes it: bool, an integer, double,
    string, date32 or timestamp. Everything fitted is plain JSON.
    """

    name: ClassVar[str]

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """What has to be known to fit; None if nothing.

        Raises
        ------
        TypeError
            If columns of this type can't be encoded so; the message says which can.
        """

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Fitted parameters from what the statistic found."""

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """Columns that are made of a column of this name, in order."""

    def transform(
        self, kind: pa.DataType, fitted: Json, column: pa.Array, train: Rows | None
    ) -> tuple[pa.Array, ...]:
        """Encode rows one by one, no row knows another; ``train`` is given for rows that it was fitted on."""
