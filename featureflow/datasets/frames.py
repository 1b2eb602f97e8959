"""A data frame as a spine: features at its rows, without a spec for it and without a version."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import yaml

from featureflow.core.errors import PlanError
from featureflow.spec.load import LoadedProject, load_text
from featureflow.spec.suggest import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

#: Name of the dataset that a frame becomes.
NAME = "training_set"


def with_frame(
    loaded: LoadedProject,
    frame: pl.DataFrame | pd.DataFrame,
    features: Sequence[str | Mapping[str, Any]],
    folder: str,
    *,
    keys: Sequence[str] | None,
    time: str | None,
    **parts: Any,
) -> LoadedProject:
    """Make a project with one dataset, whose spine is the frame's keys and time, written to a file in ``folder``.

    Raises
    ------
    SpecError
        If what is asked for is not in the project; says it as a spec's mistake.
    PlanError
        If the frame has no such columns, or keys or time can't be told.
    """
    rows = _as_polars(frame)
    keys = list(keys) if keys is not None else _keys(loaded, rows, features)
    time = time or _time(loaded, rows, features)
    missing = [name for name in (*keys, time) if name not in rows.columns]
    if missing:
        raise PlanError(
            f"the frame has no column {missing[0]!r}; it has: {', '.join(rows.columns)}. Name keys= and time=."
        )
    rows = rows.with_columns(_whole(rows[name]) for name in keys)
    path = os.path.join(folder, "spine.arrow")
    rows.write_ipc(path, compat_level=pl.CompatLevel.oldest())
    spec = {
        "spine": {"path": path, "format": "arrow", "keys": keys, "time": time},
        "features": list(features),
        **{name: part for name, part in parts.items() if part},
    }
    kept = {name: part for name, part in loaded.raw.items() if name not in ("datasets", "tests", "targets")}
    text = yaml.safe_dump({**kept, "datasets": {NAME: spec}}, sort_keys=False)
    return replace(load_text(text, "training_set()"), root=loaded.root)


def beside(
    frame: pl.DataFrame | pd.DataFrame, made: pa.Table, own: Sequence[str]
) -> pl.DataFrame | pd.DataFrame:
    """Give the frame with the columns that were made for it: same rows, same order, same index."""
    new = made.select([name for name in made.schema.names if name not in own])
    if isinstance(frame, pl.DataFrame):
        return frame.hstack(pl.DataFrame(new).get_columns()) if new.num_columns else frame
    import pandas as pd

    added: pd.DataFrame = new.to_pandas()
    added.index = frame.index
    joined: pd.DataFrame = pd.concat([frame, added], axis=1)
    return joined


def _as_polars(frame: pl.DataFrame | pd.DataFrame) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    if hasattr(frame, "to_parquet") and hasattr(frame, "iloc"):  # pandas, without importing it
        converted: pl.DataFrame = pl.from_pandas(frame)
        return converted
    raise PlanError(f"a Polars or pandas frame is needed; got {type(frame).__name__}.")


def _keys(
    loaded: LoadedProject, rows: pl.DataFrame, features: Sequence[str | Mapping[str, Any]]
) -> list[str]:
    """Columns of the frame that are keys of the tables."""
    found: dict[str, None] = {}
    for used in features:
        name = used if isinstance(used, str) else used.get("table", "")
        mapping = {} if isinstance(used, str) else used.get("keys", {})
        if isinstance(mapping, Mapping) and mapping:
            found.update(dict.fromkeys(c for pair in mapping.items() for c in pair if c in rows.columns))
        elif name in loaded.project.grids and loaded.project.grids[name].is_zonal:
            found.update(dict.fromkeys(key for key in ("zone",) if key in rows.columns))
        elif name not in loaded.project.features:
            raise PlanError(
                f"there is no feature table {name!r}. {did_you_mean(name, loaded.project.features)}"
            )
        else:
            found.update(
                dict.fromkeys(key for key in loaded.project.features[name].keys if key in rows.columns)
            )
    if not found:
        raise PlanError(
            f"the frame has none of the tables' keys; it has: {', '.join(rows.columns)}. Name them: keys=[…]."
        )
    return list(found)


def _time(loaded: LoadedProject, rows: pl.DataFrame, features: Sequence[str | Mapping[str, Any]]) -> str:
    """The frame's only time, or the one that is called as a table's."""
    times = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
    if len(times) == 1:
        return times[0]
    for used in features:
        table = loaded.project.features.get(used if isinstance(used, str) else used.get("table", ""))
        source = loaded.project.sources.get(table.source) if table else None
        if source is not None and source.time in times:
            return source.time
    raise PlanError(
        f"which column is the rows' time? Name it: time=…. The frame's times: {', '.join(times) or 'none'}."
    )


def _whole(values: pl.Series) -> pl.Series:
    """Keys that pandas made floats, because some are missing, as the integers that they were."""
    if not values.dtype.is_float():
        return values
    whole = values.fill_nan(None)
    known = whole.drop_nulls()
    return whole.cast(pl.Int64) if bool((known == known.round()).all()) else values
