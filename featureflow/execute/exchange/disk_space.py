"""What to say when a disk is full, and how much is free before it is."""

from __future__ import annotations

import errno
import os
import shutil

from featureflow.core.errors import ComputeError


def write_error(path: str, error: OSError, wanted: int | None = None) -> ComputeError:
    """The error of a file that could not be written to scratch: where, why, how much is free, what to do.

    Parameters
    ----------
    wanted
        Bytes that were to be written, if known.
    """
    what = f"Can't write {path}: {error.strerror or error}."
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) and "No space" not in str(error):
        return ComputeError(f"{what} Is the scratch folder there, and may this user write to it?")
    needed = "" if wanted is None else f" {wanted:,} bytes were to be written;"
    return ComputeError(
        f"{what} The scratch disk is full:{needed} {free_bytes(path):,} of {total_bytes(path):,} bytes are free. "
        "Free some, or set --scratch to a folder on a larger disk; finished work is kept and not done again."
    )


def free_bytes(path: str) -> int:
    """Bytes that can still be written on the disk of a path, which need not exist yet."""
    return shutil.disk_usage(_existing(path)).free


def total_bytes(path: str) -> int:
    """Bytes of the disk of a path."""
    return shutil.disk_usage(_existing(path)).total


def _existing(path: str) -> str:
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        above = os.path.dirname(path)
        if above == path:
            break
        path = above
    return path
