"""The typed spec of `split:`: how rows of a dataset fall into train, valid, test, and folds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from featureflow.core.durations import Duration
from featureflow.core.roles import EMBARGOED
from featureflow.spec.duration_fields import Delay
from featureflow.spec.fields import ColumnName, Misplaced, SpecModel
from featureflow.spec.sources import Sizes
from featureflow.spec.suggest import closest, did_you_mean

SPLIT_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
#: the split that encoders, selection, sampling and normalization learn from
TRAIN = "train"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the rows, or of the entities: ``train: 0.8``."""

    share: float


@dataclass(frozen=True, slots=True)
class Before:
    """Rows from the end of the split before it up to an instant, exclusive: ``train: "< 2026-03-01"``."""

    at: datetime

    @property
    def us(self) -> int:
        """The instant in microseconds since the epoch, UTC."""
        return (self.at - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Values:
    """Rows of these values of the column of ``by: column``: ``train: [a, b]``."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rest:
    """All rows that are in no split before it: ``test: rest``."""


Part = Share | Before | Values | Rest


def read_part(given: Any) -> Part:
    """Read what one split gets.

    Raises
    ------
    ValueError
        If it is none of a share, a threshold, values and ``rest``.

    Examples
    --------
    >>> read_part(0.8), read_part("rest")
    (Share(share=0.8), Rest())
    >>> read_part("< 2026-03-01").at.isoformat()
    '2026-03-01T00:00:00+00:00'
    """
    if isinstance(given, Share | Before | Values | Rest):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool):
        if not 0 < given <= 1:
            hint = f" Did you mean {given / 100:g}?" if 1 < given <= 100 else ""
            raise ValueError(f"must be a share of the rows, more than 0 and at most 1; got {given!r}.{hint}")
        return Share(float(given))
    if isinstance(given, list | tuple) and given and all(isinstance(v, str | int) for v in given):
        return Values(tuple(given))
    if given == "rest":
        return Rest()
    if isinstance(given, str) and given.strip():
        return _text_part(given)
    raise ValueError(f'must be a share such as 0.8, a time such as "< 2026-03-01", or rest; got {given!r}.')


def _text_part(given: str) -> Part:
    text = given.strip()
    if text.startswith("<"):
        moment = _moment(text.lstrip("<= "))
        if moment is None or text.startswith(("<=", "<<")):
            raise ValueError(
                f'{given!r} is no end of a split. Write it as "< 2026-03-01" or "< 2026-03-01T06:00Z"; '
                "the end itself is not in the split."
            )
        return Before(moment)
    if _moment(text) is not None or text.startswith(">"):
        likely = text.lstrip(">= ")
        raise ValueError(f'{given!r} is no end of a split. Did you mean "< {likely}"?')
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
    if percent is not None:
        raise ValueError(f"{given!r} is no share. Did you mean {float(percent[1]) / 100:g}?")
    return Values((given,))


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def spelled(part: Part) -> Any:
    """A part as a spec writes it."""
    if isinstance(part, Share):
        return part.share
    if isinstance(part, Before):
        return f"< {part.at.isoformat()}"
    return list(part.values) if isinstance(part, Values) else "rest"


def _split_name(given: Any) -> str:
    if not isinstance(given, str) or not re.fullmatch(SPLIT_NAME_PATTERN, given):
        raise ValueError(f"{given!r} can't be the name of a split: use letters, digits and _, such as train.")
    if given.lower() == EMBARGOED:
        raise ValueError(f"{given!r} stands for rows that are in no split. Give the split another name.")
    return given


SplitName = Annotated[str, BeforeValidator(_split_name)]
PartField = Annotated[
    Part,
    PlainValidator(read_part),
    PlainSerializer(spelled),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 1},
            ]
        }
    ),
]


class Split(SpecModel):
    """How rows fall into splits; each row into exactly one, or it is embargoed."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    by: Literal["time", "keys", "group", "random", "column", "block"] = Field(
        description="time: thresholds; keys, group: no entity is in two splits; random: rows; column: its values; "
        "block: of patches, whole blocks of the grid, and no two splits have patches that overlap."
    )
    block: Sizes = Field(
        default_factory=dict,
        description="For by: block, dimension to the size of a block, in values of the grid.",
    )
    parts: dict[SplitName, PartField] = Field(
        default_factory=dict,
        alias="<parts>",  # angle brackets: not written, and left out of the paths of mistakes
        description="Split to its share (0.8), its end (`< 2026-03-01`, by time), its values (by column) or "
        "`rest`; in order. Written beside `by:`, as `train: 0.8`.",
    )
    column: ColumnName | None = Field(
        default=None, description="For by: group, the group; for by: column, the split."
    )
    embargo: Delay = Field(
        default=Duration(0, "0s"), description="By time: rows this close before a threshold are left out."
    )
    stratify: ColumnName | None = Field(
        default=None, description="Equal shares of each value of this column."
    )
    folds: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        default=None, description="Number of cross-validation folds; makes the column `fold`."
    )
    seed: int = Field(default=0, description="Of by: keys, group, random and of folds.")

    @model_validator(mode="before")
    @classmethod
    def _names_beside(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.keys().isdisjoint(("parts", "<parts>")):
            return given
        own = {key: value for key, value in given.items() if key in cls.model_fields}
        parts = {key: value for key, value in given.items() if key not in own}
        if "group" in parts:
            if own.get("by") != "group" or "column" in own:
                message = "group names the column of by: group. Write {by: group, group: …} or column:."
                raise Misplaced(("group",), message)
            own["column"] = parts.pop("group")
        if own.get("by") == "column":  # there a whole number is a value of the column, no share
            parts = {key: [value] if isinstance(value, int) else value for key, value in parts.items()}
        for key, value in parts.items():
            _refuse_misspelled(key, value, by=own.get("by"))
        return {**own, "<parts>": parts}

    @model_serializer(mode="wrap")
    def _beside(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        made: dict[str, Any] = handler(self)
        made.pop("<parts>", None)
        made.pop("parts", None)
        return {**made, **{name: spelled(part) for name, part in self.parts.items()}}


def _refuse_misspelled(key: Any, value: Any, *, by: Any) -> None:
    """A key that no split can have is the name of a field; anything else may be the name of a split."""
    try:
        if not isinstance(read_part(value), Values) or by == "column":
            return
    except ValueError:
        pass
    fields = [name for name in (*Split.model_fields, "group") if name != "parts"]
    if isinstance(key, str) and key not in _USUAL and closest(key, fields):
        raise Misplaced((key,), f"unknown field {key!r}. {did_you_mean(key, fields)}", at_key=True)


#: names of splits, which are never fields
_USUAL = (TRAIN, "valid", "validation", "val", "test", "holdout", "dev", "eval", "calibration", "tune")
