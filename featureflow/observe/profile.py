"""Where the time of a build went, as text for terminals: by kind of work, by stage, by worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featureflow.observe.bottleneck import kind_name
from featureflow.observe.terminal import Paint, table, wrap
from featureflow.observe.units import count, plural, seconds, size

Profile = Mapping[str, Any]

#: Headings of kinds in the table of stages.
_SHORT = {"remote read": "remote", "nvme read": "NVMe"}
#: How many stages, details of a kind and workers are shown.
STAGES, DETAILS, WORKERS = 20, 6, 12
_BAR = 28
#: What is counted, for people.
COUNTED = {
    "failed": "runs of tasks failed and were started again",
    "lost": "runs of tasks were lost with their worker",
    "restarts": "workers were restarted",
    "workers_lost": "workers left the cluster without being asked to",
    "retries": "requests were sent again",
}


def profile_text(profile: Profile, *, limit: int = 100, paint: Paint | None = None) -> str:
    """Two screens at most: the verdict, kinds of work with their bytes, stages, workers."""
    brush = paint or Paint()
    head = f"{profile['project']} · build {profile['build_id']} · {profile['status']}"
    lines = [brush(head, "bold"), *wrap(f"  {about(profile)}", limit, "  "), ""]
    found = profile["bottleneck"]
    lines += [brush(line, "bold") for line in wrap(f"  {found['text']}", limit, "    ")]
    lines += wrap(f"  {found['advice']}", limit, "  ") if found["advice"] else []
    lines += ["", *_kind_lines(profile, limit, brush), "", *_stage_lines(profile, limit, brush)]
    if profile["workers"]:
        lines += ["", *_worker_lines(profile, limit, brush)]
    told = remarks(profile)
    lines += ["", *(line for text in told for line in wrap(f"  {text}", limit, "    "))] if told else []
    return "\n".join(lines)


def about(profile: Profile) -> str:
    """One line: how long, where, how much of the workers' time is accounted for."""
    total = profile["total"]
    return (
        f"{seconds(profile['seconds'])} on {profile['executor'] or 'nothing'} · "
        f"{seconds(total['available'])} of thread time, {total['accounted']:.1%} accounted for"
    )


def kinds_of(profile: Profile) -> list[str]:
    """Kinds that took time, the longest first; what nobody used comes last."""
    spent = profile["total"]["spent"]
    return sorted(spent, key=lambda kind: (kind in ("driver", "idle"), -spent[kind]))


def kind_bytes(profile: Profile, kind: str) -> int:
    """Bytes of a kind; of what is told in detail, the sum."""
    found = profile["total"]["bytes"]
    return int(sum(n for name, n in found.items() if name.partition(":")[0] == kind))


def rate_text(n_bytes: int, spent: float) -> str:
    """Bytes for each second that a thread spent on them."""
    return f"{size(n_bytes / spent)}/s" if n_bytes and spent > 1e-4 else ""


def details_of(profile: Profile, kind: str) -> list[tuple[str, float]]:
    """Seconds by detail of a kind, the longest first."""
    found = profile["total"]["details"]
    return [(name.partition(":")[2], amount) for name, amount in found.items() if name.startswith(f"{kind}:")]


