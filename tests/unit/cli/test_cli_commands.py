"""Commands end to end on a tiny project of CSV files, each through its text and its JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from featureflow.cli.app import application

SPEC = """\
featureflow: 1
project: shop
sources:
  orders:
    path: data/*.csv
    time: ts
    columns: {ts: timestamp, card: int64, amount: float64, shop: string}
features:
  spend:
    description: Spend of a card.
    owner: risk@example.com
    tags: [money]
    source: orders
    keys: [card]
    aggregate:
      - {column: amount, ops: [count, sum], windows: [1d]}
    derive: {big: "amount_sum_1d > 10"}
    checks: [{column: amount_sum_1d, min: 0}]
  shops:
    source: orders
    keys: [shop]
    aggregate:
      - {column: amount, ops: [mean], windows: [7d], tail_hop: 1h}
tests:
  - name: a window excludes the event itself
    given: {orders: [{card: 1, ts: 2026-01-01T10:00:00Z, amount: 5.0, shop: a}]}
    expect: {spend: [{card: 1, ts: 2026-01-01T10:00:00Z, amount_count_1d: 0}]}
"""


def write_day(folder: Path, day: int) -> None:
    start = datetime(2026, 1, day, tzinfo=UTC)
    lines = ["ts,card,amount,shop"]
    for i in range(6):
        moment = start + timedelta(hours=3 * i)
        lines.append(f"{moment:%Y-%m-%dT%H:%M:%SZ},{i % 2 + 1},{i + day}.5,{'ab'[i % 2]}")
    (folder / "data" / f"d{day}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with two versions of each table, the first of `spend` tagged."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "data").mkdir()
    (folder / "featureflow.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREFLOW_SCRATCH", str(folder / "scratch"))
        patch.chdir(folder)
        for day in (1, 2):
            write_day(folder, day)
        done("build", "-q")
        done("tag", "spend", "prod")
        write_day(folder, 3)
        done("build", "-q")
        shutil.copytree(folder, folder.with_name("as_built"))
        yield folder


@pytest.fixture
def project(built: Path) -> Path:
    """The project as it was built, in the same place: inputs are known by their paths and times."""
    for path in built.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    shutil.copytree(built.with_name("as_built"), built, dirs_exist_ok=True)
    return built


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(application, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr


def value_of(*arguments: str, code: int = 0) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def test_validate(project: Path) -> None:
    assert invoke("validate").stdout == "shop is valid: 1 source, 2 feature tables, 1 test\n"
    found = value_of("validate", "featureflow.yaml")
    assert found == {
        "valid": True, "project": "shop", "sources": 1, "features": 2, "grids": 0, "datasets": 0,
        "tests": 1, "problems": [],
    }  # fmt: skip
    text = SPEC.replace("[count, sum]", "[count, summ]").replace("[shop]", "[]")
    Path("featureflow.yaml").write_text(text)
    result = invoke("validate")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 2
    assert all(line.startswith("featureflow.yaml:") for line in result.stderr.splitlines())
    found = value_of("validate", code=2)
    assert not found["valid"]
    assert {p["line"] for p in found["problems"]} == {16, 21}


def test_validate_with_an_unknown_target(project: Path) -> None:
    result = invoke("validate", "--target", "prod")
    assert result.exit_code == 2
    assert "prod" in result.stderr


def test_compile(project: Path) -> None:
    text = invoke("compile").stdout
    assert "amount_sum_1d" in text
    assert "orders.amount" in text
    tables = {entry["name"]: entry for entry in value_of("compile")["tables"]}
    columns = {c["name"]: c for c in tables["spend"]["columns"]}
    assert columns["card"] == {"name": "card", "type": "int64", "role": "key", "from": ["orders.card"]}
    assert (columns["ts"]["type"], columns["ts"]["role"]) == ("timestamp", "time")
    assert (columns["amount_sum_1d"]["type"], columns["amount_sum_1d"]["role"]) == ("float64", "window")
    assert (columns["big"]["type"], columns["big"]["role"]) == ("bool", "derived")


def test_compile_prints_the_schema_of_the_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    schema = json.loads(invoke("compile", "--schema").stdout)
    assert "features" in schema["properties"]


def test_plan_of_nothing_new(project: Path) -> None:
    before = sorted(path for path in (project / "store").rglob("*"))
    result = invoke("plan")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].endswith("nothing to do")
    assert result.stdout.count("unchanged") == 2
    assert {t["change"] for t in value_of("plan")["tables"]} == {"unchanged"}
    assert sorted(path for path in (project / "store").rglob("*")) == before


def test_plan_explains_a_change_and_draws_it(project: Path) -> None:
    write_day(project, 4)
    spec = SPEC.replace("windows: [7d]", "windows: [2d]")
    Path("featureflow.yaml").write_text(spec)
    result = invoke("plan", "--graph", "plan.svg")
    assert "task graph: plan.svg" in result.stderr
    assert Path("plan.svg").read_text().startswith("<svg")
    tables = {t["name"]: t for t in value_of("plan")["tables"]}
    spend, shops = tables["spend"], tables["shops"]
    assert spend["change"] == "new data"
    assert "2026-01-04" in spend["compute"]
    assert spend["reuse"] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert spend["estimate"]["files_reused"] == 3
    assert shops["change"] == "definition changed"
    assert len(shops["compute"]) == 4
    assert "tail_hop" in result.stdout
    assert 0 < spend["estimate"]["task_bytes"] < spend["estimate"]["budget_bytes"]


def test_plan_selects(project: Path) -> None:
    names = [t["name"] for t in value_of("plan", "--select", "tag:money")["tables"]]
    assert names == ["spend"]
    assert [t["name"] for t in value_of("plan", "--exclude", "spend shops")["tables"]] == []
    result = invoke("plan", "--select", "spent")
    assert result.exit_code == 2
    assert "spend" in result.stderr


def test_a_range_limits_what_is_computed(project: Path) -> None:
    found = value_of("plan", "--full", "--from", "2026-01-02", "--to", "2026-01-03", "--select", "spend")
    assert found["tables"][0]["compute"] == ["2026-01-02"]


def test_build_reports_and_then_has_nothing_to_do(project: Path) -> None:
    write_day(project, 4)
    result = invoke("build", "--workers", "1", "--memory", "2GB")
    assert result.exit_code == 0
    assert "2 → 3" in result.stdout
    assert "spend: compute: done" in result.stderr
    assert "spend: compute: done" not in result.stdout
    again = invoke("build", "--quiet")
    assert again.exit_code == 0
    assert again.stderr == ""
    assert "nothing to do" in again.stdout
    report = value_of("build", "-q")
    assert [t["version"] for t in report["tables"]] == [None, None]
    assert report["schema_version"] == 1


def test_a_failed_check_is_exit_code_1_and_publishes_nothing(project: Path) -> None:
    Path("featureflow.yaml").write_text(SPEC.replace("min: 0}", "min: 1000}"))
    result = invoke("build", "-q")
    assert result.exit_code == 1
    assert "amount_sum_1d" in result.stderr
    assert [t["version"] for t in value_of("ls")["tables"]] == [2, 2]


def test_the_specs_own_tests(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import featureflow.api
    from featureflow.observe.spec_tests import SpecTestResult

    results = [SpecTestResult("first", True), SpecTestResult("second", True)]
    monkeypatch.setattr(featureflow.api.Project, "test", lambda _: results)
    assert invoke("test").stdout.splitlines() == ["✓ first", "✓ second", "2 of 2 tests passed"]
    assert invoke("test", "-q").stdout.splitlines() == ["2 of 2 tests passed"]
    results[1] = SpecTestResult("second", False, "row 1: n is 2\nexpected 3")
    result = invoke("test", "-q")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "✗ second",
        "    row 1: n is 2",
        "    expected 3",
        "1 of 2 tests passed",
    ]
    found = value_of("test", code=1)
    assert (found["passed"], [t["passed"] for t in found["tests"]]) == (False, [True, False])
    results.clear()
    assert "no tests" in invoke("test").stdout


def test_ls(project: Path) -> None:
    lines = invoke("ls").stdout.splitlines()
    assert lines[0].split()[:4] == ["name", "kind", "version", "rows"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["shops", "table", "2", "18"],
        ["spend", "table", "2", "18"],
    ]
    spend = value_of("ls")["tables"][1]
    assert (spend["rows"], spend["change"], spend["description"]) == (18, "new data", "Spend of a card.")


def test_show(project: Path) -> None:
    text = invoke("show", "spend").stdout
    assert text.startswith("spend@2\n")
    assert "Spend of a card." in text
    assert "amount_sum_1d" in text
    old = value_of("show", "spend@prod", "--rows", "3")
    assert (old["version"], old["rows"], old["tags"]) == (1, 12, ["prod"])
    assert len(old["sample"]) == 3
    columns = {c["name"]: c for c in old["schema"]}
    assert columns["card"] == {
        "name": "card",
        "type": "int64",
        "count": 12,
        "nulls": 0,
        "min": 1,
        "max": 2,
        "sum": 18,
        "mean": 1.5,
    }
    assert old["owner"] == "risk@example.com"
    assert value_of("show", "spend", "--rows", "0")["sample"] == []


def test_show_what_is_not_there(project: Path) -> None:
    result = invoke("show", "spent")
    assert result.exit_code == 1
    assert "spend" in result.stderr


def test_history(project: Path) -> None:
    lines = invoke("history", "spend").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["version", "2", "1"]
    assert "+6" in lines[1]
    assert lines[2].endswith("prod")
    assert [v["version"] for v in value_of("history", "spend", "--limit", "1")["versions"]] == [2]


def test_diff(project: Path) -> None:
    text = invoke("diff", "spend@1", "spend@2").stdout
    assert "12 → 18" in text
    found = value_of("diff", "spend@1", "spend@2")
    assert found["rows"]["compared"] == {"added": 6, "removed": 0, "changed": 0}
    assert found["slices_changed"] == ["2026-01-03"]
    assert found["definition"] == []
    assert "no difference" in invoke("diff", "spend", "spend@2").stdout


def test_diff_of_definitions(project: Path) -> None:
    Path("featureflow.yaml").write_text(SPEC.replace("windows: [1d]", "windows: [1d, 2d]"))
    assert invoke("build", "-q").exit_code == 0
    text = invoke("diff", "spend@2", "spend@3").stdout
    assert "+ column amount_sum_2d" in text
    assert "['1d'] → ['1d', '2d']" in text
    assert "*" in invoke("history", "spend").stdout


def test_lineage(project: Path) -> None:
    assert value_of("lineage", "spend.big")["columns"] == {"big": ["orders.amount"]}
    everything = value_of("lineage", "spend@prod")
    assert (everything["version"], set(everything["columns"])) == (
        1,
        {"card", "ts", "amount_count_1d", "amount_sum_1d", "big"},
    )
    assert "orders.amount" in invoke("lineage", "spend.amount_sum_1d").stdout
    result = invoke("lineage", "spend.bog")
    assert result.exit_code == 1
    assert "big" in result.stderr


def test_tags_move_and_go(project: Path) -> None:
    result = invoke("tag", "spend@2", "prod")
    assert (result.stdout, result.stderr) == ("", "spend@prod is version 2\n")
    assert value_of("show", "spend@prod")["version"] == 2
    assert value_of("tag", "spend", "prod", "--delete") == {"table": "spend", "tag": "prod", "version": None}
    assert invoke("show", "spend@prod").exit_code == 1
    assert invoke("tag", "spend", "Not A Tag").exit_code == 1


def test_restore(project: Path) -> None:
    assert value_of("restore", "spend@1") == {"table": "spend", "restored": 1, "version": 3, "rows": 12}
    assert "(restored)" in invoke("history", "spend").stdout
    assert value_of("show", "spend")["rows"] == 12
    built = value_of("build", "-q")
    assert {t["name"]: t["rows"] for t in built["tables"]} == {"spend": 18, "shops": 18}


def test_gc(project: Path) -> None:
    dry = value_of("gc", "--keep", "1", "--dry-run")
    assert {t["table"]: t["expired"] for t in dry["tables"]} == {"shops": [1], "spend": []}
    assert invoke("show", "shops@1").exit_code == 0
    text = invoke("gc", "shops", "--keep", "1").stdout
    assert text.startswith("shops: versions expired: 1; kept: 1;")
    assert invoke("show", "shops@1").exit_code == 1
    assert invoke("show", "spend@1").exit_code == 0
    assert value_of("gc", "--older-than", "30d")["tables"][0]["expired"] == []
    left = project / "store" / "features" / "never" / "b000-ab12.parquet"
    left.parent.mkdir()
    left.write_bytes(b"1234")
    os.utime(left, (0, 0))
    for names in ([], ["never"], ["features/never"]):
        entries = {t["table"]: t for t in value_of("gc", *names, "--dry-run")["tables"]}
        assert entries["never"] == {**entries["never"], "expired": [], "kept": [], "files": 1, "bytes": 4}
    assert invoke("gc", "never").stdout == "never: versions expired: none; kept: 0; 1 file, 4 B\n"
    assert not left.exists()


def test_verify_finds_a_flipped_byte(project: Path) -> None:
    assert value_of("verify")["ok"]
    assert invoke("verify", "spend@1", "--deep").stdout.startswith("✓ spend@1")
    victim = next((project / "store/features/spend").glob("day=2026-01-01/*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 1
    victim.write_bytes(data)
    found = value_of("verify", "--deep", code=1)
    assert not found["ok"]
    assert [len(t["problems"]) > 0 for t in found["tables"]] == [False, True]
    result = invoke("verify", "spend", "--deep")
    assert result.exit_code == 1
    assert victim.name in result.stdout
    victim.unlink()
    assert "is missing" in invoke("verify", "spend").stdout


def test_verify_of_no_such_table(project: Path) -> None:
    assert invoke("verify", "spent").exit_code == 1


@pytest.mark.parametrize("template", ["fraud", "sensors", "imaging"])
def test_init_makes_a_valid_project_and_overwrites_nothing(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("init", "mine", "--template", template)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "cd mine && featureflow build" in result.stderr
    assert invoke("validate", "mine").exit_code == 0
    spec = tmp_path / "mine" / "featureflow.yaml"
    spec.write_text("mine now")
    again = invoke("init", "mine", "--template", template)
    assert again.exit_code == 1
    assert "featureflow.yaml" in again.stderr
    assert spec.read_text() == "mine now"
    assert invoke("init").exit_code == 1 or (tmp_path / "featureflow.yaml").exists()
