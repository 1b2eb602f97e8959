"""Finished work, remembered: a task that is done leaves a marker, and is not done again.

Markers and the files that they stand for are in scratch, or below a URL where the hosts of a cluster share no disk.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from featureflow.core.errors import ComputeError
from featureflow.core.storage import is_local, read_bytes, write_atomic


def read_marker(path: str) -> dict[str, Any] | None:
    """What a finished task left; None if there is nothing, or nothing whole (a power cut can leave that)."""
    try:
        marker = json.loads(read_bytes(path))
    except (FileNotFoundError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def write_marker(path: str, content: dict[str, Any]) -> None:
    """Say that a task is finished; its files must be in place by now."""
    text = json.dumps(content)
    if not is_local(path):
        write_atomic(path, text.encode())
        return
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Give a temporary name to write to, for a path; it becomes ``path`` when all went well, and is removed if not.

    Raises
    ------
    ComputeError
        If the disk does not take it.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise ComputeError(
            f"Can't write {path}: {error}. Is the scratch disk full? Set --scratch to a folder with space."
        ) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
