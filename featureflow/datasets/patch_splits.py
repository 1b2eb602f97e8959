"""Splits of patches: no value of the grid is in the patches of two splits.

A patch that lies across a border between two splits is in neither: it is embargoed.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.errors import CheckFailed
from featureflow.core.roles import EMBARGOED
from featureflow.datasets.splits import SPLIT as DRAW
from featureflow.datasets.splits import ClassCounts, SplitColumns, SplitCounts, assign_splits
from featureflow.datasets.thresholds import Thresholds
from featureflow.kernels.draws import even_draws
from featureflow.plan.patches import PATCH, PatchLayout, PatchSpine, start_column
from featureflow.spec.splits import Split

Longs = NDArray[np.int64]


def split_patches(
    table: pa.Table,
    split: Split,
    spine: PatchSpine,
    *,
    keys: tuple[str, ...],
    time: str | None,
    row_ids: Longs,
    before: ClassCounts | None = None,
) -> SplitColumns:
    """Find the split of each patch; parameters as of `assign_splits`.

    Notes
    -----
    By time: the patch's time says which split it is in; one whose first step is in the time of another split is
    embargoed. By block: every block of the grid is in one split; a patch is in the split of its blocks, and embargoed
    if they are in several. Blocks are drawn at random; of blocks in space alone, shares of their number are met as
    nearly as can be, and with blocks in time, too, steps that are added move no block. Otherwise patches are rows like
    all others: what overlaps is refused.
    """
    if split.by == "block":
        return _by_block(table, split, spine.layout, spine.time)
    found = assign_splits(table, split, keys=keys, time=time, row_ids=row_ids, before=before)
    if split.by != "time" or spine.time not in spine.layout.dims:
        return found
    first = table.column(start_column(spine.time or "")).cast(pa.int64())
    last = table.column(time or "").cast(pa.int64())
    thresholds = Thresholds.of(split)
    begins, _ = thresholds.codes_of_times(np.asarray(first), 0)
    ends, _ = thresholds.codes_of_times(np.asarray(last), 0)
    return _without(found, begins != ends)


def _by_block(table: pa.Table, split: Split, layout: PatchLayout, time_dim: str | None) -> SplitColumns:
    thresholds = Thresholds.of(split)
    low, high = [], []
    starts = layout.starts(np.asarray(table.column(PATCH)))
    n_blocks = []
    for dim, first in zip(layout.dims, starts, strict=True):
        place = layout.dims.index(dim)
        size = split.block.get(dim, layout.sizes[place])
        low.append(first // size)
        high.append((first + layout.patch[place] - 1) // size)
        n_blocks.append(-(-layout.sizes[place] // size))
    every = np.arange(int(np.prod(n_blocks, dtype=np.int64)))
    units = even_draws(every, np.zeros(len(every), np.uint64), seed=split.seed, purpose=DRAW)
    if time_dim not in split.block:  # space does not grow: few blocks meet the shares as nearly as they can
        units[np.argsort(units)] = (every + 0.5) / max(len(every), 1)
    drawn = thresholds.codes_of_shares(units)
    codes = drawn[_numbers(low, n_blocks)] if len(every) else np.zeros(0, np.int64)
    torn = np.zeros(len(codes), np.bool_)
    spans = [range(int((b - a).max(initial=0)) + 1) for a, b in zip(low, high, strict=True)]
    for steps in product(*spans):
        touched = [np.minimum(a + step, b) for a, b, step in zip(low, high, steps, strict=True)]
        torn |= drawn[_numbers(touched, n_blocks)] != codes
    names = pa.array([*thresholds.names, EMBARGOED], pa.string())
    outside = codes == len(thresholds.names)
    made = np.where(torn, len(thresholds.names), codes)
    counts = np.bincount(made, minlength=len(names))
    rows = {name: int(n) for name, n in zip(names.to_pylist(), counts, strict=True) if n or name != EMBARGOED}
    counted = SplitCounts(rows, border=int((torn & ~outside).sum()), outside=int(outside.sum()))
    return SplitColumns(names.take(pa.array(made)), None, counted)


def _numbers(places: list[Longs], sizes: list[int]) -> Longs:
    return np.asarray(np.ravel_multi_index(tuple(places), tuple(sizes)), np.int64)


def _without(found: SplitColumns, torn: NDArray[np.bool_]) -> SplitColumns:
    """Leave patches out of the splits that they are in."""
    names = np.asarray(found.split.to_pylist(), object)
    leaves = torn & (names != EMBARGOED)
    if not leaves.any():
        return found
    names[leaves] = EMBARGOED
    rows = dict(found.counts.rows)
    for name in found.split.filter(pa.array(leaves)).to_pylist():
        rows[name] -= 1
    rows[EMBARGOED] = rows.get(EMBARGOED, 0) + int(leaves.sum())
    fold = found.fold
    if fold is not None:
        fold = pa.array(
            [None if gone else value for value, gone in zip(fold.to_pylist(), leaves, strict=True)],
            pa.int32(),
        )
    counts = replace(found.counts, rows=rows, border=found.counts.border + int(leaves.sum()))
    return SplitColumns(pa.array(names.tolist(), pa.string()), fold, counts)


def refuse_overlaps(layout: PatchLayout, numbers: Longs, splits: pa.Array, where: str) -> None:
    """Refuse patches of different splits that have values in common.

    Raises
    ------
    CheckFailed
        With two of them.
    """
    encoded = splits.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = np.asarray(encoded.indices, np.int64)
    lattice = np.full(layout.counts, -1, np.int64)
    kept = np.array([name != EMBARGOED for name in names], np.bool_)[codes]
    lattice.reshape(-1)[numbers[kept]] = codes[kept]
    reach = [
        min(-(-patch // stride), count)
        for patch, stride, count in zip(layout.patch, layout.stride, layout.counts, strict=True)
    ]
    for steps in product(*(range(-n + 1, n) for n in reach)):
        if steps <= (0,) * len(steps):  # the other half are the same pairs
            continue
        here = tuple(slice(max(0, -s), min(n, n - s)) for s, n in zip(steps, layout.counts, strict=True))
        there = tuple(slice(max(0, s), min(n, n + s)) for s, n in zip(steps, layout.counts, strict=True))
        one, other = lattice[here], lattice[there]
        bad = (one >= 0) & (other >= 0) & (one != other)
        if bad.any():
            place = np.argwhere(bad)[0]
            a = layout.numbers(np.array([[p + h.start] for p, h in zip(place, here, strict=True)]))[0]
            b = layout.numbers(np.array([[p + t.start] for p, t in zip(place, there, strict=True)]))[0]
            raise CheckFailed(
                f"{where}: patches {a} ({names[lattice.reshape(-1)[a]]}) and {b} "
                f"({names[lattice.reshape(-1)[b]]}) have values in common. Nothing was published. Use a stride of "
                "the patch's size, or split `by: block` or `by: time`, which leave such patches out."
            )
