from __future__ import annotations

from pathlib import Path

import pytest

from featureflow.core.errors import SpecError
from featureflow.spec.environment import construct, replace_variables
from featureflow.spec.load import LoadedProject, load_project, load_text
from featureflow.spec.merge import merge_files
from featureflow.spec.yaml_text import parse

SOURCES = "sources:\n  clicks: {path: clicks.parquet, time: ts}\n"


def errors(text: str, **env: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_text(text, "x.yaml", env=env)
    return str(caught.value).splitlines()


def folder(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text)
    return path


def test_a_folder_is_merged(tmp_path: Path) -> None:
    root = folder(
        tmp_path / "configs",
        a=f"featureflow: 1\nproject: p\n{SOURCES}",
        b="featureflow: 1\nfeatures:\n  f: {source: clicks, keys: k}\ntests: [{name: a, given: {}, expect: {}}]\n",
        c="features:\n  g: {source: f, keys: k}\ntests: [{name: b, given: {}, expect: {}}]\n",
        d="",
    )
    (root / "more.yml").write_text("sources:\n  users: {path: users.csv}\n")
    (root / "notes.txt").write_text("not: [yaml")
    loaded = load_project(root)
    assert list(loaded.project.sources) == ["clicks", "users"]
    assert list(loaded.project.features) == ["f", "g"]
    assert [test.name for test in loaded.project.tests] == ["a", "b"]
    assert loaded.root == root
    assert len(loaded.files) == 5
    assert loaded.place(("features", "g", "source")) == (str(root / "c.yaml"), 2, 15)


def test_a_name_in_two_files_shows_both_places(tmp_path: Path) -> None:
    root = folder(tmp_path / "p", a=f"project: one\n{SOURCES}", b=f"project: two\n\n{SOURCES}")
    with pytest.raises(SpecError) as caught:
        load_project(root)
    assert str(caught.value).splitlines() == [
        f"{root}/b.yaml:1:1: project: 'project' is given twice; first in {root}/a.yaml:1. Remove or rename one.",
        f"{root}/b.yaml:4:3: sources.clicks: 'clicks' is given twice; first in {root}/a.yaml:3. Remove or rename one.",
    ]


def test_mistakes_of_all_files_come_together_in_order(tmp_path: Path) -> None:
    root = folder(
        tmp_path / "p",
        a=f"{SOURCES}features:\n  f: {{source: clikcs, keys: k}}\n",
        b="features:\n  g: {source: clicks, keys: k, aggregate: [{ops: maen, windows: 7days}]}\n",
    )
    with pytest.raises(SpecError) as caught:
        load_project(root)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert ["clikcs" in lines[0], "maen" in lines[1], "7days" in lines[2]] == [True] * 3


def test_a_file_that_cannot_be_read_hides_no_mistake_and_makes_none(tmp_path: Path) -> None:
    root = folder(
        tmp_path / "p",
        a="sources: [\n",
        b="features:\n  g: {source: clicks, keys: k, aggregate: [{ops: maen, windows: 1d}]}\n",
    )
    with pytest.raises(SpecError) as caught:
        load_project(root)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "not YAML" in lines[0]
    assert "maen" in lines[1]


@pytest.mark.parametrize("place", ["featureflow.yaml", "configs/fraud.yaml"])
def test_default_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"no featureflow.yaml and no configs/ here"):
        load_project()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(SOURCES)
    assert list(load_project().project.sources) == ["clicks"]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file or folder"):
        load_project(tmp_path / "x.yaml")
    with pytest.raises(SpecError, match=r"no \*.yaml"):
        load_project(tmp_path)
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(SpecError, match="the file is empty"):
        load_project(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"x" * (1 << 21))
    with pytest.raises(SpecError, match="more than 1 MiB"):
        load_project(tmp_path)


def store(written: str) -> str:
    return f"{SOURCES}store: {written}\n"


@pytest.mark.parametrize(
    ("written", "env", "expected"),
    [
        ("${A}/x", {"A": "s3://b"}, "s3://b/x"),
        ("'${A:-d}'", {}, "d"),
        ("${A:-./d}", {"A": ""}, "./d"),
        ("${A:-d}${B}", {"B": "b"}, "db"),
        ("$${A}", {}, "${A}"),
        ("a$b", {}, "a$b"),
        ("'${A}'", {"A": "7"}, "7"),
        ("${A}", {"A": "${B}"}, "${B}"),
    ],
)
def test_variables(written: str, env: dict[str, str], expected: str) -> None:
    assert load_text(store(written), env=env).project.store == expected


def test_a_variable_without_quotes_may_be_a_number() -> None:
    block = SOURCES + "targets:\n  prod:\n    workers: ${N:-4}\n"
    assert load_text(block, env={}).project.targets["prod"].workers == 4
    assert load_text(block, env={"N": "8"}).project.targets["prod"].workers == 8


def test_an_unset_variable_is_a_mistake_with_its_place_and_nothing_else() -> None:
    found = errors("sources:\n  clicks:\n    path: ${LAKE}\n    time: ts\n", LAKES="x")
    assert found[0].startswith("x.yaml:3:11: sources.clicks.path: environment variable 'LAKE' is not set.")
    assert found[0].endswith("Did you mean 'LAKES'? Set it, or write ${LAKE:-default}.")
    assert len(found) == 1


def test_what_is_recorded_holds_no_variable() -> None:
    text = SOURCES + "features:\n  f:\n    source: clicks\n    keys: k\n    derive: {x: \"'${SECRET}'\"}\n"
    loaded = load_text(text, env={"SECRET": "hunter2"})
    path = ("features", "f", "derive", "x")
    assert loaded.project.features["f"].derive == {"x": "'hunter2'"}
    assert loaded.raw_of(path) == "'${SECRET}'"
    assert "hunter2" not in repr(loaded.raw)
    assert loaded.variables == {"SECRET": (path,)}
    assert loaded.raw_of(("features", "nothing", 3)) is None


