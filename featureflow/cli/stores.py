"""Which store and which version a command is about."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from featureflow.core.errors import FeatureflowError

if TYPE_CHECKING:
    from featureflow.datasets.store import Store
    from featureflow.spec.models import Target

_SPEC_NAMES = ("featureflow.yaml", "featureflow.yml", "configs")


def open_store(url: str | None, target: str | None) -> Store:
    """Open the store that a reading command means.

    Parameters
    ----------
    url
        ``--store``. Without it: the store of the project in this folder, as a build would use it; without a project:
        the environment variable ``FEATUREFLOW_STORE``; without that: ``./store``.
    target
        ``--target``, for the store of the project.

    Raises
    ------
    FeatureflowError
        If there is nothing to find a store by.
    """
    from featureflow.datasets.store import open as open_url

    return open_url(url if url is not None else _default_store(target))


def has_project() -> bool:
    """Whether there is a project in this folder."""
    return any(os.path.exists(name) for name in _SPEC_NAMES)


def target_here(name: str | None) -> Target:
    """The target of the project in this folder that ``--target`` names; an empty one without a name."""
    from featureflow.api import Project
    from featureflow.spec.models import Target

    return Target() if name is None else Project(target=name).target


def _default_store(target: str | None) -> str:
    if has_project():
        from featureflow.api import Project

        return Project(target=target).store_url
    found = os.environ.get("FEATUREFLOW_STORE")
    if found:
        return found
    if os.path.isdir("store"):
        return "./store"
    raise FeatureflowError(
        f"no store given: {os.getcwd()} has neither {_SPEC_NAMES[0]}, {_SPEC_NAMES[2]}/ nor store/. "
        "Name it with --store, or set FEATUREFLOW_STORE."
    )
