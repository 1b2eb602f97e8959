"""What happens to values: nulls, narrowing, fills, indicators, the matrix, normalisation."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from unit.export.small_dataset import export, read_split, write_version

from featureflow.core.errors import ComputeError, PlanError
from featureflow.core.roles import Roles

N = 200


def version(folder: Path, columns: dict[str, Any], *, split: list[str] | None = None, **given: Any) -> Any:
    """A dataset of these feature columns, an id, a label and maybe a split."""
    n = len(next(iter(columns.values())))
    table = pa.table(
        {
            "id": pa.array(range(n)),
            **columns,
            "label": pa.array([i % 2 for i in range(n)]),
            **({"split": pa.array(split)} if split else {}),
        }
    )
    roles = Roles(keys=("id",), features=tuple(columns), labels=("label",), split="split" if split else None)
    return write_version(table, folder / "version", given.pop("cuts", (n // 3,)), roles=roles, **given)


def exported(folder: Path, columns: dict[str, Any], *, split: list[str] | None = None, **given: Any) -> Any:
    """Export in the spine's order, and read it back."""
    manifest = export(version(folder, columns, split=split), folder / "out", shuffle=False, **given)
    return manifest, pa.concat_tables([read_split(manifest, folder / "out", s) for s in manifest.splits])


# ---------------------------------------------------------------- nulls


def test_all_columns_with_nulls_are_named_at_once(tmp_path: Path) -> None:
    columns = {
        "f": pa.array([None if i % 10 == 0 else 1.0 for i in range(N)]),
        "nan": pa.array([float("nan") if i < 3 else 1.0 for i in range(N)]),
        "i": pa.array([None if i > 150 else i for i in range(N)]),
        "s": pa.array([None if i == 7 else "x" for i in range(N)]),
        "ok": pa.array([1.0] * N),
        "v": pa.array([[1.0, None] if i == 5 else [1.0, 2.0] for i in range(N)], pa.list_(pa.float64(), 2)),
        "w": pa.array([None if i == 6 else [1, 2] for i in range(N)], pa.list_(pa.int64(), 2)),
    }
    with pytest.raises(ComputeError) as caught:
        exported(tmp_path, columns)
    text = str(caught.value)
    assert "nulls in 6 columns: i (49, feature), f (20, feature), nan (3, feature), s (1, feature)" in text
    assert "v (1, feature), w (1, feature)" in text
    assert "ok" not in text.partition("Give")[0]
    for advice in ("fill:", "indicator:", "impute", "nulls: nan"):
        assert advice in text
    assert not (tmp_path / "out/manifest.json").exists()


def test_nulls_of_rows_that_are_left_out_do_not_count(tmp_path: Path) -> None:
    split = ["embargoed" if i < 50 else "train" for i in range(N)]
    columns = {"f": pa.array([None if i < 50 else 1.0 for i in range(N)])}
    manifest, found = exported(tmp_path, columns, split=split)
    assert found.num_rows == 150
    assert manifest.rows["embargoed"] == 50


def test_nan_for_floating_columns_only(tmp_path: Path) -> None:
    columns = {
        "f": pa.array([None if i % 4 == 0 else float(i) for i in range(N)]),
        "v": pa.array([[None, 1.0] if i == 3 else None if i == 4 else [2.0, 1.0] for i in range(N)],
                      pa.list_(pa.float64(), 2)),
    }  # fmt: skip
    _, found = exported(tmp_path, columns, nulls="nan")
    assert found["f"].null_count == 0
    np.testing.assert_array_equal(
        found["f"].to_numpy(), np.array([np.nan if i % 4 == 0 else i for i in range(N)], np.float32)
    )
    vectors = np.array(found["v"].to_pylist())
    np.testing.assert_array_equal(vectors[2:6], [[2, 1], [np.nan, 1], [np.nan, np.nan], [2, 1]])
    with pytest.raises(ComputeError, match=r"nulls in 1 column: i \(1, feature\)"):
        exported(tmp_path / "2", {"i": pa.array([None, 1, 2])}, nulls="nan")


