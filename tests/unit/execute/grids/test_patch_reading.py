"""Patches that are read together, against slices of the whole array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.contracts.cube import CubePiece, Region, slices_of
from featureflow.execute.grids.patch_reading import cut_boxes, owners, read_patches
from featureflow.kernels.patches import box_sums, cut_patches
from featureflow.plan.patches import PatchField, PatchLayout


@dataclass
class MemoryCube:
    outline: xr.Dataset
    chunks: dict[str, tuple[int, ...]]
    reads: list[Region] = field(default_factory=list)

    def pieces(self, variables: Sequence[str] | None = None) -> list[CubePiece]:
        return []

    def read(self, region: Region, variables: Sequence[str]) -> xr.Dataset:
        self.reads.append(region)
        return self.outline[list(variables)].isel(slices_of(region), missing_dims="ignore")


def cut(size: int, chunk: int) -> tuple[int, ...]:
    return tuple(min(chunk, size - start) for start in range(0, size, chunk))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[PatchLayout, dict[str, tuple[int, ...]]]:
    n = draw(st.integers(1, 3))
    sizes = tuple(draw(st.integers(1, 9)) for _ in range(n))
    patch = tuple(draw(st.integers(1, size)) for size in sizes)
    stride = tuple(draw(st.integers(1, size)) for size in sizes)
    dims = ("time", "lat", "lon")[:n]
    chunks = {dim: cut(size, draw(st.integers(1, size))) for dim, size in zip(dims, sizes, strict=True)}
    return PatchLayout(dims, sizes, patch, stride), chunks


def origins(layout: PatchLayout) -> list[tuple[int, ...]]:
    """All of them, in C order, by counting."""
    each = [
        [start for start in range(0, size, step) if start + length <= size]
        for size, length, step in zip(layout.sizes, layout.patch, layout.stride, strict=True)
    ]
    return list(product(*each))


@settings(max_examples=30, deadline=None)
@given(layouts(), st.integers(1, 4000))
def test_boxes_have_every_patch_once_and_know_whose_it_is(
    given_layout: tuple[PatchLayout, dict[str, tuple[int, ...]]], target: int
) -> None:
    layout, chunks = given_layout
    assert [tuple(start) for start in layout.starts(np.arange(layout.n_patches)).T.tolist()] == origins(
        layout
    )
    boxes = cut_boxes(layout, chunks, 4 * prod(layout.patch), target)
    numbers = [box.numbers(layout) for box in boxes]
    assert sorted(np.concatenate(numbers).tolist()) == list(range(layout.n_patches))
    for place, mine in enumerate(numbers):
        assert owners(layout, boxes, mine).tolist() == [place] * len(mine)


@settings(max_examples=30, deadline=None)
@given(layouts(), st.integers(50, 4000))
def test_values_are_those_of_slices(
    given_layout: tuple[PatchLayout, dict[str, tuple[int, ...]]], target: int
) -> None:
    layout, chunks = given_layout
    rng = np.random.default_rng(0)
    turned = layout.dims[::-1]
    data = xr.Dataset(
        {
            "a": (layout.dims, rng.normal(size=layout.sizes).astype(np.float32)),
            "b": (("band", *turned), rng.integers(0, 9, (2, *layout.sizes[::-1])).astype(np.int16)),
            "c": ((layout.dims[-1],), rng.random(layout.sizes[-1]) < 0.5),
        }
    )
    cube = MemoryCube(data, {**chunks, "band": (1, 1)})
    fields = [
        PatchField("a", "feature", "g", "a", layout.dims, layout.patch, "float32"),
        PatchField("b", "feature", "g", "b", ("band", *turned), (2, *layout.patch[::-1]), "int16"),
        PatchField("c", "label", "g", "c", (layout.dims[-1],), (layout.patch[-1],), "bool"),
    ]
    every = origins(layout)
    for box in cut_boxes(layout, chunks, 100, target):
        numbers = rng.permutation(box.numbers(layout))
        cube.reads.clear()
        found = {f.name: v for f, v in read_patches({"g": cube}, fields, layout, layout.starts(numbers))}
        assert len(cube.reads) == 1
        for row, number in enumerate(numbers):
            at = dict(zip(layout.dims, every[number], strict=True))
            sizes = dict(zip(layout.dims, layout.patch, strict=True))
            for name, values in found.items():
                where = {d: slice(at[d], at[d] + sizes[d]) for d in data[name].dims if d in at}
                assert np.array_equal(values[row], data[name].isel(where).values)


def test_chunks_that_patches_do_not_cross_are_read_by_one_box() -> None:
    layout = PatchLayout(("time", "lat"), (64, 64), (4, 8), (4, 8))
    chunks = {"time": cut(64, 16), "lat": cut(64, 32)}
    boxes = cut_boxes(layout, chunks, 4 * 32, 4 * 16 * 32)
    assert len(boxes) == 8
    seen = []
    for box in boxes:
        starts = layout.starts(box.numbers(layout))
        seen.append({(int(a) // 16, int(b) // 32) for a, b in starts.T})
    assert all(len(one) == 1 for one in seen)
    assert len(set.union(*seen)) == 8


@settings(max_examples=30, deadline=None)
@given(layouts(), st.integers(0, 10**6))
def test_sums_over_boxes(given_layout: tuple[PatchLayout, dict[str, tuple[int, ...]]], seed: int) -> None:
    layout, _ = given_layout
    counted = np.random.default_rng(seed).random(layout.sizes) < 0.4
    starts = layout.starts(np.arange(layout.n_patches))
    expected = [
        int(counted[tuple(slice(a, a + n) for a, n in zip(start, layout.patch, strict=True))].sum())
        for start in origins(layout)
    ]
    assert box_sums(counted, starts, layout.patch).tolist() == expected


def test_a_box_outside_of_an_array_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves"):
        cut_patches(np.zeros((4, 4)), np.array([[2], [0]]), (3, 1))


def test_many_dimensions_and_other_strides() -> None:
    values = np.arange(2 * 3 * 2 * 3 * 4).reshape(2, 3, 2, 3, 4)
    starts = np.array([[0, 1], [1, 0], [0, 0], [2, 0], [1, 2]])
    found = cut_patches(values, starts, (1, 2, 2, 1, 2))
    assert np.array_equal(found[1], values[1:2, 0:2, 0:2, 0:1, 2:4])
    turned = np.asfortranarray(np.arange(12).reshape(3, 4))
    assert cut_patches(turned, np.array([[1], [2]]), (2, 2)).tolist() == [[[6, 7], [10, 11]]]


@pytest.mark.slow
def test_many_more_cases() -> None:
    for test in (test_boxes_have_every_patch_once_and_know_whose_it_is,):
        again = given(layouts(), st.integers(1, 4000))(test.hypothesis.inner_test)
        settings(max_examples=500, deadline=None)(again)()
    for test in (test_values_are_those_of_slices,):
        again = given(layouts(), st.integers(50, 4000))(test.hypothesis.inner_test)
        settings(max_examples=500, deadline=None)(again)()
    for test in (test_sums_over_boxes,):
        again = given(layouts(), st.integers(0, 10**6))(test.hypothesis.inner_test)
        settings(max_examples=500, deadline=None)(again)()
