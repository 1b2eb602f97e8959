"""Which host this process runs on, as far as a task has to know: its scratch folder and its name.

Nothing here loads a cluster library: tasks ask, whatever runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(slots=True)
class _Process:
    """What this process is, if it is a worker's."""

    scratch: str | None = None
    host: str | None = None


_this = _Process()


def own_scratch(given: str) -> str:
    """Folder for temporary files of the host that this runs on.

    Parameters
    ----------
    given
        The driver's, which is used where the worker has no ``FEATUREFLOW_SCRATCH`` of its own, and on the driver.
    """
    return _this.scratch or given


def own_host() -> str | None:
    """Host of the address of this process's worker, such as ``10.0.0.7``; None where no worker runs."""
    return _this.host


def settle(host: str | None, scratch: str | None) -> None:
    """Remember where this process is; called on workers before their first task."""
    _this.host, _this.scratch = host, scratch


def host_of(address: str) -> str:
    """Host of a worker's address: workers of one host share its disks.

    Examples
    --------
    >>> host_of("tcp://10.0.0.7:40123")
    '10.0.0.7'
    """
    return urlsplit(address).hostname or address
