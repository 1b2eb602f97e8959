"""What a spec can say about aggregations: names, parameters, labels. The arithmetic is the library's.

The table here and the library's shelf must name the same aggregations and parameters; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from featureflow.core.durations import Duration
from featureflow.spec.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Op:
    """An aggregation as written: its name and its parameters, sorted by name.

    ``half_life`` stays the text of a duration, so that an op is plain data.

    Examples
    --------
    >>> parse_op({"quantile": {"q": 0.95}})
    Op(name='quantile', params=(('q', 0.95),))
    >>> parse_op({"quantile": {"q": 0.95}}).label
    'p95'
    """

    name: str
    params: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """Text for ``{op}`` in column names: the op's name, but ``p95`` for ``quantile(q=0.95)``."""
        prefix = OPS[self.name].percentile_label
        return self.name if prefix is None else f"{prefix}{percent(dict(self.params)['q'])}"

    @property
    def other(self) -> str | None:
        """The second input column (``argmax``, ``argmin``), if there is one."""
        return dict(self.params).get("of")

    def spelled(self) -> str | dict[str, dict[str, Any]]:
        """The form of a spec: ``sum``, or ``{quantile: {q: 0.95}}``."""
        return {self.name: dict(self.params)} if self.params else self.name

    def __str__(self) -> str:
        """The op as a call: ``quantile(q=0.95)``."""
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.params)})" if self.params else self.name


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an aggregation.

    Parameters
    ----------
    check
        Gives None if the value is right, otherwise what it must be.
    schema
        JSON Schema of the value.
    required
        False if the aggregation has a default.
    """

    check: Callable[[Any], str | None]
    schema: Mapping[str, Any]
    example: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class OpSpec:
    """What may be written about one aggregation.

    Parameters
    ----------
    params
        By name.
    needs_column
        False for those that can also look at the rows themselves (``count``) or at their times only.
    percentile_label
        Prefix of a label that shows ``q`` in percent.
    """

    params: Mapping[str, Parameter] = field(default_factory=dict)
    needs_column: bool = True
    percentile_label: str | None = None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _share(value: Any) -> str | None:
    return None if _is_number(value) and 0 <= value <= 1 else "must be a number from 0 to 1"


def _positive_int(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000
    return None if good else "must be a whole number from 1 to 10000"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _positive_duration(value: Any) -> str | None:
    try:
        length = Duration.parse(value).microseconds
    except ValueError:
        length = 0
    return None if length else "must be a positive duration such as 7d"


def _column(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be the name of a column"


_Q = {"q": Parameter(_share, {"type": "number", "minimum": 0, "maximum": 1}, "0.95")}
_K = {"k": Parameter(_positive_int, {"type": "integer", "minimum": 1, "maximum": 10_000}, "5")}
_K_DISTINCT = {**_K, "distinct": Parameter(_flag, {"type": "boolean"}, "true", required=False)}
_HALF_LIFE = {"half_life": Parameter(_positive_duration, {"type": "string"}, "7d")}
_OF = {"of": Parameter(_column, {"type": "string", "minLength": 1}, "other_column")}

#: every aggregation of the language, in the order of the documentation
OPS: dict[str, OpSpec] = {
    "count": OpSpec(needs_column=False),
    **{name: OpSpec() for name in ("sum", "mean", "min", "max", "first", "last")},
    **{name: OpSpec() for name in ("stddev_samp", "stddev_pop", "var_samp", "var_pop", "skew", "kurtosis")},
    **{name: OpSpec() for name in ("count_distinct", "approx_count_distinct", "mode", "entropy", "median")},
    "quantile": OpSpec(_Q, percentile_label="p"),
    "approx_quantile": OpSpec(_Q, percentile_label="approx_p"),
    "first_k": OpSpec(_K_DISTINCT),
    "last_k": OpSpec(_K_DISTINCT),
    "top_k": OpSpec(_K),
    "bottom_k": OpSpec(_K),
    **{name: OpSpec() for name in ("histogram", "any", "all")},
    "seconds_since_last": OpSpec(needs_column=False),
    "seconds_since_first": OpSpec(needs_column=False),
    "mean_gap_seconds": OpSpec(needs_column=False),
    "slope": OpSpec(),
    "ewm_mean": OpSpec(_HALF_LIFE),
    "argmax": OpSpec(_OF),
    "argmin": OpSpec(_OF),
}

#: names that other tools use for the same thing; only for suggestions, never accepted
ALIASES = {
    "avg": "mean",
    "average": "mean",
    "std": "stddev_samp",
    "stddev": "stddev_samp",
    "std_dev": "stddev_samp",
    "var": "var_samp",
    "variance": "var_samp",
    "nunique": "count_distinct",
    "n_unique": "count_distinct",
    "distinct": "count_distinct",
    "unique_count": "count_distinct",
    "len": "count",
    "size": "count",
    "percentile": "quantile",
    "skewness": "skew",
    "kurt": "kurtosis",
    "arg_max": "argmax",
    "arg_min": "argmin",
    "ewma": "ewm_mean",
    "minimum": "min",
    "maximum": "max",
}


def percent(q: float) -> str:
    """Write a share in percent for a column name.

    Examples
    --------
    >>> percent(0.5), percent(0.999), percent(1)
    ('50', '99_9', '100')
    """
    hundred = (Decimal(str(q)) * 100).normalize()
    return f"{hundred:f}".replace(".", "_")


def parse_op(given: Any) -> Op:
    """Read one item of ``ops:``.

    Raises
    ------
    ValueError
        For an unknown aggregation or parameter, a missing one, or a value out of range; with what to do.
    """
    if isinstance(given, Op):
        return given
    no_params: dict[str, Any] = {}
    if isinstance(given, str):
        name, params = given, no_params
    elif isinstance(given, dict) and len(given) == 1:
        name, params = next(iter(given.items()))
        params = no_params if params is None else params
    else:
        raise ValueError(
            "an aggregation is a name, or one name with its parameters such as {quantile: {q: 0.95}}; "
            f"got {given!r}."
        )
    if name not in OPS:
        raise ValueError(f"unknown aggregation {name!r}. {did_you_mean(name, OPS, aliases=ALIASES)}")
    known = OPS[name].params
    if not isinstance(params, dict):
        example = ", ".join(f"{key}: {p.example}" for key, p in known.items() if p.required)
        hint = f"Write {{{name}: {{{example}}}}}" if example else f"Write {name}"
        # a ValueError, because pydantic collects only those
        raise ValueError(f"parameters of {name} must be a mapping; got {params!r}. {hint}.")
    for key in params:
        if key not in known:
            hint = did_you_mean(key, known) if known else "It takes none."
            raise ValueError(f"{name} has no parameter {key!r}. {hint}")
    for key, parameter in known.items():
        if key not in params:
            if parameter.required:
                raise ValueError(f"{name} needs {key!r}. Write {{{name}: {{{key}: {parameter.example}}}}}.")
            continue
        wrong = parameter.check(params[key])
        if wrong is not None:
            raise ValueError(f"{key} of {name} {wrong}; got {params[key]!r}.")
    return Op(name, tuple(sorted(params.items())))


def op_json_schema() -> dict[str, Any]:
    """JSON Schema of one item of ``ops:``."""
    plain = [name for name, op in OPS.items() if not any(p.required for p in op.params.values())]
    bare = {
        "type": "object",
        "propertyNames": {"enum": plain},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {"type": ["object", "null"], "maxProperties": 0},
    }
    shaped = [_shape(name, op) for name, op in OPS.items() if op.params]
    return {"anyOf": [{"enum": plain}, bare, *shaped]}


def _shape(name: str, op: OpSpec) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "additionalProperties": False,
        "required": [key for key, p in op.params.items() if p.required],
        "properties": {key: dict(p.schema) for key, p in op.params.items()},
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name],
        "properties": {name: parameters},
    }
