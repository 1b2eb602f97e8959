from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.core.errors import SpecError
from featureflow.spec.environment import construct
from featureflow.spec.load import load_text
from featureflow.spec.yaml_text import LIMIT_ALIASES, LIMIT_BYTES, LIMIT_DEPTH, decode, parse, scalar


def values(text: str) -> Any:
    parsed = parse(text, "x.yaml")
    assert parsed.problems == []
    assert parsed.root is not None
    return construct(parsed.root, {}, lambda *_: pytest.fail("no problem expected")).expanded


def problem(text: str) -> str:
    parsed = parse(text, "x.yaml")
    assert len(parsed.problems) == 1, parsed.problems
    return str(parsed.problems[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("no", "no"), ("yes", "yes"), ("on", "on"), ("12:30", "12:30"), ("12:30:00", "12:30:00")),
        *(("2026-01-01", "2026-01-01"), ("1_000", "1_000"), ("1h", "1h"), ("0b1", "0b1")),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None)),
        *(("017", 17), ("-3", -3), ("0o17", 15), ("0x1F", 31), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0)),
    ],
)
def test_scalars_are_yaml_1_2(text: str, value: Any) -> None:
    found = scalar(text, plain=True)
    assert found == value
    assert type(found) is type(value)
    assert scalar(text, plain=False) == text


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999"])
def test_no_infinite_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        scalar(text, plain=True)


_plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text("abc é:#", max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(_plain)
def test_what_json_writes_is_read_back(value: Any) -> None:
    import json

    assert values(json.dumps(value)) == value


def test_merge_keys_and_aliases() -> None:
    text = "a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}\nc: [*base, *base]\nd: {<<: [*base, {z: 4}]}\n"
    read = values(text)
    assert read["b"] == {"x": 1, "y": 3}
    assert read["c"] == [{"x": 1, "y": 2}] * 2
    assert read["d"] == {"x": 1, "y": 2, "z": 4}


def test_a_merged_value_may_be_overridden_on_either_side() -> None:
    assert values("a: &b {x: 1}\nc: {x: 2, <<: *b}\n")["c"] == {"x": 2}


def test_block_texts_and_comments() -> None:
    assert values('a: >\n  x\n  y\nb: |\n  z\n# end\nc: "1"\n') == {"a": "x y\n", "b": "z\n", "c": "1"}


def test_duplicate_keys_name_both_places() -> None:
    assert problem("a: 1\nb:\n  c: 1\n  c: 2\n") == "x.yaml:4:3: b.c: 'c' is given twice; first in line 3."


@pytest.mark.parametrize("open_", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_and_does_not_crash(open_: str) -> None:
    began = time.process_time()
    assert "nested more than 64 deep" in problem(open_ * 50_000)
    assert time.process_time() - began < 2


def test_depth_just_below_the_limit_is_read() -> None:
    assert values("[" * LIMIT_DEPTH + "]" * LIMIT_DEPTH)


def test_depth_through_aliases_is_refused() -> None:
    lines = ["a0: &a0 [[[[[[[[[[1]]]]]]]]]]"]
    lines += [f"a{i}: &a{i} [[[[[[[[[[*a{i - 1}]]]]]]]]]]" for i in range(1, 9)]
    assert "nesting is more than 64 deep" in problem("\n".join(lines))


def test_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    began = time.process_time()
    assert "more than 100000 values" in problem("\n".join(lines))
    assert time.process_time() - began < 1


def test_many_aliases_are_refused() -> None:
    assert f"more than {LIMIT_ALIASES} aliases" in problem("a: &a 1\nb: [" + "*a, " * 101 + "]")
    assert len(values("a: &a 1\nb: [" + ", ".join(["*a"] * LIMIT_ALIASES) + "]")["b"]) == LIMIT_ALIASES


def test_an_alias_inside_its_own_anchor_is_refused() -> None:
    assert "stands before the end of its anchor" in problem("a: &a [1, *a]")


def test_large_texts_are_refused() -> None:
    assert "more than 1 MiB" in problem("#" * (LIMIT_BYTES + 1))
    assert "more than 100000 values" in problem("[" + "a," * 400_000 + "]")


@pytest.mark.parametrize(
    "text", ["a: \x00", "a: \x07b", "a: !!python/name:os.system x", "%FOO\na: 1", "a: [1", "a: \ud800", "{\n"]
)
def test_odd_texts_are_problems_not_crashes(text: str) -> None:
    with pytest.raises(SpecError):
        load_text(text)


@given(st.text("ab:-[]{},&*!|>'\"%@`#?\n \t\x00$~<", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        load_text(text, env={})
    except SpecError as error:
        assert error.problems


def test_bytes_that_are_not_utf8_have_a_place() -> None:
    text, problems = decode(b"a: 1\nb: \xff\n", "x.yaml")
    assert text is None
    assert str(problems[0]) == "x.yaml:2:4: byte 0xff is not UTF-8. Save the file as UTF-8."
    assert decode(b"\xef\xbb\xbfa: 1", "x")[0] == "a: 1"
