"""Runs of a store: what builds wrote of themselves under ``runs/<build id>/``."""

from __future__ import annotations

import json
from typing import Any

from featureflow.core import storage
from featureflow.core.errors import TableError

RUNS = "runs"
_PROFILE_VERSION = 1
"""Newest form of ``profile.json`` that is read."""


def run_ids(store_url: str) -> list[str]:
    """Ids of the builds that ran in a store, in the order in which they began."""
    return storage.list_names(storage.join(store_url, RUNS))


def find_run(store_url: str, build: str | None = None) -> str:
    """Id of a run.

    Parameters
    ----------
    build
        Its id, or a beginning or end of it that no other has; the latest if None.

    Raises
    ------
    TableError
        If there is none, or more than one.
    """
    known = run_ids(store_url)
    if not known:
        raise TableError(f"{store_url}: nothing was built here. Is it the right store?")
    if build is None:
        return known[-1]
    found = [name for name in known if name == build] or [
        name for name in known if name.startswith(build) or name.endswith(build)
    ]
    if len(found) != 1:
        what = f"no build {build!r}" if not found else f"{len(found)} builds are called {build!r}"
        some = ", ".join((found or known)[-3:])
        raise TableError(f"{store_url}: {what}. {'The latest are' if not found else 'Among them'}: {some}.")
    return found[0]


def read_profile(store_url: str, build: str | None = None) -> dict[str, Any]:
    """Where the time of a build went, as it wrote it; see `find_run`.

    Raises
    ------
    TableError
        If there is no such run, or an earlier or later featureflow wrote it.
    """
    name = find_run(store_url, build)
    url = storage.join(store_url, RUNS, name, "profile.json")
    try:
        found: dict[str, Any] = json.loads(storage.read_bytes(url))
    except FileNotFoundError:
        raise TableError(
            f"{url} is not there: the build was killed, or made by a featureflow that did not measure. Build again."
        ) from None
    version = found.get("schema_version")
    if not isinstance(version, int) or version > _PROFILE_VERSION:
        raise TableError(
            f"{url}: schema_version {version!r} is not known (this featureflow reads up to {_PROFILE_VERSION}). "
            "Upgrade featureflow."
        )
    return found
