"""What becomes of a variable's attributes (CF conventions) when its values become another quantity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Attrs = dict[Any, Any]
#: attributes that say what the values are or may be, and that are wrong for another quantity
_OF_THE_QUANTITY = (
    "units",
    "standard_name",
    "valid_min",
    "valid_max",
    "valid_range",
    "actual_range",
    "flag_values",
    "flag_meanings",
    "flag_masks",
)


def without_quantity(attrs: Mapping[Any, Any]) -> Attrs:
    """Attributes without those that only the old quantity has."""
    return {name: value for name, value in attrs.items() if name not in _OF_THE_QUANTITY}


def of_statistic(attrs: Mapping[Any, Any], op: str) -> Attrs:
    """Attributes of a statistic: a variance has squared units, a count has none."""
    if op == "count":
        return {**without_quantity(attrs), "units": "1"}
    if op == "var":
        return with_units(attrs, None if "units" not in attrs else f"{_unit(attrs['units'])}2")
    return dict(attrs)


def per(attrs: Mapping[Any, Any], unit: object) -> Attrs:
    """Attributes of a change of this quantity per another one."""
    if unit is None or "units" not in attrs:
        return without_quantity(attrs)
    return with_units(attrs, f"{attrs['units']} {_unit(unit)}-1".removeprefix("1 "))


def with_units(attrs: Mapping[Any, Any], units: str | None) -> Attrs:
    """Attributes of another quantity, with its units if they are known."""
    return {**without_quantity(attrs), **({} if units is None else {"units": units})}


def _unit(unit: object) -> str:
    """Give a unit that can be raised to a power: one that has several parts goes into brackets."""
    text = str(unit)
    return text if text.replace("_", "").isalpha() else f"({text})"
