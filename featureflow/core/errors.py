"""Every error that featureflow raises on purpose.

::

    FeatureflowError                 exit code 1
    ├── SpecError                    2   the YAML is wrong; carries every problem found
    ├── PlanError                    2   the spec is right, but can't be built as asked (over budget, cycle)
    ├── SourceError                  1   raw data is not what the spec says (schema, value, missing file)
    │   └── CubeMistake              2   N-d data and the spec of their source do not fit; told as a problem of the spec
    ├── ComputeError                 1   a task failed
    │   ├── FrameError               1   a frame that an encoder was given; a ValueError, too, as scikit-learn's are
    │   └── FetchFailed              1   exchange files are gone with their host; the driver makes them again
    ├── CheckFailed                  1   a data check with ``on_fail: error`` failed; nothing was published
    ├── TableError                   1   a version, tag or table that does not exist or can't be read
    │   ├── CorruptionError          1   bytes on disk are not the bytes that were written
    │   └── CommitConflict           1   another build published first
    ├── CommitUnknown                4   the store failed during the commit; it may or may not be there
    └── Unreachable                  3   cluster or storage can't be reached; safe to retry

All arguments go to ``Exception.args`` so that an error survives the pickling from a worker.
"""

from __future__ import annotations

from dataclasses import dataclass


class FeatureflowError(Exception):
    """Base of all errors with a meaning for the user."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of a spec's author: where it is, what is wrong, what to do.

    Parameters
    ----------
    file, line, column
        Place in the YAML text; lines and columns count from 1, 0 means unknown.
    path
        Place in the document, ``features.clicks.aggregate[0].ops[1]``.
    message
        What was given, what is wrong and what to do.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """``file:line:column: path: message``, the form that editors can jump to."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class SpecError(FeatureflowError):
    """The spec is invalid; ``problems`` holds every mistake that was found."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        """One line for each problem, in the order of the file."""
        ordered = sorted(self.problems, key=lambda p: (p.file, p.line, p.column, p.path))
        return "\n".join(str(problem) for problem in ordered)


class PlanError(FeatureflowError):
    """The spec can't be built as asked."""

    exit_code = 2


class SourceError(FeatureflowError):
    """Raw data does not have the declared schema or values."""


class CubeMistake(SourceError):
    """N-d data can't be used as the spec of their source says.

    Parameters
    ----------
    place
        Below the source in the spec, ``("chunks", "day")``.
    message
        What was given, what is wrong and what to do.
    """

    exit_code = 2

    def __init__(self, place: tuple[str | int, ...], message: str) -> None:
        super().__init__(place, message)
        self.place, self.message = place, message

    def __str__(self) -> str:
        """The message; the problem of a spec shows the place."""
        return self.message


class ComputeError(FeatureflowError):
    """A task of a build failed."""


class FrameError(ComputeError, ValueError):
    """A frame that an encoder can't work with; a ValueError as well, as scikit-learn's callers expect."""


class FetchFailed(ComputeError):
    """Exchange files that a task needs can't be read: their host is gone, or their disk lost them.

    Parameters
    ----------
    manifest
        The list that names them.
    missing
        Their names.
    reason
        What was tried and what came back.
    """

    def __init__(self, manifest: str, missing: tuple[str, ...], reason: str) -> None:
        super().__init__(manifest, missing, reason)
        self.manifest, self.missing, self.reason = manifest, missing, reason

    def __str__(self) -> str:
        """How many files, which first, why."""
        first = ", ".join(name.rpartition("/")[2] for name in self.missing[:3])
        return (
            f"{len(self.missing)} exchange files can't be read ({first}{', …' if len(self.missing) > 3 else ''}): "
            f"{self.reason}"
        )


class CheckFailed(FeatureflowError):
    """A check with ``on_fail: error`` failed; nothing was published."""


class TableError(FeatureflowError):
    """A table, version or tag does not exist or can't be read."""


class CorruptionError(TableError):
    """Stored bytes differ from what was written."""


class CommitConflict(TableError):
    """Another writer published a version between plan and commit."""


class CommitUnknown(FeatureflowError):
    """The store failed during the commit and could not be asked afterwards."""

    exit_code = 4


class Unreachable(FeatureflowError):
    """A cluster or a store can't be reached; trying again is safe."""

    exit_code = 3
