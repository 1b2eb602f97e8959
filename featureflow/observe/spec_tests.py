"""The outcome of one of a spec's own `tests:`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpecTestResult:
    """Whether a test passed; ``message`` says what was expected and what came, line by line, if it did not."""

    name: str
    passed: bool
    message: str = ""