def test_fill(tmp_path: Path) -> None:
    columns = {
        "f": pa.array([None, 1.5, float("nan")]),
        "i": pa.array([1, None, 3], pa.int16()),
        "b": pa.array([True, None, False]),
        "s": pa.array(["x", None, "é"]),
        "t": pa.array([None, 1, 2], pa.timestamp("us", "UTC")),
        "d": pa.array([None, 1, 2], pa.date32()),
        "v": pa.array([[1.0, None], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        "m": pa.array([Decimal("1.5"), None, Decimal("2.25")], pa.decimal128(10, 2)),
    }
    fill = {
        "f": -1,
        "i": 9,
        "b": True,
        "s": "leer",
        "t": "2026-01-01T00:00:00Z",
        "d": "2026-01-02",
        "v": 7.5,
        "m": 0,
    }
    manifest, found = exported(tmp_path, columns, fill=fill)
    assert found["f"].to_pylist() == [-1.0, 1.5, -1.0]
    assert found["i"].to_pylist() == [1, 9, 3] and found["i"].type == pa.int16()
    assert found["b"].to_pylist() == [True, True, False]
    assert found["s"].to_pylist() == ["x", "leer", "é"]
    assert str(found["t"][0]).startswith("2026-01-01 00:00:00")
    assert str(found["d"][0]) == "2026-01-02"
    assert found["v"].to_pylist() == [[1.0, 7.5], [7.5, 7.5], [3.0, 4.0]]
    assert found["m"].to_pylist() == [1.5, 0.0, 2.25] and found["m"].type == pa.float32()
    assert all(c.role == "feature" for c in manifest.columns[1:-1])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("i", 1.5),
        ("i", "x"),
        ("i", 2**70),
        ("f", "x"),
        ("f", 1e39),
        ("s", 1),
        ("b", 1),
        ("i", True),
        ("f", None),
    ],
)
def test_a_fill_that_does_not_fit(tmp_path: Path, column: str, value: object) -> None:
    columns = {"i": pa.array([1]), "f": pa.array([1.0]), "s": pa.array(["x"]), "b": pa.array([True])}
    with pytest.raises(PlanError, match=rf"export\.fill\.{column}: .* is no value of a column of type"):
        exported(tmp_path, columns, fill={column: value})


def test_indicator(tmp_path: Path) -> None:
    columns = {"f": pa.array([None, 1.5, 2.0]), "i": pa.array([1, None, 3]), "s": pa.array(["x", None, "y"])}
    manifest, found = exported(tmp_path, columns, indicator=["f", "i", "s"], fill={"i": -1})
    assert found.schema.names == ["id", "f", "f_missing", "i", "i_missing", "s", "s_missing", "label"]
    assert found["f"].to_pylist() == [0.0, 1.5, 2.0]
    assert found["f_missing"].to_pylist() == [True, False, False]
    assert found["i"].to_pylist() == [1, -1, 3]
    assert found["i_missing"].to_pylist() == [False, True, False]
    assert found["s"].to_pylist() == ["x", "", "y"]
    assert {c.name: c.role for c in manifest.columns}["f_missing"] == "indicator"
    _, nan = exported(tmp_path / "nan", columns, indicator=["f", "i", "s"], nulls="nan")
    assert np.isnan(nan["f"][0].as_py()) and nan["i"].to_pylist() == [1, 0, 3]


def test_options_that_name_unknown_columns(tmp_path: Path) -> None:
    columns = {"amount": pa.array([1.0])}
    for given in ({"fill": {"amonut": 1}}, {"indicator": ["amonut"]}, {"normalize": {"columns": ["amonut"]}}):
        with pytest.raises(PlanError, match=r"'amonut' is not exported\. Did you mean 'amount'"):
            exported(tmp_path, columns, **given)
    with pytest.raises(PlanError, match="'label' is no numeric feature"):
        exported(tmp_path, columns, normalize={"columns": ["label"]})
    with pytest.raises(PlanError, match="'amount_missing' is there already"):
        exported(tmp_path, {**columns, "amount_missing": pa.array([1])}, indicator=["amount"])


# ---------------------------------------------------------------- types


def test_narrowing_refuses_what_does_not_fit(tmp_path: Path) -> None:
    columns = {"f": pa.array([1.0] * 99 + [-1e39])}
    with pytest.raises(
        ComputeError, match=r"'f' has the value .*-1e\+39.*float32 can't hold.*float: float64"
    ):
        exported(tmp_path, columns)
    _, found = exported(tmp_path, columns, float="float64")
    assert found["f"].type == pa.float64() and found["f"][99].as_py() == -1e39
    _, infinite = exported(tmp_path / "2", {"f": pa.array([float("inf"), 3.4028234e38])})
    assert infinite["f"].to_pylist() == [float("inf"), float(np.float32(3.4028234e38))]
    with pytest.raises(ComputeError, match="float32 can't hold"):
        exported(tmp_path / "3", {"f": pa.array([3.4028236e38])})


def test_narrowing_is_reported(tmp_path: Path) -> None:
    import json

    exported(tmp_path, {"exact": pa.array([0.5, 1.0]), "tenth": pa.array([0.1, 0.5])})
    columns = json.loads((tmp_path / "out/stats.json").read_text())["columns"]
    assert columns["exact"]["narrowing_error"] == 0.0
    assert columns["tenth"]["narrowing_error"] == abs(float(np.float32(0.1)) - 0.1) / 0.1


