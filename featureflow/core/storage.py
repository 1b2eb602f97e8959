"""Files behind URLs: the small objects that stores are made of.

A URL is a local path (or ``file://``), served by the standard library alone, ``s3://``, served by obstore (sources are
listed by s3fs), or anything else that fsspec knows (``gs://``, ``memory://``); all imported when first needed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featureflow.core import s3, s3_objects
from featureflow.core.errors import SourceError, Unreachable
from featureflow.core.urls import WHERE_THEY_BELONG, has_credentials


def is_local(url: str) -> bool:
    """Whether the URL is a path of this machine."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str) -> str:
    """Absolute path of a local URL."""
    return os.path.abspath(os.path.expanduser(url.removeprefix("file://")))


def join(url: str, *names: str) -> str:
    """Append path components to a URL or path."""
    return "/".join([url.rstrip("/") if url != "/" else "", *names])


@contextmanager
def talking_to(url: str) -> Iterator[None]:
    """Turn what a store's client raises into the two errors that mean something to the user."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, SourceError, Unreachable):
        raise
    except PermissionError as error:
        raise SourceError(
            f"{url}: permission denied ({error}). Check the credentials of this store."
        ) from error
    except Exception as error:  # clients raise botocore, aiohttp, google errors: no common base to name
        raise Unreachable(f"{url}: the store can't be reached: {type(error).__name__}: {error}") from error


def filesystem(url: str) -> tuple[Any, str]:
    """Give the fsspec file system of a URL, and the path inside it.

    Raises
    ------
    SourceError
        If no installed package serves the URL's scheme.
    """
    import fsspec

    if has_credentials(url):
        raise SourceError(f"{url.partition('://')[0]}://: {WHERE_THEY_BELONG}")
    try:
        fs, path = fsspec.core.url_to_fs(url, **s3.fsspec_options(url))
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        raise SourceError(f"{url}: nothing installed serves '{scheme}://': {error}") from error
    return fs, str(path)


# ---------------------------------------------------------------- small objects of a store


def read_bytes(url: str) -> bytes:
    """Read a whole object.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    Unreachable
        If the store does not answer.
    """
    if is_local(url):
        return Path(local_path(url)).read_bytes()
    if s3.usable(url):
        return s3_objects.read(url)
    with talking_to(url):
        fs, path = filesystem(url)
        return bytes(fs.cat_file(path))


def write_new(url: str, data: bytes) -> bool:
    """Create an object, whole or not at all; of several writers exactly one wins.

    Returns
    -------
    bool
        False if the object was there before; it is then unchanged.

    Notes
    -----
    Local: a synced temporary file is hard-linked to its name. S3: a conditional PUT; if its reply was lost and the
    client repeats it, the store says that the object exists, so a mark in the object's metadata tells ours from
    another's. Elsewhere: fsspec's ``mode="create"``, which is a conditional PUT on GCS and Azure.
    """
    if s3.usable(url):
        return s3_objects.create(url, data)
    if not is_local(url):
        with talking_to(url):
            fs, path = filesystem(url)
            try:
                fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if "pre-condition" in str(error):  # what s3fs makes of S3's "it exists"
                    return False
                raise
            return True
    target = Path(local_path(url))
    with full_disks_named(str(target), len(data)), _temporary(target, data) as temporary:
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
    _sync_folder(target.parent)
    return True


def write_atomic(url: str, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Write or replace an object; a reader sees the old bytes or the new ones, never a mixture.

    Parameters
    ----------
    durable
        On a local disk, wait until it survives a power cut. A writer of many files, to whom none matters before the
        last is there, says False and calls :func:`flush` once: waiting for each costs more than computing it.
    """
    if s3.usable(url):
        s3_objects.put(url, data)
        return
    if not is_local(url):
        with talking_to(url):
            fs, path = filesystem(url)
            fs.pipe_file(path, bytes(data))
        return
    target = Path(local_path(url))
    with full_disks_named(str(target), len(data)), _temporary(target, data, durable=durable) as temporary:
        os.replace(temporary, target)
    if durable:
        _sync_folder(target.parent)


