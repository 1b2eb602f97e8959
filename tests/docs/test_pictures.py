"""The numbers in the guide's pictures are what the engine computes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday


def at(hour):
    return START + timedelta(hours=hour)


def build(make_project, monkeypatch, spec, **sources):
    project = make_project(spec, **sources)
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(project.folder / "scratch"))
    opened = project.open()
    opened.build()
    return opened.table("f").to_polars()


def test_closed(make_project, monkeypatch):
    rows = [{"k": 1, "t": at(hour)} for hour in (6, 7.5, 9, 10)]
    entries = ", ".join(
        f'{{ops: [count], windows: [4h], closed: {c}, as: "{c}"}}' for c in ("left", "right", "both", "none")
    )
    spec = f"""
sources: {{e: {{path: "{{data}}/e/*.parquet", time: t}}}}
features: {{f: {{source: e, keys: k, aggregate: [{entries}]}}}}
"""
    table = build(make_project, monkeypatch, spec, e=rows)
    assert table.row(3, named=True) == {"k": 1, "t": at(10), "left": 3, "right": 3, "both": 4, "none": 2}


def test_delay_tail_hop_and_lifetime(make_project, monkeypatch):
    """An event each minute from 04:00 to 11:00: a count tells the window's ends."""
    rows = [{"k": 1, "t": at(4) + timedelta(minutes=m)} for m in range(421)]
    spec = """
sources: {e: {path: "{data}/e/*.parquet", time: t}}
features:
  f:
    source: e
    keys: k
    aggregate:
      - {ops: [seconds_since_first, seconds_since_last], windows: [4h]}
      - {ops: [seconds_since_first, seconds_since_last], windows: [4h], delay: 1h, as: "delay_{op}"}
      - {ops: [seconds_since_first, seconds_since_last], windows: [4h], tail_hop: 1h, as: "hop_{op}"}
      - {ops: [seconds_since_first], windows: [lifetime]}
"""
    table = build(make_project, monkeypatch, spec, e=rows)
    row = table.row(390, named=True)
    assert row["t"] == at(10.5)

    def ends(name):
        first, last = row[f"{name}seconds_since_first{suffix}"], row[f"{name}seconds_since_last{suffix}"]
        return at(10.5) - timedelta(seconds=first), at(10.5) - timedelta(seconds=last)

    minute = timedelta(minutes=1)
    suffix = "_4h"
    assert ends("") == (at(6.5), at(10.5) - minute)
    suffix = ""
    assert ends("delay_") == (at(5.5), at(9.5) - minute)
    assert ends("hop_") == (at(6), at(10.5) - minute)
    assert at(10.5) - timedelta(seconds=row["seconds_since_first_lifetime"]) == at(4)


def test_lookup(make_project, monkeypatch):
    risk = [{"k": 1, "t": at(hour), "risk": word} for hour, word in ((1, "low"), (4, "mid"), (8, "high"))]
    asks = [{"k": 1, "t": at(hour)} for hour in (7, 8, 9.5)]
    spec = """
sources:
  e: {path: "{data}/e/*.parquet", time: t}
  r: {path: "{data}/r/*.parquet", time: t}
features:
  f:
    source: e
    keys: k
    lookup:
      - {from: r, keys: [k], columns: [risk]}
      - {from: r, keys: [k], columns: [risk], ttl: 2h, prefix: ttl_}
      - {from: r, keys: [k], columns: [risk], allow_exact: false, prefix: strict_}
"""
    table = build(make_project, monkeypatch, spec, e=asks, r=risk)
    assert table["risk"].to_list() == ["mid", "high", "high"]
    assert table["ttl_risk"].to_list() == [None, "high", "high"]
    assert table["strict_risk"].to_list() == ["mid", "mid", "high"]


def test_knowledge(make_project, monkeypatch):
    rows = [
        {"k": 1, "t": at(event), "created": at(created), "risk": word}
        for event, created, word in ((1, 2, "low"), (4, 6, "mid"), (5, 9, "high"))
    ]
    spec = """
sources:
  e: {path: "{data}/e/*.parquet", time: t}
  r: {path: "{data}/r/*.parquet", time: t, created: created}
features:
  f:
    source: e
    keys: k
    lookup:
      - {from: r, keys: [k], columns: [risk]}
      - {from: r, keys: [k], columns: [risk], knowledge: event_time, prefix: leaky_}
"""
    table = build(make_project, monkeypatch, spec, e=[{"k": 1, "t": at(7.7)}], r=rows)
    assert table.select("risk", "leaky_risk").rows() == [("mid", "high")]


