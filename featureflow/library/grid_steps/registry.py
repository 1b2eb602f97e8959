"""Steps of grids by the names that specs use. A step's module is imported when a step of it is made.

A new step is a class with a class method ``of(params)`` in a module of this folder, and a line here.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from featureflow.contracts.grid_step import GridStep, StepMistake

#: name in a spec -> (module of this folder, class)
STEPS: dict[str, tuple[str, str]] = {
    "select": ("selection", "Select"),
    "isel": ("selection", "SelectPositions"),
    "where": ("formulas", "Where"),
    "derive": ("formulas", "Derive"),
    "cast": ("values", "Cast"),
    "fill": ("filling", "Fill"),
    "mask": ("masking", "Mask"),
    "reduce": ("reductions", "Reduce"),
    "percentile": ("reductions", "Percentile"),
    "groupby": ("grouping", "GroupBy"),
    "cumulative": ("cumulative", "Cumulative"),
    "lag": ("shifting", "Lag"),
    "diff": ("differences", "Diff"),
    "gradient": ("gradients", "Gradient"),
    "concat": ("combining", "Concat"),
    "merge": ("merging", "Merge"),
    "rolling": ("windows", "Rolling"),
    "resample": ("resampling", "Resample"),
    "coarsen": ("coarsening", "Coarsen"),
    "anomaly": ("climatology", "Anomaly"),
    "normalize": ("scaling", "Normalize"),
    "standardize": ("scaling", "Standardize"),
    "clip": ("clipping", "Clip"),
    "regrid": ("regridding", "Regrid"),
    "zonal": ("zones", "Zonal"),
}


def make_step(name: str, params: Mapping[str, Any]) -> GridStep:
    """Make the step of that name.

    Parameters
    ----------
    params
        As the spec has checked them (see `featureflow.spec.grids`).

    Raises
    ------
    StepMistake
        If there is no such step, or its parameters do not go together whatever the input is.
    """
    if name not in STEPS:
        near = difflib.get_close_matches(name, STEPS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise StepMistake((), f"unknown step {name!r}.{hint} Known: {', '.join(sorted(STEPS))}.")
    module, kind = STEPS[name]
    found = getattr(importlib.import_module(f"featureflow.library.grid_steps.{module}"), kind)
    step: GridStep = found.of(params)
    return step
