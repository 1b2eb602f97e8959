"""Profiles as text and page, against golden files; FEATUREFLOW_UPDATE_GOLDEN=1 writes them anew (then read them)."""

from __future__ import annotations

import copy
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from featureflow.core.meter import KINDS
from featureflow.observe.bottleneck import bottleneck_line, find_bottleneck
from featureflow.observe.profile import profile_text
from featureflow.observe.profile_page import COLOURS, profile_page
from featureflow.observe.report import StageReport, with_shares
from featureflow.observe.terminal import Paint, text_width
from featureflow.observe.timeline import timeline_svg

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
ALL_KINDS = [*KINDS, "driver", "idle"]


def phase(name: str, begun: float, length: float) -> dict[str, Any]:
    kind = "commit" if name == "commit" else "driver"
    return {
        "name": name, "where": "driver", "begun": begun, "seconds": length, "available": length, "accounted": 1.0,
        "waiting": 4 * length, "spent": {kind: length}, "details": {},
    }  # fmt: skip


def stage(name: str, begun: float, length: float, spent: dict[str, float], **more: Any) -> dict[str, Any]:
    return {
        "name": name, "where": "workers", "begun": begun, "seconds": length, "available": 4 * length, "accounted": 1.0,
        "spent": spent, "details": {}, "bytes": {}, "beside": {}, "counts": {}, "cpu": 1.0, "driver": 0.1, "tasks": 8,
        "failed": 0, "lost": 0, "rows": 880_000, "longest": 1.5, "longest_label": f"{name}, bucket 3", **more,
    }  # fmt: skip


