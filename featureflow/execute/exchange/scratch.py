"""Scratch, and the folder of the store in its place where hosts share none: what is kept, and what has to go."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from featureflow.core import storage
from featureflow.execute.windows.spilling import remove_abandoned

#: Share of the disk that exchange files of earlier builds may take.
KEPT_SHARE = 0.2
#: What was used so lately stays in any case: a build that runs beside this one may be about to read it.
MINIMUM_AGE_SECONDS = 24 * 3600
#: Folders below scratch whose files are named by their content: any of them can be made again.
FOLDERS = ("exchange", "manifests", "checks", "drops", "export")


def evict(
    scratch: str, limit_bytes: int | None = None, minimum_age_seconds: float = MINIMUM_AGE_SECONDS
) -> int:
    """Remove what was used longest ago until the rest fits; returns the bytes removed.

    Parameters
    ----------
    limit_bytes
        How much may stay; a fifth of the disk by default.
    minimum_age_seconds
        Files that were made or used since stay, even if the limit is exceeded.

    Notes
    -----
    Cost: one walk over the folder.
    """
    if not os.path.isdir(scratch):
        return 0
    abandoned = remove_abandoned(scratch, minimum_age_seconds)
    limit = int(shutil.disk_usage(scratch).total * KEPT_SHARE) if limit_bytes is None else limit_bytes
    files = []
    for name in FOLDERS:
        for folder, _, names in os.walk(os.path.join(scratch, name)):
            for file in names:
                with suppress(OSError):  # another build may have removed it
                    found = os.stat(os.path.join(folder, file))
                    files.append((found.st_mtime, found.st_size, os.path.join(folder, file)))
    excess = sum(size for _, size, _ in files) - limit
    removed = 0
    for used, size, path in sorted(files):
        if removed >= excess or used > time.time() - minimum_age_seconds:
            break
        with suppress(OSError):
            os.unlink(path)
            removed += size
    return removed + abandoned


#: How long files of the store's work folder stay: a build that goes on for longer makes again what is missing. Whoever
#: reads one does not touch it, as an object store has no such thing; so once a week everything is made anew.
WORK_AGE = timedelta(days=7)
#: Pieces of datasets on their way: only a build that was stopped can use them again.
PIECES = "pieces"
PIECES_AGE = timedelta(days=1)


def evict_work(board: str, *, dry_run: bool = False, now: datetime | None = None) -> tuple[int, int]:
    """Remove old files of a store's work folder; returns how many, and their bytes.

    What is younger than a week (pieces of datasets: a day) stays: a build that runs may be about to read it.

    Notes
    -----
    Cost: one listing (a request for each thousand files), and one request for each file that goes.
    """
    now = now or datetime.now(UTC)
    n = size = 0
    for path, n_bytes, changed in list(storage.walk(board)):
        if changed < now - (PIECES_AGE if path.startswith(f"{PIECES}/") else WORK_AGE):
            if not dry_run:
                storage.delete(storage.join(board, path))
            n, size = n + 1, size + n_bytes
    return n, size
