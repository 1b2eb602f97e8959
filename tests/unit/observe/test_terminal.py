from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.observe.terminal import Paint, clip, is_terminal, paint_for, table, text_width, width, wrap

_TEXT = st.text(st.characters(categories=["L", "N", "P", "Zs", "Mn"]), max_size=60)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@given(_TEXT, st.integers(1, 40))
def test_clip_never_goes_over_its_limit_and_keeps_what_fits(text: str, limit: int) -> None:
    shown = clip(text, limit)
    assert text_width(shown) <= limit
    if text_width(text) <= limit:
        assert shown == text
    else:
        assert shown.endswith("…")


def test_wide_characters_take_two_columns() -> None:
    assert text_width("価格") == 4
    assert clip("価格表", 5) == "価格…"
    assert clip("価格表", 4) == "価…"
    assert text_width("e\u0301") == 1


def test_a_line_end_can_not_break_a_row() -> None:
    assert clip("a\n\tb", 10) == "a b"


@given(st.lists(st.from_regex(r"[a-z]{1,12}", fullmatch=True), max_size=30), st.integers(20, 60))
def test_wrap_keeps_every_word_in_order_and_the_limit(words: list[str], limit: int) -> None:
    lines = wrap("    " + " ".join(words), limit, "      ")
    assert " ".join(lines).split() == words
    assert all(len(line) <= limit for line in lines)
    if words:
        assert lines[0].startswith("    ")
        assert all(line.startswith("      ") for line in lines[1:])


@given(
    st.lists(st.tuples(_TEXT, st.integers(0, 10**9), _TEXT), min_size=1, max_size=8),
    st.integers(60, 140),
)
def test_a_table_fits_the_terminal(rows: list[tuple[str, int, str]], limit: int) -> None:
    cells = [(a, str(n), c) for a, n, c in rows]
    lines = table(cells, ("name", "n", "text"), limit=limit, right=(1,), indent="  ")
    assert len(lines) == len(rows) + 1
    assert all(text_width(line) <= limit for line in lines)
    for (_, number, _), line in zip(cells, lines[1:], strict=True):
        assert number in line  # numbers are never cut


def test_columns_are_aligned_and_numbers_to_the_right() -> None:
    lines = table([("a", "1"), ("long", "12345")], ("name", "rows"), limit=80, right=(1,))
    assert lines == ["name   rows", "a         1", "long  12345"]


def test_a_table_of_no_rows_is_its_headings() -> None:
    assert table([], ("name", "rows"), limit=80) == ["name  rows"]


def test_colour_is_around_the_text_and_takes_no_room() -> None:
    coloured = table([("a", "b")], ("x", "y"), limit=80, styles=[("red",)], styled=1, paint=Paint(True))
    assert coloured[1] == "a  \x1b[31mb\x1b[0m"
    assert re.sub(r"\x1b\[\d+m", "", "\n".join(coloured)) == "x  y\na  b"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_no_colour_when_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert paint_for(Terminal()).enabled
    monkeypatch.setenv(name, value)
    assert not paint_for(Terminal()).enabled


def test_ci_set_to_false_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "false")
    assert is_terminal(Terminal())


def test_a_file_gets_no_colour_and_a_fixed_width() -> None:
    assert not paint_for(io.StringIO()).enabled
    assert width(io.StringIO()) == 100


def test_a_closed_stream_is_no_terminal() -> None:
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed)


def test_columns_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert width(io.StringIO()) == 72
    monkeypatch.setenv("COLUMNS", "20")
    assert width(io.StringIO()) == 60