@pytest.mark.parametrize(
    ("given", "kept"),
    [("float32", pa.float32()), ("float64", pa.float64()), ("keep", pa.float64())],
)
def test_types_of_floats(tmp_path: Path, given: str, kept: pa.DataType) -> None:
    columns = {
        "d": pa.array([1.0, 2.0]),
        "s": pa.array([1.0, 2.0], pa.float32()),
        "m": pa.array([Decimal("1.25"), Decimal("-2.50")], pa.decimal128(20, 2)),
        "v": pa.array([[1.0], [2.0]], pa.list_(pa.float64(), 1)),
        "l": pa.array([[1.0, 2.0], []], pa.list_(pa.float64())),
        "u": pa.array([1, 2**64 - 1], pa.uint64()),
        "i": pa.array([-(2**62), 5]),
        "c": pa.array(["a", "b"]).dictionary_encode(),
    }
    manifest, found = exported(tmp_path, columns, float=given)
    kinds = {name: found.schema.field(name).type for name in columns}
    assert kinds["d"] == kinds["m"] == kept
    assert kinds["v"] == pa.list_(kept, 1)
    assert kinds["l"] == pa.list_(kept)
    assert kinds["s"] == (pa.float64() if given == "float64" else pa.float32())
    assert found["i"].to_pylist() == [-(2**62), 5]
    assert found["u"].to_pylist() == [1, 2**64 - 1]
    assert found["m"].to_pylist() == [1.25, -2.5]
    assert found["l"].to_pylist() == [[1.0, 2.0], []]
    assert found["c"].type == pa.string() and found["c"].to_pylist() == ["a", "b"]
    assert manifest.schema == found.schema


def test_keys_and_times_are_never_narrowed(tmp_path: Path) -> None:
    table = pa.table({"k": pa.array([0.1, 2.0**53 - 1]), "f": pa.array([1.0, 2.0])})
    rows = write_version(table, tmp_path / "v", roles=Roles(keys=("k",), features=("f",)))
    manifest = export(rows, tmp_path / "out", shuffle=False)
    assert read_split(manifest, tmp_path / "out", "all")["k"].to_pylist() == [0.1, 2.0**53 - 1]


def test_lists_of_any_length_are_for_arrow_and_parquet(tmp_path: Path) -> None:
    columns = {"l": pa.array([["a", "bc"], [], ["ü"]]), "n": pa.array([[1, 2], [3], []])}
    for form in ("arrow", "parquet"):
        _, found = exported(tmp_path / form, columns, format=form)
        assert found["l"].to_pylist() == [["a", "bc"], [], ["ü"]]
        assert found["n"].to_pylist() == [[1, 2], [3], []]
    with pytest.raises(ComputeError, match="'l'"):
        exported(tmp_path, columns, format="npy")
    nulls = {"l": pa.array([[1.0, None], None, [float("nan")]])}
    with pytest.raises(ComputeError, match=r"l \(3, feature\)"):
        exported(tmp_path, nulls)


# ---------------------------------------------------------------- matrix


def test_matrix(tmp_path: Path) -> None:
    columns = {
        "a": pa.array([1.0, None, 3.0]),
        "s": pa.array(["x", "y", "z"]),
        "i": pa.array([1, 2, 3]),
        "v": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float64(), 2)),
        "b": pa.array([True, False, True]),
        "f": pa.array([0.1, 0.2, 0.3], pa.float32()),
    }
    manifest, found = exported(tmp_path, columns, layout="matrix", indicator="a", fill={"a": -1})
    assert found.schema.names == ["id", "x", "s", "v", "label"]
    assert found["x"].type == pa.list_(pa.float32(), 5)
    x = next(c for c in manifest.columns if c.name == "x")
    assert (x.names, x.shape, x.role, x.dtype) == (
        ("a", "a_missing", "i", "b", "f"),
        (5,),
        "feature",
        "float",
    )
    tenths = [float(np.float32(t)) for t in (0.1, 0.2, 0.3)]
    assert found["x"].to_pylist() == [
        [1.0, 0.0, 1.0, 1.0, tenths[0]],
        [-1.0, 1.0, 2.0, 0.0, tenths[1]],
        [3.0, 0.0, 3.0, 1.0, tenths[2]],
    ]
    assert manifest.roles.features == ("a", "s", "i", "v", "b", "f")
    with pytest.raises(PlanError, match="makes a column 'x'"):
        exported(tmp_path / "2", {"x": pa.array(["u"]), "a": pa.array([1.0])}, layout="matrix")
    _, alone = exported(tmp_path / "3", {"x": pa.array([2.0])}, layout="matrix")
    assert alone["x"].to_pylist() == [[2.0]]


