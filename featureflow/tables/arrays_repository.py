"""The Icechunk repository of a table's arrays: opening it, changing its references safely, and what its errors mean.

One repository at ``<table>/_ff/arrays``, in Icechunk's format 1, which Icechunk 1 (the last for Python 3.11) and
Icechunk 2 both read and write. Two things are made up for here:

* On a local disk Icechunk loses acknowledged commits of concurrent writers; every change of a reference takes a lock.
* Icechunk 1 reports a conflict for a change whose reply was lost. After any error the store is asked what is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from featureflow.core import s3, storage
from featureflow.core.errors import CommitConflict, CorruptionError, TableError, Unreachable
from featureflow.tables.layout import ARRAYS

if TYPE_CHECKING:
    import icechunk

_LOCK = "_ff/arrays.lock"
#: Entries of a commit's metadata: the build that made it, and a mark by which it is known again.
BUILD, MARK = "featureflow.build", "featureflow.commit"

#: File systems without locks that all hosts see, or without atomic renames.
_SHARED = re.compile(r"nfs|cifs|smb|9p|afs|ceph|fuse\.(?!fuse-overlayfs)|glusterfs|vboxsf")

_lock = threading.Lock()
_opened: dict[tuple[str, int], icechunk.Repository] = {}
_process = 0  # that started Icechunk's threads; a forked child has none of them


def arrays_url(table_url: str) -> str:
    """Where the arrays of a table are."""
    return storage.join(table_url, ARRAYS)


def s3_credentials() -> Any:
    """Credentials of this process, as Icechunk asks for them; what is pickled names this function and nothing else."""
    import icechunk

    now = s3.account().frozen()
    return icechunk.S3StaticCredentials(
        now["access_key_id"], now["secret_access_key"], now["token"], now["expires_at"]
    )


def _storage(url: str) -> icechunk.Storage:
    import icechunk

    if storage.is_local(url):
        return icechunk.local_filesystem_storage(storage.local_path(url))
    if not s3.is_s3(url):
        raise TableError(
            f"{url}: arrays are stored on local disks and S3; got another kind of URL. Use a store of those."
        )
    bucket, key = s3.split(url)
    found = s3.account()
    who: dict[str, Any] = {"get_credentials": s3_credentials} if found.credentials else {"anonymous": True}
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=key,
        region=found.region,
        endpoint_url=found.endpoint,
        allow_http=found.allow_http,
        force_path_style=found.endpoint is not None,
        **who,
    )


def refuse_after_fork() -> None:
    """Refuse to go on in a process that was forked from one that used Icechunk: it would wait forever."""
    global _process  # noqa: PLW0603  one set of threads a process
    if _process not in (0, os.getpid()):
        raise TableError(
            "arrays were used in this process before it was forked, and their threads are not in the child. "
            "Start processes with multiprocessing's 'spawn' or 'forkserver'."
        )
    _process = os.getpid()


def open_repository(table_url: str, *, create: bool = False) -> icechunk.Repository:
    """Open the repository of a table's arrays; ``create`` makes it if it is not there.

    Raises
    ------
    TableError
        If it is not there, or is on a shared file system without locks.
    Unreachable
        If the store does not answer.
    """
    import icechunk

    refuse_after_fork()
    url = arrays_url(table_url)
    at = (url, _account(url))
    with _lock:
        if at in _opened:
            return _opened[at]
    if "ICECHUNK_LOG" not in os.environ:
        icechunk.set_logs_filter("error")  # that local disks are unsafe is what the lock is for
    with talking_to(url):
        place = _storage(url)
        repository = _open_or_create(table_url, place) if create else _open(url, place)
    with _lock:
        return _opened.setdefault(at, repository)


def _account(url: str) -> int:
    return 0 if storage.is_local(url) else id(s3.account())


def _open(url: str, place: icechunk.Storage) -> icechunk.Repository:
    import icechunk

    if not icechunk.Repository.exists(place):
        raise TableError(f"{url}: there are no arrays. Was this table built from a grid?")
    return icechunk.Repository.open(place)


def _open_or_create(table_url: str, place: icechunk.Storage) -> icechunk.Repository:
    import icechunk

    with changing(table_url):
        if icechunk.Repository.exists(place):
            return icechunk.Repository.open(place)
        version: dict[str, Any] = {} if icechunk.__version__.startswith("1.") else {"spec_version": 1}
        try:
            return icechunk.Repository.create(place, **version)
        except icechunk.IcechunkError:
            # somebody else was faster, or the reply of ours was lost
            if icechunk.Repository.exists(place):
                return icechunk.Repository.open(place)
            raise


# ---------------------------------------------------------------- changes of references


@contextmanager
def changing(table_url: str) -> Iterator[None]:
    """Hold the lock of a table's arrays while a reference changes; nothing to hold on an object store."""
    if not storage.is_local(table_url):
        yield
        return
    path = storage.local_path(storage.join(table_url, _LOCK))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _refuse_shared(os.path.dirname(path))
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield
    finally:
        os.close(handle)


def _refuse_shared(path: str) -> None:
    kind = _file_system(os.path.realpath(path))
    if _SHARED.match(kind):
        raise TableError(
            f"{path}: is on a shared file system ({kind}), where two hosts could lose each other's versions of "
            "arrays. Use a store on S3, or on a disk of this machine."
        )


