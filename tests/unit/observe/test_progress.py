from __future__ import annotations

import io
import subprocess
import sys

import pytest

from featureflow.observe.progress import (
    BarProgress,
    LineProgress,
    Progress,
    QuietProgress,
    choose_progress,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_short_stage_is_one_line_at_its_end() -> None:
    out, clock = io.StringIO(), Clock()
    progress = LineProgress(out, clock=clock)
    progress.start("build fraud")
    progress.stage("re-key", 2)
    progress.advance("re-key", rows=1000, bytes=5_000_000)
    clock.now += 2
    progress.advance("re-key", rows=500)
    progress.finish()
    assert lines_of(out) == ["build fraud", "re-key: done, 2 tasks, 1,500 rows, 5.0 MB in 2.0 s"]


def test_a_long_stage_speaks_every_five_seconds_and_not_more_often() -> None:
    out, clock = io.StringIO(), Clock()
    progress = LineProgress(out, clock=clock)
    progress.stage("compute", 100)
    for _ in range(99):
        clock.now += 0.5
        progress.advance("compute", rows=1_000_000)
    shown = lines_of(out)
    assert len(shown) == 9
    assert shown[0] == "compute: 10 of 100 tasks · 10.0M rows · 2.0M rows/s"
    clock.now += 0.5
    progress.advance("compute", rows=1_000_000)
    assert lines_of(out)[-1] == "compute: done, 100 tasks, 100,000,000 rows in 50.0 s"


def test_a_stage_announced_twice_has_the_tasks_of_both() -> None:
    out = io.StringIO()
    progress = LineProgress(out, clock=Clock())
    progress.stage("publish", 1)
    progress.advance("publish")
    progress.stage("publish", 1)
    progress.advance("publish")
    assert lines_of(out) == ["publish: done, 1 task in 0 ms", "publish: done, 2 tasks in 0 ms"]


def test_a_stage_of_no_tasks_is_not_shown() -> None:
    out = io.StringIO()
    progress = LineProgress(out)
    progress.stage("compute", 0)
    progress.finish()
    assert not out.getvalue()


def test_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress = LineProgress()
    progress.start("build x")
    progress.note("a worker was lost")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "build x\nnote: a worker was lost\n"


def bars(columns: int) -> tuple[BarProgress, io.StringIO]:
    from rich.console import Console

    out = io.StringIO()
    return BarProgress(Console(file=out, force_terminal=True, width=columns, color_system=None)), out


@pytest.mark.parametrize("columns", [80, 120])
def test_bars_show_name_count_rows_and_bytes(columns: int) -> None:
    progress, out = bars(columns)
    progress.stage("find repeated rows", 1)  # a plan's own look-ups come before the title
    progress.advance("find repeated rows")
    progress.start("build [fraud]")
    progress.stage("spend: compute [x]", 3)
    progress.advance("spend: compute [x]", tasks=2, rows=2_500_000, bytes=10_000_000)
    progress.note("note [b]")
    progress.finish()
    text = out.getvalue()
    assert "build [fraud]" in text
    assert "spend: compute [x]" in text
    assert "2/3" in text
    assert "2.5M rows" in text
    assert "note [b]" in text
    last = [line for line in text.splitlines() if "2/3" in line][-1]
    assert len(last.rstrip()) <= columns


def test_finishing_twice_and_without_a_stage_does_no_harm() -> None:
    progress, out = bars(80)
    progress.finish()
    progress.stage("empty", 0)
    progress.finish()
    progress.finish()
    assert not out.getvalue()


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_progress(), LineProgress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(choose_progress(), BarProgress)
    assert isinstance(choose_progress(quiet=True), QuietProgress)
    monkeypatch.setenv("NO_COLOR", "1")
    assert isinstance(choose_progress(), LineProgress)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("CI", "1")
    assert isinstance(choose_progress(), LineProgress)


def test_each_kind_keeps_the_protocol() -> None:
    everyone: list[Progress] = [QuietProgress(), LineProgress(io.StringIO()), bars(100)[0]]
    for progress in everyone:
        progress.start("x")
        progress.stage("s", 1)
        progress.advance("s", tasks=1, rows=1, bytes=1)
        progress.note("n")
        progress.finish()


def test_rich_is_not_imported_before_a_bar_is_drawn() -> None:
    code = "import sys, featureflow.observe.progress; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
