"""What held a build up, and what to change: read off the sums of its profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from featureflow.observe.grid_advice import IDLE, grid_advice, is_of_grid
from featureflow.observe.units import count, plural, seconds, size

Profile = dict[str, Any]

#: Names of kinds for people; the others are their own.
NAMES = {"nvme read": "NVMe read", "driver": "driver alone"}

#: What the largest kernels can be traded for.
_KERNELS = {
    "sort": "rows of the look-back are sorted again for each run of slices: a longer `partition:` has fewer runs",
    "derive": "`derive` in SQL runs as native code, a Python function does not",
    "lookup": "a `ttl` bounds what a look-up reads",
    "windows": "windows that several aggregations share are computed once: fewer different windows",
    "quantile": "quantiles cost most: ask for fewer windows of them, or on a coarser grid (`at: {every: …}`)",
    "distinct": "each column of distinct values is sorted: ask for fewer, or on a coarser grid (`at: {every: …}`)",
    "fit": "encoders that are fitted in several steps read the train rows once for each",
}

#: For idle threads, by what keeps them.
_IDLE = {
    "few": "Fewer workers would do. More buckets or shorter slices, or smaller input files, make more tasks.",
    "one": "A hot key or one large file does that: write files in more row groups, or cut shorter slices.",
    "driver": "Tasks are too small: fewer buckets, longer slices, larger input files.",
    "short": "Where tasks take less than a tenth of a second, starting them counts: larger input files, longer slices.",
}


def kind_name(kind: str) -> str:
    """Name of a kind of work for people."""
    return NAMES.get(kind, kind)


def find_bottleneck(profile: Profile) -> Profile:
    """Name the kind of work that took most of the thread-seconds, and say what to change.

    Parameters
    ----------
    profile
        As `featureflow.execute.profiling.sums.profile_of` makes it, up to its ``total``.

    Returns
    -------
    dict
        ``kind``, ``share`` (of all thread-seconds, 0 to 1), ``text`` (what it means here, one sentence) and ``advice``
        (what to change, one or two). Without thread-seconds: kind None.
    """
    total = profile["total"]
    if not total["available"] or not total["spent"]:
        return {"kind": None, "share": 0.0, "text": "Nothing took any time.", "advice": ""}
    kind = max(total["spent"], key=lambda name: total["spent"][name])
    share = total["spent"][kind] / total["available"]
    explain = _EXPLAINED.get(kind, _computing)
    text, advice = explain(profile)
    advice = grid_advice(profile, kind) or advice
    return {
        "kind": kind,
        "share": round(share, 4),
        "text": f"{kind_name(kind)} {share:.0%}: {text}",
        "advice": advice,
    }


def bottleneck_line(profile: Profile) -> str | None:
    """Give the verdict and the advice as one paragraph; None where no task ran."""
    if not any(stage["where"] == "workers" for stage in profile.get("stages", ())):
        return None
    found = profile["bottleneck"]
    return f"{found['text']} {found['advice']}"


def _rate(profile: Profile, kind: str) -> str:
    """All bytes of a kind, and how fast they came while somebody worked on them."""
    moved = sum(n for name, n in profile["total"]["bytes"].items() if name.partition(":")[0] == kind)
    lengths = sum(
        stage["seconds"]
        for stage in profile["stages"]
        if stage["where"] == "workers" and stage["spent"].get(kind, 0.0) > 0
    )
    return f"{size(moved)} at {size(moved / lengths)}/s" if moved and lengths else ""


def _with_rate(profile: Profile, kind: str) -> str:
    rate = _rate(profile, kind)
    return f" ({rate} over all workers)" if rate else ""


def _remote(profile: Profile) -> tuple[str, str]:
    hits, misses = profile["counts"].get("cache hits", 0), profile["counts"].get("cache misses", 0)
    cached = f" {count(hits)} of {count(hits + misses)} chunks came from a host's cache." if hits else ""
    return (
        f"the workers wait for the object store{_with_rate(profile, 'remote read')}.{cached}",
        (
            "More workers on the same network do not help. Read less: fewer columns, a time range that skips row "
            "groups; or read it once: a `cache:` on NVMe (of the target) that has room for all of the input."
        ),
    )


def _disk(profile: Profile) -> tuple[str, str]:
    return (
        f"the workers wait for the local disk{_with_rate(profile, 'nvme read')}.",
        "Put --scratch on NVMe, or on several disks; more hosts bring more disks, more threads a host do not help.",
    )


def _decoding(profile: Profile) -> tuple[str, str]:
    return (
        f"reading and decoding files takes the time{_with_rate(profile, 'decode')}.",
        (
            "More cores help. Fewer columns, Parquet in place of CSV or JSON, and lz4 or zstd at a low level in place "
            "of gzip help more."
        ),
    )


def _computing(profile: Profile) -> tuple[str, str]:
    kernels = {
        name.partition(":")[2]: amount
        for name, amount in profile["total"]["details"].items()
        if name.startswith("compute:")
    }
    whole = sum(kernels.values()) or 1.0
    largest = sorted(kernels, key=lambda name: -kernels[name])[:3]
    named = ", ".join(f"{name} {kernels[name] / whole:.0%}" for name in largest)
    hints = [text for name in largest for key, text in _KERNELS.items() if key in name]
    hint = f" {hints[0][0].upper()}{hints[0][1:]}." if hints else ""
    return (
        f"the workers compute, of that {named}.",
        f"More cores help: more workers, or more threads each.{hint}",
    )


def _exchanging(profile: Profile) -> tuple[str, str]:
    remote = profile["total"]["details"].get("exchange:remote", 0.0)
    text = f"bringing rows of a key together takes the time{_with_rate(profile, 'exchange')}."
    if remote > 0.5 * profile["total"]["spent"]["exchange"]:
        return (
            text,
            "Most of it goes from host to host: fewer, larger hosts, or a scratch folder that all share.",
        )
    return (
        text,
        "Put --scratch on NVMe. Rows are exchanged once and kept: a larger scratch budget saves it next time.",
    )


def _encoding(profile: Profile) -> tuple[str, str]:
    return (
        f"encoding and compressing results takes the time{_with_rate(profile, 'encode')}.",
        "More cores help. Fewer output columns (`keep:`, fewer windows) help more.",
    )


def _writing(profile: Profile) -> tuple[str, str]:
    return (
        f"the workers wait for the store to take results{_with_rate(profile, 'write')}.",
        "A faster store, fewer output columns, or larger files (a longer `partition:`) help; more workers do not.",
    )


def _committing(_: Profile) -> tuple[str, str]:
    return (
        "publishing versions takes the time, while all workers wait.",
        "The cost follows the number of files: a longer `partition:` makes fewer.",
    )


def _spilling(_: Profile) -> tuple[str, str]:
    return (
        "the workers move data between memory and disk.",
        "Give each worker more memory (--memory), or the same memory to fewer threads.",
    )


def _driving(profile: Profile) -> tuple[str, str]:
    phases = [stage for stage in profile["stages"] if stage["where"] == "driver"]
    worst = max(phases, key=lambda stage: stage["waiting"])
    advice = {
        "start": "A cluster that is already there (--scheduler tcp://…) saves its start.",
        "plan": "Planning follows the number of files, slices and columns: larger input files, a longer `partition:`.",
    }.get(worst["name"], "It follows the number of files and slices: a longer `partition:` makes fewer.")
    return (
        f"all workers wait while the driver works alone: {seconds(worst['seconds'])} in its phase {worst['name']!r}.",
        f"More workers do not help. {advice}",
    )


def _idling(profile: Profile) -> tuple[str, str]:
    stages = [stage for stage in profile["stages"] if stage["where"] == "workers"]
    worst = max(stages, key=lambda stage: stage["spent"].get("idle", 0.0))
    slots, name, n_tasks = profile["slots"], worst["name"], worst["tasks"] + worst["lost"]
    advice = IDLE if is_of_grid(worst) else _IDLE
    if n_tasks < slots:
        return f"{plural(n_tasks, 'task')} for {plural(slots, 'thread')} in {name!r}.", advice["few"]
    if worst["lost"]:
        return (
            f"workers died in {name!r}, and {plural(worst['lost'], 'task')} began again.",
            "See the workers' logs; memory is the usual reason: give each more (--memory), or fewer threads.",
        )
    if worst["longest"] > 0.5 * worst["seconds"]:
        return (
            (
                f"one task of {name!r} took {seconds(worst['longest'])} of {seconds(worst['seconds'])}, while the "
                f"other threads had nothing left to do ({worst['longest_label']})."
            ),
            advice["one"],
        )
    if worst["driver"] > 0.5 * worst["seconds"]:
        return f"the driver could not hand out the tasks of {name!r} fast enough.", advice["driver"]
    each = (worst["available"] - worst["spent"].get("idle", 0.0)) / max(1, worst["tasks"])
    return (
        f"threads wait for the next task in {name!r}; {count(worst['tasks'])} took {seconds(each)} on average.",
        advice["short"],
    )


_EXPLAINED: dict[str, Callable[[Profile], tuple[str, str]]] = {
    "remote read": _remote,
    "nvme read": _disk,
    "decode": _decoding,
    "compute": _computing,
    "exchange": _exchanging,
    "encode": _encoding,
    "write": _writing,
    "commit": _committing,
    "spill": _spilling,
    "driver": _driving,
    "idle": _idling,
}
