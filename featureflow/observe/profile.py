"""Where the time of a build went, as text for terminals: by kind of work, by stage, by worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    "failed": ("task", "failed; what failed was started again, up to three times"),
    "lost": ("task", "lost with a worker and started again"),
    "restarts": ("worker", "restarted"),
    "workers_lost": ("worker", "gone without being asked to"),
    "retries": ("request", "sent again"),
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
    mine = [(name.partition(":")[2], amount) for name, amount in found.items() if name.startswith(f"{kind}:")]
    return sorted(mine, key=lambda one: -one[1])


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
    kinds = _columns(profile, largest, limit)
    others = [kind for kind in profile["kinds"] if kind not in kinds]
    shown = any(_share(stage, *others) >= 0.005 for stage in largest)
    rows: list[tuple[str, ...]] = []
    styles: list[tuple[str, ...]] = []
    for stage in stages:
        if stage not in largest:
            continue
        on_driver = stage["where"] == "driver"
        name = f"driver: {stage['name']}" if on_driver else stage["name"]
        tasks = "" if on_driver else count(stage["tasks"])
        shares = [_percent(_share(stage, kind)) for kind in kinds]
        rest = [_percent(_share(stage, *others))] if shown else []
        rows.append((name, seconds(stage["seconds"]), tasks, *shares, *rest))
        styles.append(("dim",) if on_driver else ())
    headers = (
        "stage",
        "time",
        "tasks",
        *(_SHORT.get(kind, kind) for kind in kinds),
        *(["others"] if shown else []),
    )
    right = range(1, len(headers))
    lines = table(rows, headers, limit=limit, right=right, styles=styles, paint=brush, indent="  ")
    left = len(stages) - len(largest)
    return lines + ([f"  … and {plural(left, 'shorter one')}"] if left else [])


def _columns(profile: Profile, stages: Sequence[Mapping[str, Any]], limit: int) -> list[str]:
    """Kinds that get a column in the table of stages: all that matter somewhere, as far as there is room."""
    kinds = [kind for kind in profile["kinds"] if any(_share(stage, kind) >= 0.005 for stage in stages)]
    widths = {kind: 2 + max(4, len(_SHORT.get(kind, kind))) for kind in kinds}
    room = limit - 2 - 24 - 10 - 7
    while sum(widths.values()) + (8 if len(widths) < len(kinds) else 0) > room and len(widths) > 1:
        del widths[min(widths, key=lambda kind: sum(stage["spent"].get(kind, 0.0) for stage in stages))]
    return [kind for kind in kinds if kind in widths]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else ""


def _share(stage: Mapping[str, Any], *kinds: str) -> float:
    spent = float(sum(stage["spent"].get(kind, 0.0) for kind in kinds))
    return spent / stage["available"] if stage["available"] else 0.0


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
    found, total = profile["counts"], profile["total"]
    busy = sum(spent for kind, spent in total["spent"].items() if kind not in ("driver", "idle", "commit"))
    told = []
    if busy:
        told.append(
            f"threads were on a processor for {min(1.0, total.get('cpu', 0.0) / busy):.0%} of the time of their tasks; "
            "else they waited, for storage, for helping threads or for a core"
        )
    if beside := sum(total.get("beside", {}).values()):
        told.append(f"threads that help a task, as for reading ahead, worked for {seconds(beside)} beside it")
    told += [
        f"{plural(found[name], noun)} {text}" for name, (noun, text) in COUNTED.items() if found.get(name)
    ]
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
