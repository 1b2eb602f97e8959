"""Frames of pandas, Polars and Arrow, and arrays: each as an Arrow table, and a table as the kind that was given."""

# ruff: noqa: N803  (scikit-learn calls frames X)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


def is_frame(X: Any) -> bool:
    """Whether it has named columns: a pandas or Polars frame, or an Arrow table."""
    return isinstance(X, pd.DataFrame | pl.DataFrame | pa.Table)


def names(X: Any) -> list[str]:
    """Names of the columns; ``x0``, ``x1``, … of an array."""
    if isinstance(X, pd.DataFrame | pl.DataFrame):
        return list(X.columns)
    if isinstance(X, pa.Table):
        return list(X.column_names)
    return [f"x{i}" for i in range(np.asarray(X).shape[1])]


def array(values: Any) -> pa.Array:
    """One column as an Arrow array; NaN is null."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(values, pl.Series):
        return values.to_arrow()
    if isinstance(values, pd.Series):
        made = pa.Array.from_pandas(values)
        return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
    return pa.array(np.asarray(values).ravel(), from_pandas=True)


def table(X: Any, columns: Sequence[str]) -> pa.Table:
    """Some columns as an Arrow table, in this order."""
    if isinstance(X, pa.Table):
        return X.select(list(columns))
    if isinstance(X, pl.DataFrame):
        return X.select(list(columns)).to_arrow()
    if isinstance(X, pd.DataFrame):
        return pa.table({name: array(X[name]) for name in columns})
    places = {name: i for i, name in enumerate(names(X))}
    return pa.table({name: array(X[:, places[name]]) for name in columns})


def wanted(transformer: Any, X: Any) -> str:
    """Kind of frame to give: what `set_output` says, or else the kind that was given."""
    from sklearn.utils._set_output import _get_output_config  # type: ignore[import-untyped]

    configured = _get_output_config("transform", transformer)["dense"]
    if configured != "default":
        return str(configured)
    if isinstance(X, pd.DataFrame):
        return "pandas"
    if isinstance(X, pl.DataFrame):
        return "polars"
    return "arrow" if isinstance(X, pa.Table) else "array"


def build(kind: str, X: Any, made: pa.Table) -> Any:
    """A frame of some kind; a pandas frame has the index of the one that was given."""
    if kind == "arrow":
        return made
    if kind == "polars":
        return pl.from_arrow(made)
    frame = made.to_pandas()
    if kind == "pandas":
        if isinstance(X, pd.DataFrame):
            frame.index = X.index
        return frame
    return frame.to_numpy()
