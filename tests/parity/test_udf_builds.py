"""Python functions of a project, end to end: where they are found, when they rebuild, what they may return."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from featureflow.core.errors import ComputeError, SpecError
from featureflow.plan.functions import load_function

SPEC = """
allow_python: true
sources:
  pay:
    path: "{data}/pay/*.parquet"
    time: ts
    fill: {amount: 0}
    __SOURCE__
features:
  spend:
    source: pay
    keys: [card]
    keep: [amount]
    __TABLE__
"""
ROWS = [
    {"card": i % 2, "ts": datetime(2026, 1, 1 + i, tzinfo=UTC), "amount": None if i == 2 else float(i)}
    for i in range(5)
]
TWICE = "def double(x, factor=2.0):\n    return x * factor\n"


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("ffu_"):
            del sys.modules[name]


def spec(table: str = "", source: str = "") -> str:
    return SPEC.replace("__TABLE__", table and f"udf: {{{table}}}").replace(
        "__SOURCE__", source and f"udf: {{{source}}}"
    )


def udf(function: str, column: str = "amount", kind: str = "float64", more: str = "") -> str:
    return f"made: {{function: '{function}', inputs: [{column}], type: {kind}{more}}}"


def made(project: Any) -> list[Any]:
    return project.store.table("spend").to_polars().sort("ts")["made"].to_list()


def test_a_module_beside_the_spec(make_project: Callable[..., Any]) -> None:
    tiny = make_project(spec(udf("ffu_one:double")), pay=ROWS)
    (tiny.folder / "ffu_one.py").write_text(
        "import ffu_helper\n" + TWICE.replace("x * factor", "ffu_helper.times(x, factor)")
    )
    (tiny.folder / "ffu_helper.py").write_text("def times(x, y):\n    return x * y\n")
    tiny.open().build()
    assert made(tiny.open()) == [0.0, 2.0, 0.0, 6.0, 8.0]
    tiny.describe(spec(udf("ffu_one:double", more=", params: {factor: 3}")))
    report = tiny.open().build()
    assert report.tables[0].change == "definition changed"
    assert made(tiny.open()) == [0.0, 3.0, 0.0, 9.0, 12.0]
    assert tiny.open().build().status == "nothing to do"


def test_an_edited_function_rebuilds_and_runs_its_new_text(make_project: Callable[..., Any]) -> None:
    tiny = make_project(spec(udf("ffu_two:double")), pay=ROWS)
    module = tiny.folder / "ffu_two.py"
    module.write_text(TWICE)
    tiny.open().build()
    module.write_text(TWICE.replace("x * factor", "x * factor + 1.0"))
    assert tiny.open().build().tables[0].change == "definition changed"
    assert made(tiny.open()) == [1.0, 3.0, 1.0, 7.0, 9.0]
    module.write_text("# only a comment before it\n" + TWICE.replace("x * factor", "x * factor + 1.0"))
    assert tiny.open().build().status == "nothing to do"
    tiny.describe(spec(udf("ffu_two:double", more=", version: '2'")))
    assert tiny.open().build().tables[0].change == "definition changed"


def test_two_projects_with_modules_of_one_name(make_project: Callable[..., Any]) -> None:
    projects = []
    for name, factor in (("a", 2), ("b", 5)):
        tiny = make_project(spec(udf("ffu_same:double")), name=name, pay=ROWS)
        (tiny.folder / "ffu_same.py").write_text(TWICE.replace("2.0", f"{factor}.0"))
        tiny.open().build()
        projects.append(tiny)
    assert [made(tiny.open())[1] for tiny in projects] == [2.0, 5.0]
    assert [tiny.open().build().status for tiny in projects] == ["nothing to do"] * 2


def test_a_package_and_a_method(make_project: Callable[..., Any]) -> None:
    tiny = make_project(spec(udf("ffu_pack.inner:Maths.double")), pay=ROWS)
    folder = tiny.folder / "ffu_pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "inner.py").write_text(
        "from .more import FACTOR\n\nclass Maths:\n    def double(x):\n        return x * FACTOR\n"
    )
    (folder / "more.py").write_text("FACTOR = 2\n")
    tiny.open().build()
    assert made(tiny.open()) == [0.0, 2.0, 0.0, 6.0, 8.0]


def test_a_function_of_a_source_comes_before_fill_and_can_be_aggregated(
    make_project: Callable[..., Any],
) -> None:
    source = (
        udf("ffu_three:missing", kind="bool") + ", "
        "flag: {function: 'ffu_three:as_number', inputs: [made], type: int64}"
    )
    tiny = make_project(spec(source=source), pay=ROWS)
    tiny.describe(
        tiny.spec.read_text()
        + "    aggregate: [{column: flag, ops: [sum], windows: [9d], closed: right}]\n"
        + "    checks: [{column: flag_sum_9d, max: 1}]\n"
    )
    text = tiny.spec.read_text().replace(
        "    fill:", "    checks: [{column: flag, max: 1, on_fail: quarantine}]\n    fill:"
    )
    tiny.describe(text)
    (tiny.folder / "ffu_three.py").write_text(
        "import polars as pl\n\ndef missing(x):\n    return x.is_null()\n\n"
        "def as_number(x):\n    return x.cast(pl.Int8)\n"
    )
    tiny.open().build()
    table = tiny.open().store.table("spend").to_polars().sort("ts")
    assert table["flag_sum_9d"].to_list() == [0, 0, 1, 0, 1]
    assert table["amount"].to_list() == [0.0, 1.0, 0.0, 3.0, 4.0]


def test_an_entry_point(
    make_project: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "ffu_dist-1.0.dist-info").mkdir(parents=True)
    (site / "ffu_dist-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ffu-dist\nVersion: 1.0\n"
    )
    (site / "ffu_dist-1.0.dist-info" / "entry_points.txt").write_text(
        "[featureflow.udf]\ntwice = ffu_dist:double\n"
    )
    (site / "ffu_dist.py").write_text(TWICE)
    monkeypatch.syspath_prepend(str(site))
    tiny = make_project(spec(udf("twice")), pay=ROWS)
    tiny.open().build()
    assert made(tiny.open()) == [0.0, 2.0, 0.0, 6.0, 8.0]
    tiny.describe(spec(udf("thrice")))
    with pytest.raises(
        SpecError, match=r"features.spend.udf.made.function: udf 'thrice': .*entry point.*there: twice"
    ):
        tiny.open().compile()


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (
            "return x.head(2)",
            "float64",
            "must return a polars Series of 1 values, one a row; it returned a Series of 2",
        ),
        ("return 1.0", "float64", "it returned float"),
        ("return x.to_numpy()", "float64", "it returned ndarray"),
        ("raise KeyError('k')", "float64", "raised KeyError: 'k'"),
        ("return x.cast(pl.String)", "float64", "returned string, but `type:` says float64"),
        ("return x + 0.5", "int64", "returned float64, but `type:` says int64"),
        (
            "return pl.Series([300]).new_from_index(0, len(x))",
            "int8",
            "returned int64, but `type:` says int8",
        ),
        (
            "return pl.Series([2**53 + 1]).new_from_index(0, len(x))",
            "float64",
            "returned int64, but `type:` says",
        ),
    ],
)
def test_what_a_function_may_not_return(
    make_project: Callable[..., Any], body: str, kind: str, message: str
) -> None:
    if body == "return x.head(2)":
        body = "return pl.concat([x, x]).head(2)"
    for place in ("table", "source"):
        name = f"ffu_bad_{place}"
        call = udf(f"{name}:bad", kind=kind)
        tiny = make_project(spec(**{place: call}), name=place, pay=ROWS[:1])
        if place == "source":
            tiny.describe(tiny.spec.read_text().replace("keep: [amount]", "keep: [amount, made]"))
        (tiny.folder / f"{name}.py").write_text(f"import polars as pl\n\ndef bad(x):\n    {body}\n")
        with pytest.raises(ComputeError) as raised:
            tiny.open().build()
        assert f"udf.made: {name}:bad" in str(raised.value)
        assert message in str(raised.value)
        assert tiny.open().store.tables() == []
        del sys.modules[name]


@pytest.mark.parametrize(
    ("body", "kind", "wanted"),
    [
        ("return pl.Series([None]).new_from_index(0, len(x))", "string", [None]),
        ("return pl.Series([3], dtype=pl.Int8).new_from_index(0, len(x))", "float64", [3.0]),
        ("return x / 0.0 * 0.0", "float64", [None]),
        ("return pl.Series([0.25], dtype=pl.Float32).new_from_index(0, len(x))", "float64", [0.25]),
    ],
)
def test_types_that_fit(make_project: Callable[..., Any], body: str, kind: str, wanted: list[Any]) -> None:
    tiny = make_project(spec(udf("ffu_fit:fit", kind=kind)), pay=ROWS[:1])
    (tiny.folder / "ffu_fit.py").write_text(f"import polars as pl\n\ndef fit(x):\n    {body}\n")
    tiny.open().build()
    assert made(tiny.open()) == wanted


@pytest.mark.parametrize(
    ("function", "content", "message"),
    [
        ("ffu_none:f", None, "importing it raised ModuleNotFoundError: No module named 'ffu_none'"),
        ("ffu_broken:f", "1 / 0\n", "importing it raised ZeroDivisionError"),
        ("ffu_syntax:f", "def\n", "importing it raised SyntaxError"),
        ("ffu_without:f", "g = 1\n", "has no 'f'"),
        ("ffu_value:g", "g = 1\n", "that is int, not a function"),
    ],
)
def test_mistakes_are_found_by_compile(
    make_project: Callable[..., Any], function: str, content: str | None, message: str
) -> None:
    for place in ("table", "source"):
        tiny = make_project(spec(**{place: udf(function)}), name=place, pay=ROWS)
        if content is not None:
            (tiny.folder / f"{function.split(':', maxsplit=1)[0]}.py").write_text(content)
        with pytest.raises(SpecError) as raised:
            tiny.open().compile()
        (problem,) = raised.value.problems
        assert problem.path == f"{'features.spend' if place == 'table' else 'sources.pay'}.udf.made.function"
        assert problem.line > 0
        assert message in problem.message
        assert f"udf {function!r}" in problem.message
        sys.modules.pop(function.split(":", maxsplit=1)[0], None)


@pytest.mark.parametrize("place", ["table", "source"])
def test_inputs_that_are_not_there(make_project: Callable[..., Any], place: str) -> None:
    tiny = make_project(spec(**{place: udf("math:sqrt", column="nope")}), pay=ROWS)
    with pytest.raises(SpecError, match=r"udf.made.inputs: .*no column 'nope'"):
        tiny.open().compile()


def test_a_project_without_allow_python_refuses(make_project: Callable[..., Any]) -> None:
    tiny = make_project(spec(udf("ffu_never:f")), pay=ROWS)
    (tiny.folder / "ffu_never.py").write_text("raise RuntimeError\n")
    tiny.describe(tiny.spec.read_text().replace("allow_python: true", ""))
    with pytest.raises(SpecError, match="Python functions are off in this project"):
        tiny.open()
    assert "ffu_never" not in sys.modules


def test_the_folder_hides_nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ffu_last.py").write_text("def f(x):\n    import bisect\n    return bisect.bisect\n")
    (tmp_path / "bisect.py").write_text("bisect = None\n")
    function = load_function("ffu_last:f", str(tmp_path))
    monkeypatch.delitem(sys.modules, "bisect", raising=False)
    assert function(0) is not None


def test_functions_reach_workers_of_a_cluster(make_project: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_project(spec(udf("ffu_far:double")), pay=ROWS)
    (tiny.folder / "ffu_far.py").write_text(TWICE)
    tiny.open(scheduler="local", workers=1, scratch=str(tmp_path / "scratch")).build()
    assert made(tiny.open()) == [0.0, 2.0, 0.0, 6.0, 8.0]


def test_no_rows_call_nothing(make_project: Callable[..., Any]) -> None:
    tiny = make_project(spec(udf("ffu_empty:first")), pay=pl.DataFrame(ROWS).clear())
    (tiny.folder / "ffu_empty.py").write_text("def first(x):\n    return x * x[0]\n")
    assert tiny.open().build().status == "done"
