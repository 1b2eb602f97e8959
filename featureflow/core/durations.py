"""Durations as people write them: ``250ms 5s 10m 1h 1d 2w`` and ``lifetime``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PATTERN = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time in microseconds, with the text that it was written as.

    A day is 24 hours and a week 7 days, always. ``microseconds`` is None for ``lifetime``.

    Examples
    --------
    >>> Duration.parse("90m").microseconds
    5400000000
    >>> str(Duration.parse("1h30m")), Duration.parse("lifetime").is_lifetime
    ('1h30m', True)
    """

    microseconds: int | None
    text: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a duration.

        Raises
        ------
        ValueError
            If the text is no duration; says which forms are.
        """
        given = text.strip() if isinstance(text, str) else text
        if given == "lifetime":
            return cls(None, "lifetime")
        parts = _PATTERN.findall(given) if isinstance(given, str) else []
        if not parts or "".join(n + unit for n, unit in parts) != given:
            raise ValueError(
                f"{text!r} is not a duration. Write it as 250ms, 5s, 10m, 1h, 1d, 2w or lifetime."
            )
        return cls(sum(int(n) * _MICROSECONDS[unit] for n, unit in parts), given)

    @property
    def is_lifetime(self) -> bool:
        """Whether there is no start at all."""
        return self.microseconds is None

    def __str__(self) -> str:
        """The text as written."""
        return self.text
