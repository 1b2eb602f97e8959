from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest

from featureflow.cli.output import emit_json, say


def test_json_is_what_every_reader_takes(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({1: (math.nan, -math.inf, 1.5), "t": datetime(2026, 1, 1, tzinfo=UTC), "ü": None})
    text = capsys.readouterr().out
    assert json.loads(text) == {"1": ["nan", "-inf", 1.5], "t": "2026-01-01 00:00:00+00:00", "ü": None}
    assert "ü" in text


def test_people_are_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("made it", "green")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "made it\n")
