from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.core.errors import PlanError
from featureflow.spec.dependencies import (
    ancestors,
    build_order,
    dependency_order,
    descendants,
    find_cycles,
    parents,
    sources_of,
)
from featureflow.spec.load import load_text
from featureflow.spec.models import Feature, Project
from featureflow.spec.selection import select

#: clicks -> a -> b -> d, users -> c -> d (by a look-up), e alone; written against the order
TEXT = """
sources:
  clicks: {path: clicks.parquet, time: ts}
  users: {path: users.parquet, time: ts}
features:
  d: {source: b, keys: k, tags: [gold], lookup: [{from: c, keys: k, columns: [k2], prefix: x_}]}
  b: {source: a, keys: k, tags: [gold, web]}
  e: {source: clicks, keys: k, lookup: [{from: users, keys: k, columns: [x]}]}
  c: {source: users, keys: [k, k2], tags: [web]}
  a: {source: clicks, keys: k}
"""


@pytest.fixture(scope="module")
def project() -> Project:
    return load_text(TEXT).project


def test_order(project: Project) -> None:
    assert dependency_order(project) == ["a", "b", "c", "d", "e"]
    assert parents(project, "d") == ("b", "c")
    assert sources_of(project, "e") == ("clicks", "users")


@pytest.mark.parametrize(
    ("selected", "excluded", "expected"),
    [
        ([], [], "abcde"),
        (["  "], [], "abcde"),
        (["*"], ["e"], "abcd"),
        (["b"], [], "b"),
        (["+b"], [], "ab"),
        (["b+"], [], "bd"),
        (["+b+"], [], "abd"),
        (["1+d"], [], "bcd"),
        (["2+d"], [], "abcd"),
        (["a+1"], [], "ab"),
        (["0+d"], [], "d"),
        (["tag:gold"], [], "bd"),
        (["+tag:gold"], [], "abcd"),
        (["tag:gold,tag:web"], [], "b"),
        (["tag:gold", "tag:web"], [], "bcd"),
        (["tag:gold tag:web"], [], "bcd"),
        (["e +b"], ["a"], "be"),
        (["source:clicks"], [], "ae"),
        (["source:clicks+"], [], "abde"),
        (["source:users+,tag:gold"], [], "d"),
        ([], ["source:clicks+"], "c"),
        (["+d"], ["+b"], "cd"),
    ],
)
def test_selectors(project: Project, selected: list[str], excluded: list[str], expected: str) -> None:
    assert select(project, selected, excluded) == list(expected)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("bb", "unknown feature table 'bb'. Did you mean 'b'?"),
        ("clicks", "'clicks' is a source; write source:clicks"),
        ("tag:golden", "no feature table has the tag 'golden'. Did you mean 'gold'?"),
        ("source:user", "unknown source 'user'. Did you mean 'users'?"),
        ("tags:gold", "unknown method 'tags'. Did you mean 'tag'?"),
        ("a,,b", "'' is not a selector"),
        ("++a", "'++a' is not a selector"),
        ("a+b", "'a+b' is not a selector"),
    ],
)
def test_wrong_selectors(project: Project, selector: str, message: str) -> None:
    for arguments in (([selector], []), ([], [selector])):
        with pytest.raises(PlanError) as caught:
            select(project, *arguments)
        assert message in str(caught.value)


DATASETS = """
datasets:
  y: {spine: {source: users, keys: k}, features: a, label: &later {source: clicks, op: count, horizon: 1d}, tags: [web]}
  x: {spine: {source: d, keys: k}, lookup: [{from: e, columns: x, prefix: e_}], label: {<<: *later, source: b}}
  z: {spine: {path: rows.csv, keys: k, time: t}, tags: silver}
"""


@pytest.mark.parametrize(
    ("selected", "excluded", "expected"),
    [
        ([], [], "abcdeyxz"),
        (["*"], ["z"], "abcdeyx"),
        (["x"], [], "x"),
        (["+x"], [], "abcdex"),
        (["1+x"], [], "bdex"),
        (["+y"], [], "ay"),
        (["a+"], [], "abdyx"),
        (["a+1"], [], "aby"),
        (["z+"], [], "z"),
        (["tag:web"], [], "bcy"),
        (["tag:silver"], [], "z"),
        (["source:users"], [], "cey"),
        (["source:users+"], [], "cdeyx"),
        (["source:clicks"], [], "aey"),
        (["+x,tag:gold"], [], "bd"),
    ],
)
def test_datasets_take_part(selected: list[str], excluded: list[str], expected: str) -> None:
    project = load_text(TEXT + DATASETS).project
    assert select(project, selected, excluded) == list(expected)


def test_what_a_dataset_reads() -> None:
    project = load_text(TEXT + DATASETS).project
    assert (parents(project, "x"), sources_of(project, "x")) == (("d", "e", "b"), ())
    assert (parents(project, "y"), sources_of(project, "y")) == (("a",), ("users", "clicks"))
    assert (parents(project, "z"), sources_of(project, "z")) == ((), ())
    assert dependency_order(project) == ["a", "b", "c", "d", "e"]
    assert build_order(project) == ["a", "b", "c", "d", "e", "y", "x", "z"]
    with pytest.raises(PlanError, match="unknown feature table or dataset 'xx'"):
        select(project, ["xx"])


def graph(edges: dict[str, list[str]]) -> Project:
    features = {
        name: Feature.model_validate(
            {"source": "s", "keys": "k", "lookup": [{"from": p, "columns": "x", "keys": "k"} for p in reads]}
        )
        for name, reads in edges.items()
    }
    return Project().model_copy(update={"features": features})


_edges = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12)


def reachable(edges: dict[str, list[str]], start: str) -> set[str]:
    """Plain depth-first search: everything that `start` reads, at any distance."""
    found: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += edges[name]
    return found


@given(_edges, st.randoms(use_true_random=False))
def test_order_and_circles_of_any_graph(pairs: list[tuple[int, int]], shuffle: random.Random) -> None:
    names = [f"t{i}" for i in range(8)]
    shuffle.shuffle(names)
    edges: dict[str, list[str]] = {name: [] for name in names}
    for a, b in pairs:
        edges[f"t{a}"].append(f"t{b}")
    project = graph(edges)
    in_circle = {name for name in names if name in reachable(edges, name)}
    circles = find_cycles(project)
    assert bool(circles) == bool(in_circle)
    for circle in circles:
        assert set(circle) <= in_circle
        for name, following in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert following in edges[name]
    if in_circle:
        with pytest.raises(ValueError, match="circle"):
            dependency_order(project)
        return
    order = dependency_order(project)
    assert sorted(order) == sorted(names)
    for name in names:
        assert ancestors(project, name) == reachable(edges, name)
        assert descendants(project, name) == {other for other in names if name in reachable(edges, other)}
        assert all(order.index(parent) < order.index(name) for parent in edges[name])


def test_a_long_chain_costs_no_recursion() -> None:
    edges = {f"t{i}": [f"t{i + 1}"] if i < 3000 else [] for i in range(3001)}
    assert dependency_order(graph(edges))[0] == "t3000"
