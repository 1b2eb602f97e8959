"""Batches as PyTorch reads them. The only file of the package that imports torch."""

# mypy: disable-error-code="import-not-found, import-untyped, misc"
# torch has types where it is installed, and need not be
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from featureflow.loaders.batches import Batches, Position
from featureflow.loaders.gather import Batch

_EPOCH_BITS = 24
_WORKER_BITS = 8
_EPOCHS = (1 << _EPOCH_BITS) - 1
_WORKERS = 1 << _WORKER_BITS
_SEEDS = (1 << 31) - 1


class TorchBatches(IterableDataset[dict[str, Any]]):
    """Batches as dicts from column to tensor; text and lists stay Python lists.

    Iterate over it, or give it to ``DataLoader(self, batch_size=None, num_workers=…)``: with workers, each makes
    every n-th batch, and batches come in the same order as without.

    Parameters
    ----------
    batches
        The same as NumPy arrays.

    Notes
    -----
    Epochs advance with workers, too: they agree on the epoch through a shared tensor. An iteration counts as ended
    when every worker has made its last batch. Workers do not tell this object how far the training loop is:
    say it yourself, ``state_dict(batches=n)``. `torchdata`'s StatefulDataLoader asks the workers, and needs no help.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches
        # see `_agreed`; it is the same memory in every worker
        self._shared = torch.zeros(2 + _WORKERS, dtype=torch.int64).share_memory_()
        self._iterations = 0
        self._worker: dict[str, int] | None = None  # which worker it is in
        self._loaded: dict[str, int] | None = None  # which worker the loaded state is of
        self._at: Position | None = None

    def __len__(self) -> int:
        """Batches of a whole epoch of this rank."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of this epoch, or the rest of it after `load_state_dict`."""
        worker = get_worker_info()
        given = iter(self._batches) if worker is None else self._of_worker(worker)
        for batch in given:
            yield {
                name: torch.from_numpy(values) if isinstance(values, np.ndarray) else values
                for name, values in batch.items()
            }

    # ------------------------------------------------------------ position

    @property
    def epoch(self) -> int:
        """The epoch of the running iteration, or of the next."""
        return self._position().epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; a position that was loaded for this very epoch is kept."""
        self._batches.set_epoch(epoch)
        self._shared.zero_()

    def state_dict(self, *, batches: int | None = None) -> dict[str, Any]:
        """Say where it is; see `Batches.state_dict`. In a worker, where the worker is."""
        if self._worker is not None:
            return {**self._batches.state_at(self._position()), **self._worker}
        at = self._position()
        taken = 0 if batches is None else batches * self._batches.global_batch
        return self._batches.state_at(Position(at.epoch, at.samples + taken))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken; see `Batches.load_state_dict`.

        Raises
        ------
        TableError
            If the state is of other shards, another split or another kind of order.
        """
        self._batches.load_state_dict(state)
        self._shared.zero_()
        self._loaded = {name: state[name] for name in ("worker", "workers")} if "workers" in state else None

    def _position(self) -> Position:
        if self._at is not None:
            return self._at
        running, begun, *_ = self._shared.tolist()
        if running in {0, begun}:
            return self._batches.position
        return Position(running & _EPOCHS)

    # ------------------------------------------------------------ workers

    def _of_worker(self, worker: Any) -> Iterator[Batch]:
        """Give every n-th batch, n being the number of workers."""
        own = {"worker": worker.id, "workers": worker.num_workers}
        resumed, self._loaded = self._loaded == own, None
        self._worker = own
        start = self._agreed(worker, resumed=resumed)
        step, size = worker.num_workers, self._batches.global_batch
        # a worker that resumes starts at its own next batch, any other at that of its number
        first = 0 if resumed else worker.id
        self._at = Position(start.epoch, start.samples + first * size)
        for samples, batch in self._batches.batches(start, first=first, step=step, prefetch=0):
            self._at = Position(start.epoch, samples + (step - 1) * size)
            yield batch
        self._shared[2 + worker.id] = self._shared[0]

    def _agreed(self, worker: Any, *, resumed: bool) -> Position:
        """Agree with the other workers on the position: whoever is first writes it down.

        The words that they share: the iteration that runs; the one that began where `load_state_dict` said; and for
        each worker the last that it finished. An iteration is known by the seed that all its workers got, and how
        often a (persistent) worker has started. Several that write at the same time write the same: there is no lock.
        """
        self._iterations += 1
        mine = (worker.seed - worker.id + self._iterations * 7_919) % _SEEDS + 1
        running, begun, *finished = self._shared.tolist()
        loaded = self._batches.start()
        if running == 0 or resumed:
            running = begun = _tag(mine, worker.num_workers, loaded.epoch)
            self._shared[1] = begun
            self._shared[0] = running
        elif running >> (_EPOCH_BITS + _WORKER_BITS) != mine:
            workers = (running >> _EPOCH_BITS) % _WORKERS + 1
            ended = all(tag == running for tag in finished[:workers])
            running = _tag(mine, worker.num_workers, (running & _EPOCHS) + ended)
            self._shared[0] = running
        return loaded if running == begun else Position(running & _EPOCHS)


def _tag(seed: int, workers: int, epoch: int) -> int:
    """Name an iteration: its seed, number of workers and epoch in one word, written at once."""
    return (seed << _WORKER_BITS | workers - 1) << _EPOCH_BITS | epoch
