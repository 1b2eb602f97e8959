"""Where rows that memory can't hold are while a task works on them, and who may remove them."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from uuid import uuid4

from featureflow.execute.exchange.places import here

#: Folder below scratch.
SPILL = "spill"


def spill_folder(scratch: str) -> str:
    """Name of a new folder on this host's scratch disk, not made yet; it says whose it is.

    Parameters
    ----------
    scratch
        The driver's scratch folder; a worker of another host has its own.
    """
    own = here()
    root = own.scratch if own is not None else scratch or tempfile.gettempdir()
    return os.path.join(root, SPILL, f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex}")


def remove_abandoned(scratch: str, minimum_age_seconds: float) -> int:
    """Remove what processes that were killed left behind; returns the bytes.

    What a process of this host left goes as soon as the process is gone, the rest when it is old.
    """
    removed = 0
    folder = os.path.join(scratch, SPILL)
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        with suppress(OSError):
            size = sum(os.path.getsize(os.path.join(path, file)) for file in os.listdir(path))
            if _is_gone(name) or os.stat(path).st_mtime < time.time() - minimum_age_seconds:
                shutil.rmtree(path, ignore_errors=True)
                removed += size
    return removed


def _is_gone(name: str) -> bool:
    """Whether the process that a folder is named by runs no more; False for one of another host."""
    host, _, process = name.rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