def flush(url: str) -> None:
    """Wait until everything written below a local URL survives a power cut; object stores need no such call."""
    if not is_local(url) or not os.path.isdir(local_path(url)):
        return
    handle = os.open(local_path(url), os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None or syncfs(handle) != 0:
            os.sync()
    finally:
        os.close(handle)


@contextmanager
def full_disks_named(path: str, wanted: int | None = None) -> Iterator[None]:
    """Let the error of a full disk say which file, how many bytes, and how many are free."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or "bytes are free" in str(error):
            raise
        folder = os.path.dirname(path)
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
        disk = shutil.disk_usage(folder)
        needed = "" if wanted is None else f"{wanted:,} bytes were to be written, "
        said = f"{error.strerror}: {needed}{disk.free:,} of {disk.total:,} bytes are free"
        raise OSError(error.errno, said, path) from error


@contextmanager
def _temporary(target: Path, data: bytes | memoryview, *, durable: bool = True) -> Iterator[str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp gives 0600, and a store is shared
        yield name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def exists(url: str) -> bool:
    """Whether an object or folder is there."""
    if is_local(url):
        return os.path.exists(local_path(url))
    if s3.usable(url):
        try:
            size_of(url)
        except FileNotFoundError:
            return bool(_listed(url))
        return True
    with talking_to(url):
        fs, path = filesystem(url)
        fs.invalidate_cache()
        return bool(fs.exists(path))


def size_of(url: str) -> int:
    """Bytes of a file.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    if is_local(url):
        return os.stat(local_path(url)).st_size
    if s3.usable(url):
        return s3_objects.size(url)
    with talking_to(url):
        fs, path = filesystem(url)
        return int(fs.info(path)["size"])


def list_names(url: str) -> list[str]:
    """Names directly in a folder, sorted; empty if there is no such folder. Temporary files are left out."""
    if is_local(url):
        try:
            names = os.listdir(local_path(url))
        except (FileNotFoundError, NotADirectoryError):
            return []
    else:
        names = list(_listed(url))
    return sorted(name for name in names if not name.startswith(".tmp-"))


def list_sizes(url: str) -> dict[str, int]:
    """Bytes by name of the files directly in a folder; empty if there is no such folder.

    An object store gives a thousand of them in one request.
    """
    if is_local(url):
        try:
            with os.scandir(local_path(url)) as entries:
                return {e.name: e.stat().st_size for e in entries if e.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
    return {name: size for name, size in _listed(url).items() if size is not None}


def _listed(url: str) -> dict[str, int | None]:
    """Bytes by name of what is directly in a remote folder; None for folders."""
    if s3.usable(url):
        return s3_objects.listed(url)
    with talking_to(url):
        fs, path = filesystem(url)
        fs.invalidate_cache()
        try:
            entries = fs.ls(path, detail=True)
        except FileNotFoundError:
            return {}
    return {
        entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"]) if entry["type"] == "file" else None
        for entry in entries
    }


def walk(url: str) -> Iterator[tuple[str, int, datetime]]:
    """Every file below a folder: path below it, bytes, and when it was last changed."""
    if is_local(url):
        root = local_path(url)
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    stat = os.stat(path)
                except FileNotFoundError:  # somebody has renamed a temporary file meanwhile
                    continue
                yield os.path.relpath(path, root), stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC)
        return
    if s3.usable(url):
        yield from s3_objects.walk(url)
        return
    with talking_to(url):
        fs, base = filesystem(url)
        fs.invalidate_cache()
        for path, info in fs.find(base, detail=True).items():
            yield path[len(base.rstrip("/")) + 1 :], int(info["size"]), fs.modified(path)


def delete(url: str) -> bool:
    """Delete an object; False if it was not there, where the store says so (S3 does not)."""
    if s3.usable(url):
        s3_objects.remove(url)
        return True
    try:
        if is_local(url):
            os.unlink(local_path(url))
        else:
            with talking_to(url):
                fs, path = filesystem(url)
                fs.rm_file(path)
    except FileNotFoundError:
        return False
    return True
