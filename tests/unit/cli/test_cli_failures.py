"""Every kind of error: its exit code, its text, and that nothing of it is on stdout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from featureflow.cli.app import application
from featureflow.core import errors
from featureflow.core.errors import Problem, SpecError

SPEC = "project: p\nsources: {clicks: {path: 'clicks/*.parquet', time: ts}}\n"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATUREFLOW_STORE", raising=False)
    monkeypatch.delenv("FEATUREFLOW_DEBUG", raising=False)


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], Result]:
    def run(error: BaseException) -> Result:
        import featureflow.api

        def build(*_: Any, **__: Any) -> None:
            raise error

        Path("featureflow.yaml").write_text(SPEC)
        monkeypatch.setattr(featureflow.api.Project, "build", build)
        return CliRunner().invoke(application, ["build"])

    return run


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.FeatureflowError, 1),
        (errors.SourceError, 1),
        (errors.ComputeError, 1),
        (errors.CheckFailed, 1),
        (errors.TableError, 1),
        (errors.CorruptionError, 1),
        (errors.CommitConflict, 1),
        (errors.PlanError, 2),
        (errors.Unreachable, 3),
        (errors.CommitUnknown, 4),
    ],
)
def test_exit_codes(fail_with: Callable[[BaseException], Result], kind: type[Exception], code: int) -> None:
    result = fail_with(kind("features.x: it is broken; got 3; do that."))
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == "error: features.x: it is broken; got 3; do that.\n"


def test_notes_are_shown_once(fail_with: Callable[[BaseException], Result]) -> None:
    error = errors.ComputeError("spend, bucket 3 failed 3 times: boom")
    error.add_note("while running: spend, bucket 3")
    error.add_note("file a.parquet, rows 0 to 10")
    error.add_note("file a.parquet, rows 0 to 10")
    assert fail_with(error).stderr == (
        "error: spend, bucket 3 failed 3 times: boom\n  file a.parquet, rows 0 to 10\n"
    )


def test_a_spec_error_is_one_line_for_each_problem(fail_with: Callable[[BaseException], Result]) -> None:
    problems = [
        Problem("b.yaml", 9, 1, "features.y", "second."),
        Problem("b.yaml", 2, 5, "features.x", "first."),
    ]
    result = fail_with(SpecError(problems))
    assert result.exit_code == 2
    assert result.stderr == "b.yaml:2:5: features.x: first.\nb.yaml:9:1: features.y: second.\n"


def test_an_interrupt_is_130_and_says_what_is_kept(fail_with: Callable[[BaseException], Result]) -> None:
    result = fail_with(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr == "interrupted; finished work is kept and will be reused\n"
    assert result.stdout == ""


def test_a_bug_is_short_and_says_how_to_see_more(
    fail_with: Callable[[BaseException], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = fail_with(ZeroDivisionError("division by zero"))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "error: unexpected ZeroDivisionError: division by zero"
    assert "FEATUREFLOW_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("FEATUREFLOW_DEBUG", "1")
    assert "Traceback" in fail_with(ZeroDivisionError("division by zero")).stderr


def test_progress_is_finished_when_a_build_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import featureflow.api
    from featureflow.observe import progress

    finished = []

    class Watched(progress.QuietProgress):
        def finish(self) -> None:
            finished.append(True)

    def build(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    Path("featureflow.yaml").write_text(SPEC)
    monkeypatch.setattr(featureflow.api.Project, "build", build)
    monkeypatch.setattr(progress, "choose_progress", lambda **_: Watched())
    assert CliRunner().invoke(application, ["build"]).exit_code == 130
    assert finished


@pytest.mark.parametrize("command", [["validate"], ["plan"], ["build"], ["compile"], ["test"]])
def test_no_spec_here(command: list[str]) -> None:
    result = CliRunner().invoke(application, command)
    assert result.exit_code == 2
    assert "featureflow.yaml" in result.stderr
    assert "featureflow init" in result.stderr


@pytest.mark.parametrize(
    "command", [["ls"], ["show", "x"], ["history", "x"], ["verify"], ["gc"], ["lineage", "x.y"]]
)
def test_no_store_here(command: list[str]) -> None:
    result = CliRunner().invoke(application, command)
    assert result.exit_code == 1
    assert "--store" in result.stderr


def test_the_store_of_the_environment() -> None:
    result = CliRunner().invoke(application, ["ls"], env={"FEATUREFLOW_STORE": "elsewhere"})
    assert result.exit_code == 0
    assert result.stdout == "elsewhere: no tables yet\n"


def test_the_store_of_the_project_is_what_a_build_uses() -> None:
    Path("featureflow.yaml").write_text(SPEC + "store: mine\ntargets: {prod: {store: theirs}}\n")
    environment = {"FEATUREFLOW_STORE": "elsewhere"}
    assert CliRunner().invoke(application, ["ls"], env=environment).stdout == "mine: no tables yet\n"
    assert CliRunner().invoke(application, ["ls", "--target", "prod"]).stdout == "theirs: no tables yet\n"
    assert CliRunner().invoke(application, ["ls", "--store", "given"]).stdout == "given: no tables yet\n"