def _kind_lines(profile: Profile, limit: int, brush: Paint) -> list[str]:
    total = profile["total"]
    available = total["available"] or 1.0
    rows: list[tuple[str, ...]] = []
    styles: list[tuple[str, ...]] = []
    for kind in kinds_of(profile):
        spent = total["spent"][kind]
        moved = kind_bytes(profile, kind)
        rows.append(
            (
                kind_name(kind),
                seconds(spent),
                f"{spent / available:.0%}",
                _bar(spent / available),
                size(moved) if moved else "",
                rate_text(moved, spent),
            )
        )
        styles.append(("bold",))
        details = details_of(profile, kind)
        if len(details) > 1 or (details and details[0][0] != "other"):
            shown = details[:DETAILS]
            rest = sum(amount for _, amount in details[DETAILS:])
            for name, amount in [*shown, *([(f"{len(details) - DETAILS} more", rest)] if rest else [])]:
                share = amount / available
                rows.append((f"  {name}", seconds(amount), f"{share:.0%}", _bar(share), "", ""))
                styles.append(())
    headers = ("kind of work", "thread time", "share", "", "bytes", "a thread")
    return table(rows, headers, limit=limit, right=(1, 2, 4, 5), styles=styles, paint=brush, indent="  ")


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def _stage_lines(profile: Profile, limit: int, brush: Paint) -> list[str]:
    stages = [stage for stage in profile["stages"] if stage["seconds"] >= 0.0005]
    largest = sorted(stages, key=lambda stage: -stage["seconds"])[:STAGES]
    kinds = [
        kind
        for kind in profile["kinds"]
        if kind != "driver" and any(_share(stage, kind) >= 0.005 for stage in largest)
    ]
    rows: list[tuple[str, ...]] = []
    styles: list[tuple[str, ...]] = []
    for stage in stages:
        if stage not in largest:
            continue
        on_driver = stage["where"] == "driver"
        name = f"driver: {stage['name']}" if on_driver else stage["name"]
        tasks = "" if on_driver else count(stage["tasks"])
        shares = [f"{_share(stage, kind):.0%}" if _share(stage, kind) >= 0.005 else "" for kind in kinds]
        rows.append((name, seconds(stage["seconds"]), tasks, *shares))
        styles.append(("dim",) if on_driver else ())
    headers = ("stage", "time", "tasks", *(_SHORT.get(kind, kind) for kind in kinds))
    right = range(1, len(headers))
    lines = table(rows, headers, limit=limit, right=right, styles=styles, paint=brush, indent="  ")
    left = len(stages) - len(largest)
    return lines + ([f"  … and {plural(left, 'shorter one')}"] if left else [])


def _share(stage: Mapping[str, Any], kind: str) -> float:
    return float(stage["spent"].get(kind, 0.0)) / stage["available"] if stage["available"] else 0.0


def worker_rows(profile: Profile) -> list[tuple[str, ...]]:
    """A row for each worker: name, threads, tasks, share of the build in which it was busy, peak memory."""
    whole = profile["seconds"] or 1.0
    return [
        (
            f"{worker['host']}, worker {worker['name']}" if worker["name"] else worker["host"],
            count(worker["threads"]),
            count(worker["tasks"]),
            f"{worker['busy'] / max(1, worker['threads']) / whole:.0%}",
            size(worker["peak_bytes"]),
        )
        for worker in sorted(profile["workers"], key=lambda worker: -worker["busy"])
    ]


WORKER_HEADERS = ("worker", "threads", "tasks", "busy", "peak memory")


def _worker_lines(profile: Profile, limit: int, brush: Paint) -> list[str]:
    rows = worker_rows(profile)
    lines = table(rows[:WORKERS], WORKER_HEADERS, limit=limit, right=(1, 2, 3, 4), paint=brush, indent="  ")
    left = len(rows) - WORKERS
    return lines + ([f"  … and {plural(left, 'less busy one')}"] if left > 0 else [])


def remarks(profile: Profile) -> list[str]:
    """What else happened that cost time, one sentence each."""
    found = profile["counts"]
    told = [f"{count(found[name])} {text}" for name, text in COUNTED.items() if found.get(name)]
    hits, misses = found.get("cache hits", 0), found.get("cache misses", 0)
    if hits or misses:
        told.append(
            f"cache of remote files: {count(hits)} of {count(hits + misses)} pieces were on the host's disk"
        )
    local, remote = (profile["total"]["bytes"].get(f"exchange:{where}", 0) for where in ("local", "remote"))
    if remote:
        told.append(f"exchange: {size(local)} from the own host's disk, {size(remote)} from other hosts")
    if found.get("spilled_bytes"):
        told.append(
            f"Dask spilled {size(found['spilled_bytes'])} to disk: workers had more in memory than planned"
        )
    if profile.get("dashboard"):
        told.append(f"dashboard {profile['dashboard']}")
    return told