@pytest.mark.parametrize("given", ["float32", "float64"])
def test_matrix_is_as_wide_as_asked_for(tmp_path: Path, given: str) -> None:
    columns = {"a": pa.array([0.1]), "i": pa.array([2**24 + 1])}
    _, found = exported(tmp_path, columns, layout="matrix", float=given)
    kind = np.dtype(given).type
    assert found["x"].to_pylist() == [[float(kind(0.1)), float(kind(2**24 + 1))]]


# ---------------------------------------------------------------- normalisation


def spread() -> tuple[dict[str, Any], list[str], np.ndarray]:
    r = np.random.default_rng(0)
    split = ["train" if i % 3 else "test" for i in range(N)]
    values = 1e9 + r.normal(size=N)  # a deviation that float32 could not see
    columns = {
        "big": pa.array(values),
        "same": pa.array([4.0] * N),
        "i": pa.array(r.integers(0, 9, N)),
        "v": pa.FixedSizeListArray.from_arrays(pa.array(r.normal(3, 2, size=2 * N)), 2),
    }
    return columns, split, np.array(split) == "train"


@pytest.mark.parametrize("layout", ["columns", "matrix"])
def test_baked_normalisation_fits_train_only_in_float64(tmp_path: Path, layout: str) -> None:
    columns, split, train = spread()
    big = columns["big"].to_numpy()
    manifest, found = exported(
        tmp_path, columns, split=split, normalize={"apply": "bake"}, layout=layout, float="float32"
    )
    ids = found["id"].to_numpy()
    wanted = ((big - big[train].mean()) / big[train].std())[ids]
    if layout == "matrix":
        assert next(c for c in manifest.columns if c.name == "x").names == ("big", "same", "i")
        rows = np.array(found["x"].to_pylist())
        got, same, whole = rows[:, 0], rows[:, 1], rows[:, 2]
    else:
        got, same, whole = (found[name].to_numpy() for name in ("big", "same", "i"))
        assert found["big"].type == pa.float32()
    np.testing.assert_allclose(got, wanted, atol=2e-7, rtol=2e-7)
    assert (same == 0).all()
    assert (whole == columns["i"].to_numpy()[ids]).all(), "integers are not normalised unless asked for"
    vectors = np.array(columns["v"].to_pylist())
    np.testing.assert_allclose(
        np.array(found["v"].to_pylist()),
        ((vectors - vectors[train].mean()) / vectors[train].std())[ids],
        atol=1e-6,
    )
    assert manifest.normalization == {}


def test_normalisation_for_the_loader(tmp_path: Path) -> None:
    columns, split, train = spread()
    manifest, found = exported(tmp_path, columns, split=split, normalize={"columns": ["i", "same"]})
    whole = columns["i"].to_numpy()
    assert set(manifest.normalization) == {"i", "same"}
    assert manifest.normalization["same"] == {"mean": 4.0, "scale": 1.0}
    assert manifest.normalization["i"]["mean"] == pytest.approx(whole[train].mean(), rel=1e-15)
    assert manifest.normalization["i"]["scale"] == pytest.approx(whole[train].std(), rel=1e-15)
    assert (found["i"].to_numpy() == whole[found["id"].to_numpy()]).all()
    minmax, _ = exported(
        tmp_path / "2", columns, split=split, normalize={"method": "minmax", "columns": ["i"]}
    )
    assert minmax.normalization["i"] == {
        "mean": float(whole[train].min()),
        "scale": float(np.ptp(whole[train])),
    }


def test_normalisation_needs_finite_train_values(tmp_path: Path) -> None:
    split = ["train", "train", "test"]
    with pytest.raises(ComputeError, match="'f' has infinite values"):
        exported(tmp_path, {"f": pa.array([1.0, float("inf"), 2.0])}, split=split, normalize="standard")
    exported(tmp_path / "2", {"f": pa.array([1.0, 2.0, float("inf")])}, split=split, normalize="standard")
    with pytest.raises(ComputeError, match="'f' has no value"):
        exported(tmp_path / "3", {"f": pa.array([1.0])}, split=["test"], normalize="standard")


def test_baked_integers_become_floats(tmp_path: Path) -> None:
    manifest, found = exported(
        tmp_path, {"i": pa.array([1, 3])}, normalize={"apply": "bake", "columns": ["i"]}, float="float32"
    )
    assert found["i"].type == pa.float32() and found["i"].to_pylist() == [-1.0, 1.0]
    assert next(c.dtype for c in manifest.columns if c.name == "i") == "float"