def test_availability(make_project, monkeypatch):
    days = [{"k": 1, "t": at(0), "v": "Monday"}, {"k": 1, "t": at(24), "v": "Tuesday"}]
    asks = [{"k": 1, "t": at(hour)} for hour in (25.9, 26, 49.9, 50)]
    spec = """
sources:
  e: {path: "{data}/e/*.parquet", time: t}
  d: {path: "{data}/d/*.parquet", time: t}
features:
  f:
    source: e
    keys: k
    lookup: [{from: d, keys: [k], columns: [v], availability: {interval: 1d, delay: 2h}}]
"""
    table = build(make_project, monkeypatch, spec, e=asks, d=days)
    assert table["v"].to_list() == [None, "Monday", "Monday", "Tuesday"]


def test_increment(make_project, monkeypatch):
    """A late row on day 4 and windows of 2 days: days 4 to 6 are computed again."""
    spec = """
sources: {e: {path: "{data}/e/*.parquet", time: t}}
features: {f: {source: e, keys: k, aggregate: [{ops: count, windows: 2d}]}}
"""
    files = {f"day{d}": [{"k": 1, "t": at(24 * d + 1)}] for d in range(10)}
    project = make_project(spec)
    for name, rows in files.items():
        project.write("e", rows, file=name)
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(project.folder / "scratch"))
    opened = project.open()
    opened.build()
    project.write("e", [{"k": 1, "t": at(24 * 3 + 2)}], file="late")
    (plan,) = opened.plan().tables
    assert plan.change == "late data"
    days = [f"2026-01-{5 + d:02}" for d in range(3, 6)]
    assert [part.label for part in plan.missing] == days
    assert sorted(plan.reused) == [f"2026-01-{5 + d:02}" for d in range(10) if d not in (3, 4, 5)]


DAY = 24


def test_training_row(make_project, monkeypatch):
    days = (1, 3, 5.5, 8, 9, 10, 11, 14, 17)
    project = make_project(
        """
sources:
  e: {path: "{data}/e/*.parquet", time: t}
  s: {path: "{data}/s/*.parquet", time: t}
features:
  f: {source: e, keys: k, aggregate: [{ops: count, windows: 7d, as: n}]}
datasets:
  d:
    spine: {source: s, keys: k}
    features: [f]
    lookup: [{from: e, keys: [k], columns: [day]}]
    label: {source: e, op: count, gap: 2d, horizon: 6d}
""",
        e=[{"k": 1, "t": at(day * DAY), "day": float(day)} for day in days]
        + [{"k": 2, "t": at(99 * DAY), "day": 99.0}],
        s=[{"k": 1, "t": at(9 * DAY)}],
    )
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(project.folder / "scratch"))
    opened = project.open()
    opened.build()
    (row,) = opened.dataset("d").to_polars().rows(named=True)
    assert (row["n"], row["day"], row["label"]) == (3, 9.0, 2)


def test_embargo_and_out_of_time(make_project, monkeypatch):
    """The two pictures of splits and of target encoding, in one dataset each."""
    events = [(1, 1), (4, 0), (7, 0), (10, 1), (12, 1), (14, 0), (17, 1)]
    project = make_project(
        """
sources:
  s: {path: "{data}/s/*.parquet", time: t}
  m: {path: "{data}/m/*.parquet", time: t}
datasets:
  embargo:
    spine: {source: s, keys: k}
    split: {by: time, train: "< 2026-01-15", test: rest, embargo: 4d}
  out_of_time:
    spine: {source: m, keys: k, columns: [merchant]}
    label: {column: y}
    encode: {columns: merchant, with: target, folds: time, label_delay: 4d, smoothing: 0}
""",
        s=[{"k": 1, "t": at(day * DAY)} for day in (3, 6, 7.5, 9, 10, 13)],
        m=[{"k": 1, "t": at(day * DAY), "merchant": "A", "y": y} for day, y in events],
    )
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(project.folder / "scratch"))
    opened = project.open()
    opened.build()
    splits = opened.dataset("embargo").to_polars()["split"].to_list()
    assert splits == ["train", "train", "embargoed", "embargoed", "test", "test"]
    encoded = opened.dataset("out_of_time").to_polars()["merchant"].to_list()
    assert encoded[:2] == [None, None]
    assert encoded[5] == 2 / 4
