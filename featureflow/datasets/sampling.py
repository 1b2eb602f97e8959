"""Down-sampling of train rows by weights: no row is ever removed from a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.errors import PlanError
from featureflow.datasets.thresholds import text
from featureflow.kernels.draws import draws
from featureflow.kernels.hashing import hash_int64
from featureflow.spec.datasets import Sample
from featureflow.spec.splits import TRAIN

#: purpose of draws, as in `featureflow.datasets.splits`
SAMPLE = 3


def sample_weights(
    values: pa.Array | pa.ChunkedArray,
    sample: Sample,
    *,
    row_ids: NDArray[np.int64],
    split: pa.Array | pa.ChunkedArray | None,
) -> pa.DoubleArray:
    """Weigh each row: ``1 / share`` for kept train rows, 0.0 for those left out, 1.0 for all others.

    Parameters
    ----------
    values
        The column whose values have shares.
    row_ids
        Place of each row in the whole spine. Whether a row is kept is a hash of it and the seed, so that a larger share
        keeps all that a smaller one kept.
    split
        Split of each row; None if the dataset has none, and all rows are train rows.

    Notes
    -----
    Nulls: a null has a share only under the key ``null``.
    Order: a share of 0 leaves out all rows of its value.

    Raises
    ------
    PlanError
        If a value of ``keep`` can't be one of the column's.

    Examples
    --------
    >>> values, rows = pa.array([0, 1, 0, 0, 0, 0]), np.arange(6)
    >>> sample_weights(values, Sample(column="label", keep={0: 0.5}), row_ids=rows, split=None).to_pylist()
    [2.0, 1.0, 2.0, 2.0, 2.0, 0.0]
    """
    shares = np.ones(len(row_ids))
    for value, share in sample.keep.items():
        shares[_equal(values, value, sample)] = share
    if split is not None:
        shares[~np.asarray(pc.equal(split, TRAIN).fill_null(False))] = 1.0
    kept = draws(hash_int64(row_ids, np.ones(len(row_ids), np.bool_)), seed=sample.seed, purpose=SAMPLE)
    # a share of 0 divides nothing: no draw is below it
    return pa.array(np.divide(1.0, shares, out=np.zeros(len(shares)), where=kept < shares))


def _equal(values: pa.Array | pa.ChunkedArray, value: Any, sample: Sample) -> NDArray[np.bool_]:
    """Where the column has a value of ``keep``."""
    if value is None:
        return np.asarray(values.is_null())
    kind = values.type
    try:
        if pa.types.is_boolean(kind) and value not in (0, 1):
            raise pa.ArrowInvalid("not a boolean")
        # a key of YAML that looks like a number was read as one
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
        wanted = pa.scalar(text(value) if texts else value)
        wanted = wanted if pa.types.is_dictionary(kind) else wanted.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise PlanError(
            f"sample: keep: {value!r} can't be a value of {sample.column!r}, a column of {kind}. "
            "Write its values as they are in the data."
        ) from error
    return np.asarray(pc.equal(values, wanted).fill_null(False))
