"""Which column of a dataset plays which part: what models learn from, what they learn, whose row it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

#: Rows that belong to no split because their label window crosses a threshold.
EMBARGOED = "embargoed"


@dataclass(frozen=True, slots=True)
class Roles:
    """The parts that columns play; a column has one at most.

    Parameters
    ----------
    keys, time
        Whose row it is, and when: the spine's key columns and its time. Not for learning.
    features
        What a model gets, in order: after encoders and selection.
    labels
        What it should learn; null where the horizon is not over.
    split, fold
        Column that says which split (`EMBARGOED` for rows outside all) or fold a row is in; None if there is none.
    weight
        Column of sample weights; 0.0 marks a row that down-sampling left out. None if there is none.
    """

    keys: tuple[str, ...] = ()
    time: str | None = None
    features: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    split: str | None = None
    fold: str | None = None
    weight: str | None = None

    def of(self, column: str) -> str:
        """The part of a column: key, time, feature, label, split, fold, weight, or other."""
        for field in fields(self):
            played = getattr(self, field.name)
            if column == played or (isinstance(played, tuple) and column in played):
                return {"keys": "key", "features": "feature", "labels": "label"}.get(field.name, field.name)
        return "other"

    def to_json(self) -> dict[str, Any]:
        """Plain values, by field."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Roles:
        """Read what `to_json` wrote."""
        read: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        return cls(**read)
