"""The profile of a real build on threads, through the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from featureflow.cli.app import application

SPEC = """\
featureflow: 1
project: shop
sources:
  orders: {path: data/*.csv, time: ts, columns: {ts: timestamp, card: int64, amount: float64}}
features:
  spend:
    source: orders
    keys: [card]
    aggregate:
      - {column: amount, ops: [count, sum], windows: [1d]}
    derive: {big: "amount_sum_1d > 10"}
    checks: [{column: amount_sum_1d, CHECK}]
"""


def invoke(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two builds, of which the second failed at a check; their ids."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "data").mkdir()
    rows = "".join(f"2026-01-01T{i:02d}:00:00Z,{i % 2},{i}.5\n" for i in range(12))
    (folder / "data" / "d.csv").write_text("ts,card,amount\n" + rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREFLOW_SCRATCH", str(folder / "scratch"))
        patch.chdir(folder)
        Path("featureflow.yaml").write_text(SPEC.replace("CHECK", "min: 0"))
        invoke("build", "-q", "--workers", "2")
        Path("featureflow.yaml").write_text(SPEC.replace("CHECK", "max: 1"))
        invoke("build", "-q", "--full", "--workers", "2", code=1)
        yield sorted(path.name for path in Path("store/runs").iterdir())


def profile_of(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoke("profile", *arguments, "--json").stdout)
    return found


def test_everything_a_build_does_is_in_its_profile(built: list[str]) -> None:
    found = profile_of(built[0])
    assert (found["build_id"], found["status"], found["project"]) == (built[0], "done", "shop")
    stages = {stage["name"]: stage for stage in found["stages"]}
    rekey, compute = stages["spend: re-key orders"], stages["spend: compute"]
    assert {"decode", "compute", "exchange", "idle"} <= set(rekey["spent"])
    assert {"exchange", "compute", "encode", "write"} <= set(compute["spent"])
    families = {name.partition(":")[2] for name in compute["details"]}
    assert {"sort", "windows", "columns", "moments", "derive", "checks", "statistics", "rows"} <= families
    assert (rekey["rows"], compute["rows"]) == (12, 12)
    assert compute["bytes"]["write"] > 0
    assert stages["commit"]["where"] == "driver"
    assert {"plan", "check", "build"} <= set(stages)
    for stage in found["stages"]:
        if stage["seconds"] > 0.005:
            assert stage["accounted"] == pytest.approx(1, abs=0.05), stage["name"]
    assert found["total"]["accounted"] == pytest.approx(1, abs=0.05)
    assert sum(found["total"]["spent"].values()) == pytest.approx(2 * found["seconds"], rel=0.05)
    assert found["workers"][0]["peak_bytes"] > 10_000_000
    assert len(found["timeline"]["tasks"]["lane"]) == sum(worker["tasks"] for worker in found["workers"])


def test_every_task_belongs_to_a_stage_that_was_shown(built: list[str]) -> None:
    """Labels of tasks begin with the name of their stage."""
    found = profile_of(built[0])
    run = json.loads(Path("store", "runs", built[0], "run.json").read_text())
    shown = {stage["name"] for stage in run["stages"]}
    assert {stage["name"] for stage in found["stages"] if stage["where"] == "workers"} <= shown
    shares = {stage["name"]: stage["shares"] for stage in run["stages"]}
    assert sum(shares["spend: compute"].values()) == pytest.approx(1, abs=0.05)
    assert run["bottleneck"].startswith(found["bottleneck"]["text"])


def test_the_latest_build_is_shown_though_it_failed(built: list[str]) -> None:
    found = profile_of()
    assert (found["build_id"], found["status"]) == (built[1], "failed")
    text = invoke("profile").stdout
    assert text.startswith(f"shop · build {built[1]} · failed\n")
    assert "of thread time" in text
    assert "spend: compute" in text


def test_a_page_is_written(built: list[str]) -> None:
    result = invoke("profile", built[0][-8:], "--html", "where.html")
    assert result.stderr == "page: where.html\n"
    page = Path("where.html").read_text()
    assert re.search(rf"<title>shop · build {built[0]}</title>", page)
    assert "<svg" in page
    assert "<script" not in page


def test_an_unknown_build_is_refused(built: list[str]) -> None:
    result = invoke("profile", "nope", code=1)
    assert "no build 'nope'" in result.stderr
    assert built[1] in result.stderr


def test_the_run_report_ends_with_the_bottleneck(built: list[str]) -> None:
    Path("featureflow.yaml").write_text(SPEC.replace("CHECK", "min: 0"))
    text = invoke("build", "-q", "--full").stdout
    assert "mostly" in text
    assert re.search(r"\n  bottleneck: [a-z ]+ \d+%: ", text)
