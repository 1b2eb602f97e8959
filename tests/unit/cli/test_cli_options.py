from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from featureflow.cli.app import application
from featureflow.cli.options import Age, Bytes, Instant


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("8GB", 8_000_000_000),
        ("8gb", 8_000_000_000),
        ("8G", 8_000_000_000),
        ("512MiB", 512 << 20),
        ("1.5 GB", 1_500_000_000),
        ("2TiB", 2 << 40),
        ("1000", 1000),
        ("100kB", 100_000),
    ],
)
def test_amounts_of_memory(text: str, n_bytes: int) -> None:
    assert Bytes().convert(text, None, None) == n_bytes


@pytest.mark.parametrize("text", ["", "8 apples", "GB", "-1GB", "0GB", "1,5GB", "8GBB", "nan", "1e9"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(click.BadParameter, match="Write it as 8GB"):
        Bytes().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T10:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T10:00:00.000001Z", datetime(2026, 1, 31, 10, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_times_are_utc(text: str, moment: datetime) -> None:
    found = Instant().convert(text, None, None)
    assert found == moment
    assert found.utcoffset() == moment.utcoffset()


@pytest.mark.parametrize("text", ["yesterday", "31.01.2026", "2026-13-01", ""])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a time"):
        Instant().convert(text, None, None)


def test_ages() -> None:
    assert Age().convert("30d", None, None) == "30d"
    for text in ("lifetime", "30", "a month"):
        with pytest.raises(click.BadParameter):
            Age().convert(text, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "--memory", "lots"],
        ["build", "--workers", "0"],
        ["plan", "--from", "2026-02-01", "--to", "2026-02-01"],
        ["build", "--from", "2026-02-02", "--to", "2026-02-01"],
        ["gc", "--keep", "0"],
        ["restore", "card_spend"],
        ["lineage", ".column"],
        ["nonsense"],
        ["show"],
        ["init", "--template", "none"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr


def test_every_command_has_help_and_is_listed() -> None:
    listed = CliRunner().invoke(application, ["--help"]).stdout
    for name, command in application.commands.items():
        assert f"\n  {name} " in listed
        shown = CliRunner().invoke(application, [name, "--help"])
        assert shown.exit_code == 0
        assert command.help
    assert set(application.commands) == {
        "init", "demo", "validate", "compile", "test", "plan", "build", "export", "ls", "show", "history", "diff",
        "lineage", "tag", "restore", "gc", "verify", "profile", "doctor",
    }  # fmt: skip


def test_commands_that_report_have_json() -> None:
    without = {
        name
        for name, command in application.commands.items()
        if not any("--json" in param.opts for param in command.params)
    }
    assert without == {"init", "demo"}