@pytest.fixture
def profile() -> dict[str, Any]:
    """A build of 20 s on four threads of two workers, which read from an object store."""
    stages = [
        phase("plan", 0, 2),
        stage(
            "spend: re-key orders", 2, 8, {"remote read": 20, "decode": 6, "compute": 2, "exchange": 2, "idle": 2},
            details={"compute:hash": 1.5, "compute:other": 0.5}, bytes={"remote read": 4 * 10**9, "decode": 9 * 10**9},
        ),
        stage(
            "spend: compute", 10, 9, {"exchange": 3, "compute": 21, "encode": 6, "write": 3, "idle": 3},
            details={"compute:sort": 9, "compute:moments": 6, "compute:quantiles": 5.5, "compute:other": 0.5,
                     "exchange:remote": 2.5, "exchange:local": 0.5},
            bytes={"exchange:local": 10**9, "exchange:remote": 10**9, "write": 5 * 10**8}, failed=1,
        ),
        phase("commit", 19, 1),
    ]  # fmt: skip
    total: dict[str, Any] = {
        "available": 80.0, "accounted": 1.0, "spent": {"driver": 8.0, "commit": 4.0}, "cpu": 40.0,
        "beside": {"remote read": 12.0},
    }  # fmt: skip
    for part in ("spent", "details", "bytes"):
        into = total.setdefault(part, {})
        for one in stages:
            if one["where"] == "workers":
                for kind, amount in one[part].items():
                    into[kind] = into.get(kind, 0) + amount
    found = {
        "schema_version": 1, "build_id": "20261123T061742-ab12cd34", "project": "fraud", "status": "done",
        "started": "2026-11-23T06:17:42+00:00", "engine_version": "0.1.0", "dashboard": "http://127.0.0.1:8787/status",
        "seconds": 20.0, "slots": 4, "executor": "Dask at tcp://10.0.0.1:8786, 4 threads", "kinds": ALL_KINDS,
        "stages": stages, "total": total,
        "workers": [
            {"name": "0", "host": "node-1", "process": 7, "threads": 2, "tasks": 9, "busy": 33.0, "peak_bytes": 3e9},
            {"name": "1", "host": "node-2", "process": 8, "threads": 2, "tasks": 7, "busy": 30.0, "peak_bytes": 2e9},
        ],
        "counts": {"tasks": 16, "failed": 1, "lost": 0, "restarts": 0, "cache hits": 3, "cache misses": 5,
                   "spilled_bytes": 7 * 10**8},
        "segments": [["plan", 0, 0, 2], ["spend: re-key orders", 1, 2, 8], ["spend: compute", 1, 10, 9],
                     ["commit", 0, 19, 1]],
        "timeline": {
            "lanes": ["node-1, worker 0, thread 1", "node-2, worker 1, thread 1"],
            "stages": ["spend: re-key orders", "spend: compute"],
            "tasks": {
                "stage": [0, 0, 1, 1], "lane": [0, 1, 0, 1], "begun": [2, 2, 10, 10.5], "seconds": [7.5, 7, 8, 8.5],
                "failed": [0, 0, 1, 0],
                "kinds": {"remote read": [700, 600, 0, 0], "compute": [300, 400, 1000, 900], "write": [0, 0, 0, 100]},
            },
        },
    }  # fmt: skip
    found["bottleneck"] = find_bottleneck(found)
    return found


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("FEATUREFLOW_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("limit", [80, 120])
def test_the_text_fits(profile: dict[str, Any], limit: int) -> None:
    text = profile_text(profile, limit=limit)
    assert all(text_width(line) <= limit for line in text.splitlines())
    golden(f"profile_{limit}.txt", text + "\n")


def test_colour_adds_nothing_but_colour(profile: dict[str, Any]) -> None:
    painted = profile_text(profile, paint=Paint(True))
    assert "\x1b[1m" in painted
    assert re.sub(r"\x1b\[\d+m", "", painted) == profile_text(profile)


def with_most(profile: dict[str, Any], kind: str, **last: Any) -> dict[str, Any]:
    """The same build, in which a kind took most of the time."""
    changed = copy.deepcopy(profile)
    changed["total"]["spent"][kind] = 1000.0
    changed["total"]["available"] += 1000.0
    changed["stages"][2].update(last)
    return changed


@pytest.mark.parametrize(
    ("kind", "says", "advises"),
    [
        ("remote read", ["object store", "4.0 GB at 500 MB/s", "3 of 8 chunks"], ["do not help", "cache:"]),
        ("nvme read", ["local disk"], ["NVMe", "more hosts"]),
        ("decode", ["decoding", "9.0 GB"], ["More cores", "Parquet"]),
        ("compute", ["sort 39%, moments 26%, quantiles 24%"], ["More cores", "partition:"]),
        ("exchange", ["2.0 GB"], ["--scratch on NVMe"]),
        ("encode", ["compressing"], ["Fewer output columns"]),
        ("write", ["500 MB at 55.6 MB/s"], ["more workers do not"]),
        ("commit", ["publishing"], ["partition:"]),
        ("spill", ["memory and disk"], ["--memory"]),
        ("driver", ["2.0 s in its phase 'plan'"], ["More workers do not help", "Planning"]),
    ],
)
def test_verdicts(profile: dict[str, Any], kind: str, says: list[str], advises: list[str]) -> None:
    found = find_bottleneck(with_most(profile, kind))
    assert found["kind"] == kind
    assert 0.9 < found["share"] < 1
    assert f"{found['share']:.0%}" in found["text"]
    assert all(part in found["text"] for part in says), found["text"]
    assert all(part in found["advice"] for part in advises), found["advice"]


@pytest.mark.parametrize(
    ("last", "says", "advises"),
    [
        ({"tasks": 3}, ["3 tasks for 4 threads", "spend: compute"], ["Fewer workers would do"]),
        ({"lost": 2}, ["workers died", "2 tasks"], ["--memory"]),
        ({"longest": 8.0}, ["one task", "8.0 s of 9.0 s", "spend: compute, bucket 3"], ["hot key"]),
        ({"driver": 8.0}, ["driver could not hand out"], ["too small"]),
        ({"tasks": 4000}, ["4,000 took 8 ms on average"], ["a tenth of a second"]),
    ],
)
def test_verdicts_on_idle_threads(
    profile: dict[str, Any], last: dict[str, Any], says: list[str], advises: list[str]
) -> None:
    found = find_bottleneck(with_most(profile, "idle", **last))
    assert found["kind"] == "idle"
    assert all(part in found["text"] for part in says), found["text"]
    assert all(part in found["advice"] for part in advises), found["advice"]


def test_rows_from_other_hosts_are_told(profile: dict[str, Any]) -> None:
    changed = with_most(profile, "exchange")
    changed["total"]["details"]["exchange:remote"] = 900.0
    assert "from host to host" in find_bottleneck(changed)["advice"]


def test_a_build_that_did_nothing(profile: dict[str, Any]) -> None:
    empty = {
        **profile,
        "stages": [], "workers": [], "counts": {}, "segments": [], "dashboard": None, "seconds": 0.0,
        "total": {"available": 0.0, "accounted": 1.0, "spent": {}, "details": {}, "bytes": {}},
        "timeline": {"lanes": [], "stages": [], "tasks": {}},
    }  # fmt: skip
    empty["bottleneck"] = find_bottleneck(empty)
    assert empty["bottleneck"]["kind"] is None
    assert bottleneck_line(empty) is None
    assert bottleneck_line({}) is None
    assert "Nothing took any time." in profile_text(empty)
    assert "No task ran." in profile_page(empty)


def test_shares_go_into_the_run_report(profile: dict[str, Any]) -> None:
    stages = with_shares([StageReport("spend: compute", tasks=8), StageReport("other")], profile)
    assert stages[0].shares["compute"] == pytest.approx(21 / 36, abs=1e-4)
    assert sum(stages[0].shares.values()) == pytest.approx(1, abs=1e-3)
    assert stages[0].mostly == "compute 58%, encode 17%"
    assert (stages[1].shares, stages[1].mostly) == ({}, "")


class Page(HTMLParser):
    """Tags that are opened and closed, attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone(profile: dict[str, Any]) -> None:
    profile["project"] = "<script>alert(1)</script>"
    profile["dashboard"] = None
    page = profile_page(profile)
    parsed = Page(page)
    assert not parsed.tags & {"script", "link", "img", "iframe", "object", "a"}
    assert not [
        name for name, _ in parsed.attributes if name in ("src", "href", "srcset") or name.startswith("on")
    ]
    assert "http" not in page.replace("Dask at tcp://", "")
    assert "url(" not in page
    assert "@import" not in page
    assert "<script>alert(1)</script>" in parsed.text
    assert "prefers-color-scheme: dark" in page
    for part in ("spend: re-key orders", "node-2, worker 1", "remote read", "3 of 8 pieces", "700 MB"):
        assert part in parsed.text


def test_every_kind_has_colours_on_light_and_dark(profile: dict[str, Any]) -> None:
    assert list(COLOURS) == ALL_KINDS
    page = profile_page(profile)
    for kind, (light, dark) in COLOURS.items():
        name = "k-" + kind.replace(" ", "-")
        assert page.count(f"--{name}: {light};") == page.count(f"--{name}: {dark};") == 1
        assert f".{name} {{" in page


def test_tasks_are_where_they_ran(profile: dict[str, Any]) -> None:
    svg = timeline_svg(profile)
    bars = re.findall(r'<rect class="(task|failed)" x="([\d.]+)" y="(\d+)" width="([\d.]+)"', svg)
    assert [kind for kind, *_ in bars] == ["task", "task", "failed", "task"]
    scale = (1200 - 190 - 8) / 20
    for (_, x, _, width), begun, length in zip(bars, [2, 2, 10, 10.5], [7.5, 7, 8, 8.5], strict=True):
        assert float(x) == pytest.approx(190 + begun * scale, abs=0.2)
        assert float(width) == pytest.approx(length * scale, abs=0.5)
    assert bars[0][2] == bars[2][2] != bars[1][2], "the same thread has the same row"
    # the first task read for 70 % of its time
    (first, *_) = re.search(r'<path class="k-remote-read" d="M[\d.]+ \d+h([\d.]+)', svg).groups()
    assert float(first) == pytest.approx(0.7 * 7.5 * scale, abs=0.5)
    assert "remote read 70%, compute 30%" in svg


@pytest.mark.parametrize("lanes", [1, 64])
def test_many_tasks_are_drawn_as_areas(profile: dict[str, Any], lanes: int) -> None:
    rows = [[400 if column % 3 else 0 for column in range(400)]] * lanes
    profile["timeline"] = {
        "lanes": [f"worker {i}" for i in range(lanes)],
        "cells": {"width": 20 / 400, "kinds": {"decode": rows, "compute": rows, "write": rows}},
    }
    page = profile_page(profile)
    Page(page)
    assert 'class="k-decode" d="M' in page
    assert "too many tasks" in page
    assert len(page) < 4_000_000
