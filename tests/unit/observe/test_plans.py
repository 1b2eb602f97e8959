"""Plans as text and pictures, against golden files; FEATUREFLOW_UPDATE_GOLDEN=1 writes them anew (then read them)."""

from __future__ import annotations

import copy
import itertools
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from featureflow.observe.graph import plan_svg
from featureflow.observe.plans import plan_html, plan_text
from featureflow.observe.terminal import text_width

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
DAYS = [f"2026-{month:02d}-{day:02d}" for month in (1, 2, 3) for day in range(1, 29)]


def reads(name: str, use: str = "rows", kind: str = "source") -> dict[str, str]:
    return {"kind": kind, "name": name, "use": use}


def entry(name: str, change: str, reason: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "change": change, "reason": reason, "publishes": change != "unchanged", "version": None,
        "definition_hash": "ab" * 16, "partition": "day", "buckets": 8, "compute": [], "reuse": [], "drop": [],
        "reads": [reads("transactions")], "estimate": {}, "notes": [], **more,
    }  # fmt: skip


def numbers(rows: int, read: int, total: int, tasks: int, memory: int, kept: int = 0) -> dict[str, int]:
    return {
        "rows": 20_000_000, "rows_computed": rows, "bytes_read": read, "bytes_total": total, "chunks_read": 34,
        "tasks": tasks, "task_bytes": memory, "budget_bytes": 1_000_000_000, "output_row_bytes": 160,
        "files_reused": kept,
    }  # fmt: skip


PLAN: dict[str, Any] = {
    "project": "fraud",
    "store": "s3://bucket/features",
    "executor": "2 threads in this process",
    "sources": {
        "transactions": {"files": 90, "chunks": 90, "rows": 20_000_000, "bytes": 1_200_000_000},
        "merchants": {"files": 1, "chunks": 1, "rows": 5000, "bytes": 120_000},
    },
    "notes": [
        "sources.transactions: times of 'ts' have no zone and are taken as UTC.",
        "card_spend: tail_hop is part of the definition of 7d (tail_hop 1h): the start of the window is rounded down.",
    ],
    "tables": [
        entry(
            "card_spend", "new data", "3 new slices (2026-03-26 … 2026-03-28), 1 grew", version=7,
            compute=DAYS[-4:], reuse=DAYS[:-4], reads=[reads("transactions"), reads("merchants", "look-up")],
            estimate=numbers(880_000, 440_000_000, 1_200_000_000, 16, 412_000_000, 640),
        ),
        entry("merchant_stats", "unchanged", "version 3 has it all", version=3, reuse=DAYS),
        entry(
            "customer_daily_behaviour", "definition changed", "definition 1234abcd of version 2 is another", version=2,
            compute=DAYS, reads=[reads("card_spend", kind="table"), reads("merchant_stats", "look-up", "table")],
            estimate=numbers(20_000_000, 1_400_000_000, 1_400_000_000, 64, 812_000_000),
        ),
        entry(
            "card_risk", "late data", "2 slices changed (2026-02-04, 2026-02-05), 0 new, 1 gone", version=4,
            compute=DAYS[31:33], reuse=DAYS[:31] + DAYS[33:], drop=["2026-03-31"],
            estimate=numbers(600_000, 300_000_000, 1_200_000_000, 8, 112_000, 656),
        ),
    ],
}  # fmt: skip


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("FEATUREFLOW_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("limit", [80, 120])
def test_plan_text(limit: int) -> None:
    text = plan_text(PLAN, limit=limit)
    assert all(text_width(line) <= limit for line in text.splitlines())
    compare(f"plan_{limit}.txt", text + "\n")


def test_plan_graph() -> None:
    compare("plan.svg", plan_svg(PLAN))


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    space = "{http://www.w3.org/2000/svg}"
    found = {}
    for group in ET.fromstring(svg).iter(f"{space}g"):
        rect = group.find(f"{space}rect")
        title = group.find(f"{space}title")
        assert rect is not None
        assert title is not None and title.text
        found[title.text.split(" · ")[0]] = tuple(
            float(rect.attrib[k]) for k in ("x", "y", "width", "height")
        )
    return found  # type: ignore[return-value]


def test_the_graph_has_every_stage_and_no_box_covers_another() -> None:
    placed = boxes(plan_svg(PLAN))
    assert set(placed) == {
        "transactions", "merchants", "re-key transactions", "card_spend", "merchant_stats", "card_risk",
        "customer_daily_behaviour", "commit card_spend", "commit card_risk", "commit customer_daily_behaviour",
    }  # fmt: skip
    items = list(placed.values())
    for i, (x, y, w, h) in enumerate(items):
        for other_x, other_y, *_ in items[i + 1 :]:
            assert abs(other_x - x) >= w or abs(other_y - y) >= h
    left_to_right = [
        "transactions",
        "re-key transactions",
        "card_spend",
        "commit card_spend",
        "customer_daily_behaviour",
    ]
    xs = [placed[name][0] for name in left_to_right]
    assert xs == sorted(xs) and len(set(xs)) == len(xs)


def test_a_wide_plan_has_no_overlap_either() -> None:
    tables = [
        entry(
            f"t{i}", "new", "no version yet", compute=DAYS, reads=[reads(f"s{i % 7}"), reads("s0", "look-up")]
        )
        for i in range(40)
    ]
    placed = boxes(plan_svg({**PLAN, "tables": tables, "sources": {}}))
    assert len(set(placed.values())) == len(placed) == 40 + 40 + 7 + 7
    by_place = sorted(placed.values())
    for (x, y, _, h), (next_x, next_y, _, _) in itertools.pairwise(by_place):
        assert next_x != x or next_y - y >= h


def test_names_can_not_break_out_of_svg_or_html() -> None:
    evil = copy.deepcopy(PLAN)
    evil["project"] = "<script>&"
    evil["tables"][0]["reason"] = "<b>"
    ET.fromstring(plan_svg(evil))
    assert "<script>" not in plan_svg(evil) + plan_html(evil)
    assert "<b>" not in plan_html(evil)


def test_a_plan_with_nothing_to_do() -> None:
    idle = {**PLAN, "tables": [PLAN["tables"][1]], "notes": []}
    assert plan_text(idle) == (
        "fraud → s3://bucket/features   nothing to do\n\n  = merchant_stats  unchanged  version 3 has it all"
    )
    assert "commit" not in boxes(plan_svg(idle))


def test_an_empty_project() -> None:
    empty = {**PLAN, "tables": [], "notes": []}
    assert "nothing to do" in plan_text(empty)
    ET.fromstring(plan_svg(empty))
