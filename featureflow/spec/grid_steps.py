"""Reading a step of a grid: its name, its parameters in long and short forms, its JSON Schema.

The normal form of every step's parameters is the table of :mod:`featureflow.spec.grids`.
"""

from __future__ import annotations

from typing import Any

from featureflow.spec.fields import Misplaced
from featureflow.spec.grid_forms import Params, StepForm, StepParameter
from featureflow.spec.grid_table import GRID_STEPS
from featureflow.spec.grid_values import below, got
from featureflow.spec.suggest import closest, did_you_mean

__all__ = ["GRID_STEPS", "read_step", "step_json_schema"]

#: names that other tools use for the same thing; only for suggestions, never accepted
ALIASES = {
    **dict.fromkeys(("sel", "subset", "crop", "slice"), "select"),
    **dict.fromkeys(("filter", "query"), "where"),
    **dict.fromkeys(("assign", "compute", "eval"), "derive"),
    **dict.fromkeys(("astype", "convert"), "cast"),
    **dict.fromkeys(("fillna", "ffill", "interpolate_na", "impute"), "fill"),
    **dict.fromkeys(("window", "moving", "rolling_mean"), "rolling"),
    **dict.fromkeys(("downsample", "block_reduce", "aggregate_space"), "coarsen"),
    **dict.fromkeys(("climatology", "deseasonalize"), "anomaly"),
    **dict.fromkeys(("minmax", "rescale", "scale"), "normalize"),
    **dict.fromkeys(("zscore", "standardise", "standard"), "standardize"),
    **dict.fromkeys(("normalise",), "normalize"),
    **dict.fromkeys(("quantile", "quantiles", "percentiles"), "percentile"),
    **dict.fromkeys(("differentiate", "derivative"), "gradient"),
    **dict.fromkeys(("shift",), "lag"),
    **dict.fromkeys(("cumsum", "cummax", "cummin", "accumulate"), "cumulative"),
    **dict.fromkeys(("mean", "sum", "aggregate", "max", "min", "std"), "reduce"),
    **dict.fromkeys(("zonal_stats", "regions"), "zonal"),
    **dict.fromkeys(("interp", "reproject", "interpolate"), "regrid"),
    **dict.fromkeys(("append", "stack"), "concat"),
    **dict.fromkeys(("join", "combine"), "merge"),
}
PARAMETER_ALIASES = {
    **dict.fromkeys(("dimension", "axis", "along"), "dim"),
    **dict.fromkeys(("dimensions", "axes", "over"), "dims"),
    **dict.fromkeys(("dim", "dims"), "over"),
    **dict.fromkeys(("agg", "how", "function", "func", "reduction", "ops"), "op"),
    **dict.fromkeys(("freq", "frequency", "rule"), "every"),
    **dict.fromkeys(("size", "length", "n"), "window"),
    **dict.fromkeys(("low", "lower", "least"), "min"),
    **dict.fromkeys(("high", "upper", "greatest"), "max"),
    **dict.fromkeys(("base", "baseline", "reference", "base_period"), "period"),
    **dict.fromkeys(("columns", "vars", "variable"), "variables"),
    **dict.fromkeys(("group", "groups", "freq"), "by"),
    **dict.fromkeys(("expr", "condition", "cond"), "expression"),
    **dict.fromkeys(("range", "feature_range"), "to"),
    **dict.fromkeys(("quantile",), "quantiles"),
    **dict.fromkeys(("min_count", "min_values"), "min_periods"),
    **dict.fromkeys(("from", "grid"), "source"),
}


def read_step(given: Any) -> tuple[str, Params]:
    """Read one item of ``steps:``; returns its name and its parameters in their normal form.

    Raises
    ------
    Misplaced
        With the place below the item, what is wrong there, and what to do.

    Examples
    --------
    >>> read_step({"where": "sst > 0"})
    ('where', {'expression': 'sst > 0', 'variables': None})
    """
    if not isinstance(given, dict) or len(given) != 1:
        named = f" Did you mean {{{given}: …}}?" if isinstance(given, str) and given in GRID_STEPS else ""
        what = f"got {len(given)} names" if isinstance(given, dict) else got(given)
        message = f'a step is one name with its parameters, such as {{where: "sst > 0"}}; {what}.{named}'
        raise Misplaced((), message, at_key=False)
    name, params = next(iter(given.items()))
    if name not in GRID_STEPS:
        hint = did_you_mean(name, GRID_STEPS, aliases=ALIASES)
        raise Misplaced((str(name),), f"unknown step {name!r}. {hint}")
    found: Params = below(name, lambda params: _params(name, params), params)
    return name, found


def _params(name: str, given: Any) -> Params:
    step = GRID_STEPS[name]
    if not isinstance(given, dict):
        short = step.short(given)
        if short is None:
            raise Misplaced((), f"{name} needs its parameters. Write {step.example}.", at_key=False)
        given = short
    others = {str(key): value for key, value in given.items() if key not in step.params}
    missing = [key for key, one in step.params.items() if one.required and key not in given]
    for key in others:
        if step.others is None or closest(key, missing, aliases=PARAMETER_ALIASES):
            hint = did_you_mean(key, step.params, aliases=PARAMETER_ALIASES)
            raise Misplaced((key,), f"{name} has no parameter {key!r}. {hint}")
    found: Params = {key: _read(step, key, given) for key in step.params}
    if step.others is not None:
        found[step.others_as] = {key: _other(step, key, value) for key, value in others.items()}
    return step.finish(found)


def _read(step: StepForm, key: str, given: Params) -> Any:
    parameter: StepParameter = step.params[key]
    if given.get(key) is not None:
        return below(key, parameter.read, given[key])
    if key in given and (parameter.required or parameter.default is not None):
        return below(key, parameter.read, None)
    if parameter.required:
        raise Misplaced((), f"needs {key}. Write {step.example}.")
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default


def _other(step: StepForm, key: str, value: Any) -> Any:
    if step.others is None:
        raise TypeError(key)
    near = did_you_mean(key, step.params).partition(" Known:")[0] if step.params else ""
    try:
        return below(key, step.others.read, value)
    except Misplaced as error:
        if not near.startswith("Did you mean") or error.place != (key,):
            raise
        raise Misplaced((key,), f"{error.message} {near}") from None


def step_json_schema() -> dict[str, Any]:
    """JSON Schema of one item of ``steps:``."""
    return {"anyOf": [_one_schema(name, step) for name, step in GRID_STEPS.items()]}


def _one_schema(name: str, step: StepForm) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "type": "object",
        "description": step.doc,
        "properties": {
            key: {
                "anyOf": [dict(one.schema), {"type": "null"}],
                "description": one.doc,
            }
            if not one.required and one.default is None
            else {**one.schema, "description": one.doc}
            for key, one in step.params.items()
        },
        "additionalProperties": dict(step.others.schema) if step.others is not None else False,
        "required": [key for key, one in step.params.items() if one.required],
    }
    form_of = {"anyOf": [shape, dict(step.short_schema)]} if step.short_schema is not None else shape
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name],
        "properties": {name: form_of},
    }
