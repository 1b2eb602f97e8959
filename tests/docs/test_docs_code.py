"""Every code block of the documentation runs, in a folder of its own, or says why it does not."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
import types
from contextlib import redirect_stdout

import pytest
from docs.pages import ALL_BLOCKS, ROOT, blocks

from featureflow.cli import main

INSTALL = re.compile(r"^python3 -m venv \.venv && \.venv/bin/pip install ")
SHARD_PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "shards").glob("*.md"))
RUNS_IN_ORDER = [
    "docs/quick-start.md",
    "docs/versions.md",
    "docs/errors.md",
    "docs/training-sets.md",
    "docs/loading.md",
    "docs/grids.md",
    "docs/grids-steps.md",
    "docs/grids-windows.md",
    "docs/grids-sources.md",
    "docs/grids-datasets.md",
    "docs/grids-reading.md",
    *SHARD_PAGES,
]
EXAMPLES = ["README.md", "CONTRIBUTING.md"]
#: languages that are no code of ours
TEXT = {"text", "yaml", "pycon"}


def command(line):
    """Run one line of a shell block; only `featureflow …` is accepted."""
    words = shlex.split(line, comments=True)
    assert words[0] == "featureflow", line
    with pytest.raises(SystemExit) as stopped:
        main(words[1:])
    assert not stopped.value.code, f"{line}: exit code {stopped.value.code}"


def install_line(block):
    return block.language == "sh" and INSTALL.match(block.text)


def test_every_block_has_a_language_and_is_run_somewhere():
    for block in ALL_BLOCKS:
        assert block.language, f"{block.name}: a block without a language"
        if block.language in TEXT or block.key == "not run" or install_line(block):
            continue
        if block.page == "docs/python-api.md":
            assert block.text.strip() == "import featureflow as ff"
            continue
        run = block.page in RUNS_IN_ORDER or (block.page in EXAMPLES and block.key == "example")
        assert run, f"{block.name}: neither run nor marked <!-- not run: reason -->"
        assert block.language in {"python", "sh"}, block.name


def test_reasons_for_not_running_are_reasons():
    assert [b.name for b in ALL_BLOCKS if b.key == "not run" and len(b.value) < 10] == []


@pytest.mark.parametrize("page", RUNS_IN_ORDER)
def test_page_runs_from_top_to_bottom(page, tmp_path_factory, fraud, monkeypatch):
    tmp_path = tmp_path_factory.mktemp("page")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
    namespace = {"__name__": "__docs__"}
    for block in blocks(ROOT / page):
        if block.key == "setup":
            assert block.value in {
                "the fraud project, built",
                "a store with two versions of the table sensor",
            }
            if "fraud" in block.value:
                shutil.copytree(fraud, tmp_path, dirs_exist_ok=True)
            else:
                build_sensor_table(tmp_path)
        if block.key == "file":
            (tmp_path / block.value).write_text(block.text)
        elif block.key == "not run" or block.language in TEXT:
            continue
        elif block.language == "python":
            exec(compile(block.text, block.name, "exec"), namespace)
        else:
            for line in block.text.splitlines():
                command(line)


@pytest.fixture(scope="module")
def fraud(tmp_path_factory):
    """The project of the fraud template, built: pages begin with a copy of it."""
    import featureflow as ff

    root = tmp_path_factory.mktemp("fraud") / "project"
    shutil.copytree(ROOT / "featureflow" / "demo" / "templates" / "fraud", root)
    scratch = tmp_path_factory.mktemp("fraud-scratch")
    ff.Project(root / "featureflow.yaml", store=str(root / "store"), scratch=str(scratch)).build()
    return root


def build_sensor_table(folder):
    """Two versions of the first table of windows-and-lookups.md, in ./store."""
    import polars as pl

    import featureflow as ff

    spec = next(b for b in ALL_BLOCKS if b.page == "docs/windows-and-lookups.md" and b.language == "yaml")
    (folder / "featureflow.yaml").write_text(spec.text)
    (folder / "readings").mkdir()
    times = ["2026-01-01T06:30", "2026-01-01T08:30", "2026-01-01T10:00"]
    rows = pl.DataFrame({"sensor": [1, 1, 1], "ts": times, "value": [5, 7, 9]})
    moments = pl.col("ts").str.to_datetime(time_zone="UTC")
    for name, part in (("a", rows.head(2)), ("b", rows.tail(1))):
        part.with_columns(moments).write_parquet(folder / "readings" / f"{name}.parquet")
        ff.Project("featureflow.yaml").build()


def cells(table):
    """Cells of a drawn table, row by row, without its borders and its line of types."""
    rows = [[c.strip() for c in line.strip("│ ").split("┆")] for line in table.splitlines() if "┆" in line]
    return [row for row in rows if set(row) != {"---"} and "datetime[μs, UTC]" not in row]


def test_the_readme_shows_what_its_spec_gives(tmp_path, monkeypatch):
    example = {b.value: b for b in blocks(ROOT / "README.md") if b.key == "example"}
    assert len(example["spec"].text.splitlines()) == 20
    (tmp_path / "aircraft.yaml").write_text(example["spec"].text)
    (tmp_path / "featureflow").symlink_to(ROOT / "featureflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(tmp_path / "scratch"))
    import polars as pl

    printed = io.StringIO()
    with redirect_stdout(printed), pl.Config(tbl_width_chars=200, tbl_cols=20):
        exec(compile(example["code"].text, "README.md", "exec"), {})
    assert cells(printed.getvalue()) == cells(example["output"].text)
    assert len(cells(example["output"].text)) == 6
    # the section on training sets goes on with the same file
    (tmp_path / "aircraft.yaml").write_text(example["spec"].text + example["dataset"].text)
    assert len(example["dataset"].text.splitlines()) == 10
    namespace = {}
    exec(compile(example["training"].text, "README.md", "exec"), namespace)
    assert namespace["late"].rows == 336_776
    # the last batch of an epoch: what is left of the train rows
    left = namespace["ff"].load_shards("store/exports/late").rows("train") % 1024
    assert namespace["batch"]["x"].shape[0] == len(namespace["batch"]["late"]) == left > 0


@pytest.mark.parametrize("name", ["aggregation", "source"])
def test_the_examples_of_contributing_run(name, tmp_path, monkeypatch):
    from featureflow.library.aggregations import AGGREGATIONS
    from featureflow.library.sources.registry import FORMATS
    from featureflow.spec.ops import OPS

    example = next(b for b in blocks(ROOT / "CONTRIBUTING.md") if (b.key, b.value) == ("example", name))
    assert len(example.text.splitlines()) < 40
    monkeypatch.chdir(tmp_path)
    for shelf in (AGGREGATIONS, OPS, FORMATS):  # what the example adds goes away again
        for key, value in list(shelf.items()):
            monkeypatch.setitem(shelf, key, value)
        monkeypatch.delitem(shelf, {"aggregation": "spread", "source": "orc"}[name], raising=False)
    before = [set(shelf) for shelf in (AGGREGATIONS, OPS, FORMATS)]
    try:
        module = types.ModuleType("example_of_contributing")
        monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
        exec(compile(example.text, "CONTRIBUTING.md", "exec"), vars(module))
    finally:
        for shelf, names in zip((AGGREGATIONS, OPS, FORMATS), before, strict=True):
            for added in set(shelf) - names:
                del shelf[added]


def test_two_commands_are_the_same_everywhere():
    lines = {b.text.strip() for b in ALL_BLOCKS if install_line(b)}
    assert lines == {
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/featureflow demo",
        'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/pytest -n 2 --dist loadfile',
    }
    ci = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in ci
