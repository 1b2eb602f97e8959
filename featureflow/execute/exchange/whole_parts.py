"""What a task reads as a whole, a row group or a file of text, where that is more than the task may hold.

Everything else goes through in pieces; these can't be cut by whoever reads them. So a plan says which they are, and
refuses those that no worker could read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from featureflow.core.errors import PlanError
from featureflow.core.storage import is_local
from featureflow.execute.exchange.exchange_file import Chunk, Rekey
from featureflow.execute.exchange.places import SCRATCH
from featureflow.execute.exchange.rekeying_pieces import COPIES
from featureflow.execute.sizing import BASELINE_BYTES, Budget

#: A task that re-keys a part of a typed file held 3.5 times its decoded columns at its peak (4M rows of Parquet).
READ_COPIES = 3.5
#: And 3 (CSV) and 3.5 (JSON) times the text of a text file beside two copies of its columns.
TEXT_COPIES = 3.5


@dataclass(frozen=True, slots=True)
class WholePart:
    """A part of a file, and what a task holds of it at its peak.

    ``least`` is two copies of its columns if all texts are empty, and the text of a text file once; ``about`` is what
    such tasks were measured to hold.
    """

    path: str
    group: int | None
    rows: int
    least: int
    about: int

    @property
    def name(self) -> str:
        """For people."""
        return self.path if self.group is None else f"row group {self.group} of {self.path}"


def whole_parts(
    job: Rekey, chunks: Iterable[Chunk], drops: Mapping[str, str], least_row_bytes: int, *, text: bool
) -> list[WholePart]:
    """Parts of raw files that are more than a task may hold, the largest first; none of files that are re-keyed.

    Parameters
    ----------
    drops
        Names of the lists of dropped rows, by chunk.
    least_row_bytes
        A decoded row whose texts are empty.
    text
        Whether the format is text (CSV, JSON): a file of it is read as one, and its text is there beside its columns.

    Notes
    -----
    Cost: a comparison for each chunk.
    """
    found: list[WholePart] = []
    for chunk in chunks:
        if _about(chunk.rows * job.row_bytes, chunk.size, text) <= job.room_bytes or _is_made(
            job.path(chunk, drops.get(chunk.id, ""))
        ):
            continue
        parts = _parts(job, chunk, least_row_bytes, text)
        found.extend(part for part in parts if part.about > job.room_bytes)
    return sorted(found, key=lambda part: (-part.about, part.path, part.group or 0))


def _is_made(path: str) -> bool:
    """Whether an earlier build has written the exchange file, as far as this process sees."""
    return is_local(path) and not path.startswith(SCRATCH) and os.path.exists(path)


def _parts(job: Rekey, chunk: Chunk, least_row_bytes: int, text: bool) -> Iterator[WholePart]:
    file = getattr(chunk.file, "file", None)
    if file is None:  # a file of a table of ours, which is as large as a task made it
        return
    for group in chunk.file.groups:
        if chunk.row_groups is None or group.index in chunk.row_groups:
            least = COPIES * group.rows * least_row_bytes + (group.bytes if text else 0)
            about = _about(group.rows * job.row_bytes, group.bytes, text)
            yield WholePart(file.path, None if text else group.index, group.rows, least, max(least, about))


def _about(decoded: int, stored: int, text: bool) -> int:
    return int(COPIES * decoded + TEXT_COPIES * stored if text else READ_COPIES * decoded)


def judge_whole_parts(source: str, parts: list[WholePart], columns: tuple[str, ...], budget: Budget) -> str:
    """What to tell of them; empty if there are none.

    Raises
    ------
    PlanError
        If one alone, with a worker's process, is more than the worker's memory, however short its texts are.
    """
    if not parts:
        return ""
    limit = int(budget.limit_bytes / budget.share)
    fatal = [part for part in parts if BASELINE_BYTES + part.least > limit]
    part = max(fatal, key=lambda one: one.least) if fatal else parts[0]
    held = part.least if fatal else part.about
    named = ", ".join(columns[:5]) + (", …" if len(columns) > 5 else "")
    others = f", and {len(parts) - 1} more parts are too large" if len(parts) > 1 else ""
    rows = max(1, budget.task_bytes * part.rows // max(1, part.about))
    cut = f"files of at most {rows:,} rows" if part.group is None else f"row groups of at most {rows:,} rows"
    needed = -(-int((BASELINE_BYTES + budget.threads * part.about) / budget.share) // 1_000_000)
    dataset = source.removesuffix(".spine")
    where = f"{f'sources.{source}' if dataset == source else f'datasets.{dataset}.spine'}: {part.name}"
    why = (
        f"is read as a whole, by one task: its {part.rows:,} rows of {named} take {held / 1e6:,.0f} MB while they are "
        f"decoded and put into buckets"
    )
    do = f"Write it again in {cut}, or set --memory to {needed}MB"
    if fatal:
        raise PlanError(
            f"{where} {why}, at the least; with the process's own {BASELINE_BYTES / 1e6:.0f} MB that is more than "
            f"all memory of a worker, {limit / 1e6:,.0f} MB{others}. {do}."
        )
    return (
        f"{where} {why}; a task may hold {budget.task_bytes / 1e6:,.0f} MB{others}. It is tried; if a worker "
        f"runs out of memory: {do[0].lower()}{do[1:]}."
    )
