"""What was learned and is kept: names of files, and what a folder has.

Files of a fit, in one folder: ``<slot>-<first>-<all>.npz`` is what was learned, where a slot is a tile of a step, and
the other two name what the first cells and all of them were made from; ``<slot>-<first>.sums.npz`` are the sums of the
first cells, which a longer source leaves as they are; ``<name>.is.<name>`` says that one has the bytes of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from featureflow.core.storage import join, walk


def fit_path(folder: str, name: str) -> str:
    """Where what was learned is kept."""
    return join(folder, f"{name}.npz")


def sums_path(folder: str, name: str) -> str:
    """Where the sums of a fit's first cells are kept."""
    return join(folder, f"{name.rsplit('-', 1)[0]}.sums.npz")


def same_path(folder: str, name: str, other: str) -> str:
    """What is there if a fit has the same bytes as another one."""
    return join(folder, f"{name}.is.{other}")


@dataclass(frozen=True, slots=True)
class KnownFits:
    """What a folder of fits has.

    Parameters
    ----------
    files
        Names of fits that can be read, those that were learned last at the end.
    sums
        Names of fits' first cells whose sums can be read, with the slot.
    same
        Fits that have the bytes of another one, with its name.
    """

    files: Mapping[str, None] = field(default_factory=dict)
    sums: frozenset[str] = frozenset()
    same: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: str) -> KnownFits:
        """List a folder. Cost: one listing."""
        found = sorted((changed, path) for path, _, changed in walk(folder) if "/" not in path)
        there = [name.removesuffix(".npz") for _, name in found if name.endswith(".npz")]
        sums = {name.removesuffix(".sums") for name in there if name.endswith(".sums")}
        same = dict(name.split(".is.") for _, name in found if ".is." in name)
        files = dict.fromkeys(name for name in there if not name.endswith(".sums"))
        return cls(files, frozenset(sums), same)

    @property
    def latest(self) -> dict[str, str]:
        """The fit of each slot that was learned last."""
        return {name.split("-", 1)[0]: name for name in self.files}

    def knows(self, name: str) -> bool:
        """Whether a fit can be read, under its own name or another one."""
        return name in self.files or name in self.same

    def has_sums(self, name: str) -> bool:
        """Whether the sums of a fit's first cells can be read."""
        return name.rsplit("-", 1)[0] in self.sums