def test_errors_show_no_value_of_a_variable() -> None:
    text = SOURCES + "features:\n  f:\n    source: ${SECRET}\n    keys: k\n    partition: ${SECRET}\n"
    found = errors(text, SECRET="hunter2")
    assert len(found) == 2
    assert "hunter2" not in "".join(found)
    assert "'${SECRET}'" in found[0]


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FF_TEST_STORE", "there")
    assert load_text(store("${FF_TEST_STORE}")).project.store == "there"


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${1A}", "${A B}", "${A-x}"])
def test_badly_written_variables(text: str) -> None:
    with pytest.raises(ValueError, match="is not a variable"):
        replace_variables(text, {"A": "1"})


@pytest.fixture
def loaded() -> LoadedProject:
    text = (
        "sources:\n"
        "  clicks:\n"
        "    path: clicks.parquet\n"
        "    time: ts\n"
        "features:\n"
        "  f:\n"
        "    source: clicks\n"
        "    keys: [a, b]\n"
        "    aggregate:\n"
        "      - column: x\n"
        "        ops: [sum,\n"
        "              mean]\n"
        "        windows: 1d\n"
    )
    return load_text(text, "x.yaml")


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("features", "f"), 6, 3),
        (("features", "f", "source"), 7, 13),
        (("features", "f", "keys", 1), 8, 15),
        (("features", "f", "aggregate", 0), 10, 9),
        (("features", "f", "aggregate", 0, "ops", 1), 12, 15),
        (("features", "f", "aggregate", 0, "windows", 0), 13, 18),
        (("features", "f", "partition"), 6, 3),
        (("features", "f", "derive", "x"), 6, 3),
        ((), 1, 1),
    ],
)
def test_places(loaded: LoadedProject, path: tuple[str | int, ...], line: int, column: int) -> None:
    assert loaded.place(path) == ("x.yaml", line, column)


def test_a_later_stage_can_report_with_a_place(loaded: LoadedProject) -> None:
    found = loaded.problem(("features", "f", "aggregate", 0, "column"), "unknown column 'x'.")
    assert str(found) == "x.yaml:10:17: features.f.aggregate[0].column: unknown column 'x'."


def test_what_may_be_left_out_is_filled_in() -> None:
    text = """
sources:
  clicks: {path: clicks.parquet, time: ts}
  users: {path: users.csv}
features:
  f: {source: clicks, keys: [u], aggregate: [{ops: count, windows: 1d}]}
  g: {source: clicks, keys: [u], lookup: [{from: f, columns: [count_1d]}]}
  s: {source: users, keys: [u]}
"""
    project = load_text(text).project
    assert project.features["g"].lookup[0].keys == {"u": "u"}
    assert project.features["s"].partition == "none"
    assert project.features["f"].partition == "day"


def test_one_mistake_does_not_hide_those_around_it() -> None:
    found = errors(
        SOURCES + "features:\n"
        "  f:\n"
        "    source: clikcs\n"
        "    keys: []\n"
        "    aggregate:\n"
        "      - {column: x, ops: [maen], windows: [1d]}\n"
        "      - {ops: [min], windows: [1d]}\n"
        "    lookup: [{columns: [a]}, {from: usres, columns: [b], keys: k}]\n"
    )
    expected = ["'clikcs'", "is empty", "'maen'", "min needs a column", "missing field 'from'", "'usres'"]
    assert len(found) == len(expected)
    for line, text in zip(found, expected, strict=True):
        assert text in line
    assert "features.f.aggregate[1].ops[0]" in found[3]


def test_what_could_not_be_read_causes_no_second_mistake() -> None:
    found = errors(
        "sources:\n  clicks: {path: clicks.parquet, time: 5}\n"
        "features:\n"
        "  f: {source: clicks, keys: k, aggregate: [{column: x, ops: [maen], windows: 1d}],"
        " checks: [{column: x_mean_1d, min: 0}]}\n"
        "  g: {source: f, keys: k, aggregate: [{column: x_mean_1d, ops: sum, windows: 1d}],"
        " lookup: [{from: f, columns: [x_mean_1d]}]}\n"
    )
    assert len(found) == 2
    assert "sources.clicks.time" in found[0]
    assert "maen" in found[1]


def test_a_dataset_needs_a_name_and_a_spine() -> None:
    assert "can't be a name" in errors(SOURCES + "datasets: {Train: {}}\n")[0]
    assert "missing field 'spine'" in errors(SOURCES + "datasets: {train: {}}\n")[0]


def test_python_needs_leave() -> None:
    udf = (
        SOURCES
        + "features:\n  f: {source: clicks, keys: k, udf: {z: {function: 'm:f', inputs: k, type: int64}}}\n"
    )
    assert "allow_python" in errors(udf)[0]
    assert load_text("allow_python: true\n" + udf).project.features["f"].udf["z"].function == "m:f"


def test_a_section_that_is_an_alias_does_not_grow_with_its_twin() -> None:
    first, second = (
        parse("datasets: &d {a: 1}\ntargets: *d\n", "a.yaml"),
        parse("datasets: {b: 2}\n", "b.yaml"),
    )
    assert first.root is not None
    assert second.root is not None
    root, problems = merge_files([first.root, second.root])
    assert problems == []
    merged = construct(root, {}, lambda *_: None).expanded
    assert {name: list(section) for name, section in merged.items()} == {
        "datasets": ["a", "b"],
        "targets": ["a"],
    }
