"""Python functions of a project (``udf:``): found, called on whole columns, and part of a definition's hash."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import polars as pl

from featureflow.core.errors import ComputeError, PlanError
from featureflow.core.fingerprints import fingerprint

GROUP = "featureflow.udf"


def load_function(name: str) -> Callable[..., Any]:
    """Import ``module:function``, or the entry point of that name in the group ``featureflow.udf``.

    Raises
    ------
    PlanError
        If there is no such module, function or entry point.
    """
    if ":" not in name:
        from importlib.metadata import entry_points

        found = [point for point in entry_points(group=GROUP) if point.name == name]
        if not found:
            raise PlanError(
                f"udf {name!r}: no installed package has that entry point in the group {GROUP!r}. "
                "Or write module:function."
            )
        function = found[0].load()
    else:
        module_name, _, function_name = name.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise PlanError(
                f"udf {name!r}: can't import {module_name!r}: {error}. Is it installed where the build runs?"
            ) from error
        function = getattr(module, function_name, None)
    if not callable(function):
        raise PlanError(f"udf {name!r}: that is no function.")
    return function  # type: ignore[no-any-return]


def source_digest(name: str) -> str:
    """Hash the text of a function, so that changing it changes the definition of what uses it.

    Only the function's own text counts; a change in what it calls is declared by its ``version:``.
    """
    try:
        return fingerprint(inspect.getsource(inspect.unwrap(load_function(name))))
    except (OSError, TypeError):
        return fingerprint(name)  # built in or compiled: its name is all there is


def call(
    name: str, function: str, inputs: list[pl.Series], params: dict[str, Any], dtype: pl.DataType
) -> pl.Series:
    """Call a function on whole columns and check what comes back.

    Raises
    ------
    ComputeError
        If it raises, or returns something else than one value a row that fits the declared type.
    """
    n_rows = len(inputs[0])
    try:
        values = load_function(function)(*inputs, **params)
    except Exception as error:
        raise ComputeError(f"udf.{name}: {function} raised {type(error).__name__}: {error}") from error
    if not isinstance(values, pl.Series) or len(values) != n_rows:
        given = f"a Series of {len(values)}" if isinstance(values, pl.Series) else type(values).__name__
        raise ComputeError(
            f"udf.{name}: {function} must return a polars Series of {n_rows} values, one a row; it returned {given}."
        )
    try:
        values = values.cast(dtype, strict=True)
    except pl.exceptions.PolarsError as error:
        raise ComputeError(
            f"udf.{name}: {function} returned {values.dtype}, which does not fit {dtype}: {error}"
        ) from error
    return (values.fill_nan(None) if dtype.is_float() else values).alias(name)
