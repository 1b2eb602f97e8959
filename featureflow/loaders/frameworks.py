"""Batches for TensorFlow and JAX, by way of NumPy. Neither is imported before it is used."""

# mypy: disable-error-code="import-not-found, import-untyped"
# neither need be installed
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from featureflow.loaders.batches import MASK, Batches
from featureflow.loaders.gather import Batch


def tf_dataset(batches: Batches) -> Any:
    """Make a ``tf.data.Dataset`` of batches; its last batch may be shorter.

    Raises
    ------
    ImportError
        If TensorFlow is not installed.
    """
    import tensorflow as tf

    signature = {
        column.name: (
            tf.TensorSpec((None,), tf.string)
            if column.dtype is None
            else tf.TensorSpec((None, *column.shape), tf.as_dtype(column.dtype))
        )
        for column in batches.columns
    }
    if batches.reading.tail == "pad":
        signature[MASK] = tf.TensorSpec((None,), tf.bool)

    def texts_as_arrays() -> Iterator[Batch]:
        for batch in batches:
            yield {
                name: values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
                for name, values in batch.items()
            }

    return tf.data.Dataset.from_generator(texts_as_arrays, output_signature=signature)


class JaxBatches:
    """Batches as dicts from column to JAX array; text and lists stay Python lists.

    Parameters
    ----------
    batches
        The same as NumPy arrays.
    device
        Where to put them.
    """

    def __init__(self, batches: Batches, device: Any) -> None:
        import jax

        self._jax, self._batches, self._device = jax, batches, device

    def __len__(self) -> int:
        """Batches of a whole epoch of this rank."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of this epoch, or the rest of it after `load_state_dict`."""
        wide = self._jax.config.jax_enable_x64
        for batch in self._batches:
            yield {
                name: self._jax.device_put(np.ascontiguousarray(values), self._device)
                if isinstance(values, np.ndarray) and (wide or values.dtype.itemsize < 8)
                else values
                for name, values in batch.items()
            }

    def state_dict(self) -> dict[str, Any]:
        """Say where it is; see `Batches.state_dict`."""
        return self._batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken; see `Batches.load_state_dict`."""
        self._batches.load_state_dict(state)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; see `Batches.set_epoch`."""
        self._batches.set_epoch(epoch)