def _file_system(path: str) -> str:
    """Kind of the file system that a path is on; empty where the system does not say."""
    best, kind = "", ""
    try:
        with open("/proc/self/mounts") as mounts:
            for line in mounts:
                _, at, found, *_ = line.split(" ")
                at = at.replace("\\040", " ")
                if (path == at or path.startswith(at.rstrip("/") + "/")) and len(at) >= len(best):
                    best, kind = at, found
    except OSError:
        return ""
    return kind


def commit(
    table_url: str,
    repository: icechunk.Repository,
    session: icechunk.Session,
    message: str,
    metadata: dict[str, Any],
) -> str:
    """Commit a session to its branch, which no other build writes to; gives the snapshot.

    Raises
    ------
    CommitConflict
        If another process uses the same branch.
    """
    import icechunk

    branch, before, mark = str(session.branch), session.snapshot_id, uuid.uuid4().hex
    with talking_to(arrays_url(table_url)):
        try:
            with changing(table_url):
                return str(session.commit(message, {**metadata, MARK: mark}))
        except (icechunk.ConflictError, icechunk.IcechunkError):  # neither is the other's base
            landed = _find_commit(repository, branch, before, mark)
            if landed is None:
                raise
            return landed


def _find_commit(repository: icechunk.Repository, branch: str, before: str, mark: str) -> str | None:
    for info in repository.ancestry(branch=branch):
        if info.metadata.get(MARK) == mark:
            return str(info.id)
        if info.id == before:
            return None
    return None


def point_branch(table_url: str, repository: icechunk.Repository, branch: str, snapshot: str) -> None:
    """Make a branch point to a snapshot, whether it is there or not."""
    import icechunk

    with talking_to(arrays_url(table_url)), changing(table_url):
        if branch in repository.list_branches():
            if repository.lookup_branch(branch) == snapshot:
                return
            change: Callable[[str, str], None] = repository.reset_branch
        else:
            change = repository.create_branch
        try:
            change(branch, snapshot)
        except icechunk.IcechunkError:
            if branch not in repository.list_branches() or repository.lookup_branch(branch) != snapshot:
                raise


def drop_branch(table_url: str, repository: icechunk.Repository, branch: str) -> None:
    """Delete a branch; nothing happens if it is not there."""
    import icechunk

    with talking_to(arrays_url(table_url)), changing(table_url):
        try:
            repository.delete_branch(branch)
        except icechunk.IcechunkError:
            if branch in repository.list_branches():
                raise


def make_tag(table_url: str, repository: icechunk.Repository, tag: str, snapshot: str) -> None:
    """Create a tag; a tag that is there must point to the same snapshot.

    Raises
    ------
    CorruptionError
        If it points elsewhere: a tag never moves.
    """
    import icechunk

    with talking_to(arrays_url(table_url)), changing(table_url):
        try:
            repository.create_tag(tag, snapshot)
        except icechunk.IcechunkError:
            if tag not in repository.list_tags():
                raise
            found = repository.lookup_tag(tag)
            if found != snapshot:
                raise CorruptionError(
                    f"{arrays_url(table_url)}: tag {tag} points to snapshot {found}, but the version's is {snapshot}."
                ) from None


# ---------------------------------------------------------------- what errors mean

_DAMAGED = ("deserialization", "decod", "flatbuffer", "corrupt", "invalid file", "checksum", "invalid magic")
_AWAY = ("dispatch failure", "timeout", "timed out", "service error", "connect", "object store error")


@contextmanager
def talking_to(url: str) -> Iterator[None]:
    """Turn Icechunk's errors into errors that mean something to the user.

    Raises
    ------
    TableError
        For a snapshot or branch that is not there, and a full disk.
    CorruptionError
        For metadata that can't be read.
    CommitConflict
        If another process changed the same branch.
    Unreachable
        If the store does not answer.
    """
    import icechunk

    try:
        yield
    except icechunk.ConflictError as error:
        raise CommitConflict(
            f"{url}: another process changes the arrays of the same build: {_said(error)}"
        ) from error
    except icechunk.IcechunkError as error:
        text = str(error).lower()
        if storage.is_local(url) and "no space left" in text:
            raise _full_disk(storage.local_path(url)) from error
        said = f"{url}: {_said(error)}"
        if any(word in text for word in _DAMAGED):
            raise CorruptionError(
                f"{said}. The arrays' metadata is damaged; restore it from a copy."
            ) from error
        if not storage.is_local(url) and any(word in text for word in _AWAY):
            raise Unreachable(f"{said}. The store does not answer; try again.") from error
        raise TableError(said) from error


def _full_disk(path: str) -> TableError:
    """Say which disk is full, and how full, as for other files."""
    try:
        with storage.full_disks_named(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    except OSError as error:
        return TableError(f"{path}: {error.strerror}. Make room, and build again; nothing was published.")


def is_missing(error: BaseException) -> bool:
    """Whether an error of Icechunk says that an object is not there."""
    text = str(error).lower()
    return any(word in text for word in ("not found", "no such file", "nosuchkey", "does not exist"))


def _said(error: BaseException) -> str:
    """What Icechunk says and the last cause that it gives, without its trace."""
    lines = [line.strip(" x×|│╰─▶`->") for line in str(error).splitlines()]  # noqa: RUF001  its own signs
    given = [line for line in lines if line and not re.match(r"context:|at |with |\d+: ", line)]
    told = list(dict.fromkeys([given[0], given[-1]])) if given else [type(error).__name__]
    return ": ".join(told)[:300].rstrip(".")
