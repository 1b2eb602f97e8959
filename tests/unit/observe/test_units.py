from __future__ import annotations

import pytest

from featureflow.observe import units


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_250_000_000, "1.2 GB"),
        (5e18, "5000 PB"),
        (None, "-"),
    ],
)
def test_size(given: float | None, text: str) -> None:
    assert units.size(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0.0004, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7384, "2 h 3 min"),
    ],
)
def test_seconds(given: float, text: str) -> None:
    assert units.seconds(given) == text


def test_an_instant_with_an_offset_is_shown_in_utc() -> None:
    assert units.moment("2026-01-01T01:30:00+02:00") == "2025-12-31 23:30:00"
    assert (
        units.moment("2026-01-01T01:30:00Z") == units.moment("2026-01-01T01:30:00") == "2026-01-01 01:30:00"
    )
    assert units.moment(None) == "-"


def test_plural() -> None:
    assert [units.plural(n, "row") for n in (0, 1, 1234)] == ["0 rows", "1 row", "1,234 rows"]


def test_values_of_a_sample() -> None:
    assert units.value([1.0, None, "a"]) == "[1, null, a]"
    assert units.value(float("inf")) == "inf"
    assert units.value(123456789.123) == "1.23457e+08"
