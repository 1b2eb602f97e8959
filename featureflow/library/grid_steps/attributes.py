"""What becomes of a variable's attributes (CF conventions) when its values become another quantity."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

Attrs = dict[Any, Any]
#: attributes that say which values there are or may be
_OF_THE_VALUES = ("valid_min", "valid_max", "valid_range", "actual_range")
_OF_FLAGS = ("flag_values", "flag_meanings", "flag_masks")
#: attributes that are wrong for another quantity
_OF_THE_QUANTITY = ("units", "standard_name", *_OF_THE_VALUES, *_OF_FLAGS)
#: statistics as CF names them in `cell_methods`
_METHODS = {
    "mean": "mean",
    "sum": "sum",
    "min": "minimum",
    "max": "maximum",
    "median": "median",
    "std": "standard_deviation",
    "var": "variance",
}
#: units with another zero than the unit of their differences, whose powers and quotients only that one has
_CELSIUS = (
    "degC",
    "celsius",
    "Celsius",
    "degree_Celsius",
    "degrees_Celsius",
    "deg_C",
    "degree_C",
    "degrees_C",
    "°C",
)


def without_quantity(attrs: Mapping[Any, Any]) -> Attrs:
    """Attributes without those that only the old quantity has."""
    return {name: value for name, value in attrs.items() if name not in _OF_THE_QUANTITY}


def of_statistic(attrs: Mapping[Any, Any], op: str, dims: Iterable[Hashable] = ()) -> Attrs:
    """Attributes of a statistic over some dimensions: a variance has squared units, a count has none.

    What values may be stays for those that are among them. `cell_methods`, where there are some, tell of this one, too.
    """
    found = dict(attrs)
    over = "".join(f"{dim}: " for dim in dims)
    if "cell_methods" in found and op in _METHODS and over:
        found["cell_methods"] = f"{found['cell_methods']} {over}{_METHODS[op]}".strip()
    if op == "count":
        found.pop("cell_methods", None)
        return with_units(found, "1")
    if op == "var":
        return with_units(found, squared(attrs["units"]) if "units" in attrs else None)
    gone = {"actual_range"}
    if op in ("sum", "std"):
        gone.update(_OF_THE_VALUES, _OF_FLAGS)
    elif op in ("mean", "median"):
        gone.update(_OF_FLAGS)
    return {name: value for name, value in found.items() if name not in gone}


def of_difference(attrs: Mapping[Any, Any]) -> Attrs:
    """Attributes of a difference of two values: the same units, another range."""
    return with_units(attrs, attrs.get("units"))


def squared(unit: object) -> str:
    """Give a unit times itself; of degrees Celsius that of their differences."""
    return "1" if str(unit) in ("1", "") else f"{_unit(_of_differences(unit))}2"


def per(attrs: Mapping[Any, Any], unit: object) -> Attrs:
    """Attributes of a change of this quantity per another one."""
    if unit is None or "units" not in attrs:
        return without_quantity(attrs)
    return with_units(
        attrs, f"{_of_differences(attrs['units'])} {_unit(_of_differences(unit))}-1".removeprefix("1 ")
    )


def with_units(attrs: Mapping[Any, Any], units: str | None) -> Attrs:
    """Attributes of another quantity, with its units if they are known."""
    return {**without_quantity(attrs), **({} if units is None else {"units": units})}


def _of_differences(unit: object) -> object:
    return "K" if str(unit) in _CELSIUS else unit


def _unit(unit: object) -> str:
    """Give a unit that can be raised to a power: one that has several parts goes into brackets."""
    text = str(unit)
    return text if text.replace("_", "").isalpha() else f"({text})"
