"""A dataset's encoders as one scikit-learn transformer: frames of raw features in, what a model learns from out."""

# ruff: noqa: N803, N806  (scikit-learn calls frames X)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, TransformerMixin  # type: ignore[import-untyped]
from sklearn.utils.validation import (  # type: ignore[import-untyped]
    _check_feature_names_in,
    check_is_fitted,
    validate_data,
)

from featureflow.contracts.encoder import Json
from featureflow.core.durations import Duration
from featureflow.core.errors import ComputeError, FrameError
from featureflow.core.types import type_name
from featureflow.datasets import containers, selection
from featureflow.datasets import fitting as fits
from featureflow.datasets.fitted import Fitted
from featureflow.spec.datasets import Select
from featureflow.spec.encode import Encode

FORMAT = 1
_ROW = "__ff_row"


class DatasetEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encode raw features as a dataset's version did (`dataset.encoder`), or fit the same rules on a frame.

    Takes pandas and Polars frames, Arrow tables and arrays, and gives the same kind; `set_output` is respected.
    Columns are found by name, in any order, and others are ignored; features without an encoder pass as they are,
    those that a selection dropped are absent. A frame need not hold the label: a target encoder looks up what the
    train rows of the version (or of `fit`) say.

    Parameters
    ----------
    encode
        Entries as under `encode:` in a spec.
    select
        As `select:` in a spec.
    features
        Raw features, in order; None takes all columns of the frame that it is fitted on.
    time
        Column of the frame with the rows' times; for `folds: time`, in `fit_transform`.
    label_delay
        How long after a row's time its label is known; for `folds: time`.
    suffix
        Put behind the names of encoded columns.

    Notes
    -----
    `fit_transform` gives train rows encodings that do not know their own label, as scikit-learn's `TargetEncoder` does;
    folds are those of the rows' numbers. `fit(X).transform(X)` is not the same, there as here.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "channel": ["web", "pos", "web"]})
    >>> rules = [{"columns": ["x"], "with": "standard"}, {"columns": ["channel"], "with": "onehot"}]
    >>> encoder = DatasetEncoder(rules).fit(frame)
    >>> encoder.transform(pd.DataFrame({"channel": ["pos", "app"], "x": [2.0, None]}))
         x  channel_pos  channel_web
    0  0.0            1            0
    1  NaN            0            0
    """

    def __init__(
        self,
        encode: Sequence[Mapping[str, Any] | Encode] = (),
        select: Mapping[str, Any] | Select | None = None,
        *,
        features: Sequence[str] | None = None,
        time: str | None = None,
        label_delay: str = "0s",
        suffix: str = "",
    ) -> None:
        self.encode = encode
        self.select = select
        self.features = features
        self.time = time
        self.label_delay = label_delay
        self.suffix = suffix

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        schema: pa.Schema,
        *,
        encode: Sequence[Encode] = (),
        select: Select | None = None,
        kept: Sequence[str] | None = None,
        label_delay: str = "0s",
        suffix: str = "",
    ) -> DatasetEncoder:
        """Make a transformer of encoders that are fitted already.

        Parameters
        ----------
        fitted
            The encoders.
        schema
            Raw features with their types, in order.
        encode, select
            The rules, for fitting again.
        kept
            Final features that the selection kept, by their final names; None: all.
        """
        made = cls(
            [_spelled(entry) for entry in encode],
            None if select is None else select.model_dump(exclude_none=True),
            features=list(schema.names),
            time=fitted.time,
            label_delay=label_delay,
            suffix=suffix,
        )
        made._set(fitted, {field.name: type_name(field.type) for field in schema}, kept)
        return made

    def _set(self, fitted: Fitted, types: dict[str, str], kept: Sequence[str] | None) -> None:
        self.fitted_, self.input_types_ = fitted, types
        self.feature_names_in_ = np.array(list(types), dtype=object)
        self.n_features_in_ = len(types)
        self.kept_ = [name for _, name, _ in self._made() if kept is None or name in kept]

    def _made(self) -> list[tuple[str, str, bool]]:
        """Final columns in order, before selection: the raw feature, the name, whether it is encoded."""
        sources = self.fitted_.sources
        found = []
        for raw in self.input_types_:
            if raw in sources:
                found += [(raw, name + self.suffix, True) for name in sources[raw]]
            else:
                found.append((raw, raw, False))
        return found

    def _table(self, X: Any, *, names: Sequence[str]) -> pa.Table:
        """Columns of a frame by name; an error that names those which are not there."""
        there = containers.names(X)
        missing = [name for name in names if name not in there]
        if missing:
            text = f"the frame lacks {', '.join(repr(name) for name in missing)}."
            if hasattr(self, "kept_") and any(
                final in there or f"{raw}__encoded" in there
                for raw, final, is_encoded in self._made()
                if is_encoded and raw in missing
            ):
                text += (
                    " It looks encoded already: give raw rows, such as those of `to_pandas(encoded=False)`."
                )
            else:
                text += f" There are: {', '.join(map(str, there)) or 'none'}."
            raise FrameError(f"encoder: {text}")
        return containers.table(X, names)

    def fit(self, X: Any, y: Any = None) -> DatasetEncoder:
        """Fit the rules on a frame, all of whose rows are train rows; ``y`` is the label, where one is needed."""
        self._fit(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:  # noqa: ARG002  (scikit-learn's signature)
        """Fit and encode the same rows; a target encoder then leaves out each row's own label."""
        X, table = self._fit(X, y)
        fitted = self.fitted_
        known = None
        if fitted.by_time:
            known = fitted.known_before(fitted.gather(table))
        encoded = fitted.transform(table, np.ones(len(table), np.bool_), known)
        return self._output(X, encoded)

    def _fit(self, X: Any, y: Any) -> tuple[Any, pa.Table]:
        if not containers.is_frame(X):
            X = validate_data(self, X, dtype=None, ensure_all_finite=False)
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        is_named = containers.is_frame(X)
        names = list(self.features) if self.features is not None and is_named else containers.names(X)
        if self.features is None:
            names = [name for name in names if name != self.time]
        if not is_named or len(names) == 0:
            validate_data(
                self, X if not is_named else np.empty((len(X), 0)), dtype=None, ensure_all_finite=False
            )
        encodes = [e if isinstance(e, Encode) else Encode.model_validate(e) for e in self.encode]
        labels = _labels(encodes, y)
        by_time = any(dict(step.params).get("folds") == "time" for e in encodes for step in e.with_)
        table = self._table(X, names=[*names, *([self.time] if self.time and by_time else [])])
        types = {name: type_name(table.schema.field(name).type) for name in names}
        for name, values in labels.items():
            if len(values) != len(table):
                raise FrameError(f"encoder: {len(table)} rows have {len(values)} labels.")
            table = table.append_column(name, values)
        delay = Duration.parse(self.label_delay).microseconds or 0
        table = table.append_column(_ROW, pa.array(np.arange(len(table))))
        fitted = _fitted(encodes, table, dict.fromkeys(labels, delay), self.time)
        self._set(fitted, types, None)
        if not is_named:
            del self.feature_names_in_
        if self.select is not None:
            self._choose(table, labels)
        return X, table

    def _choose(self, table: pa.Table, labels: dict[str, pa.Array]) -> None:
        """Select features on the frame that was fitted."""
        select = self.select if isinstance(self.select, Select) else Select.model_validate(self.select)
        fitted = self.fitted_
        known = fitted.known_before(fitted.gather(table)) if fitted.by_time else None
        final = self._final(table, fitted.transform(table, np.ones(len(table), np.bool_), known))
        label = select.label or next(iter(labels), None)
        for name, values in labels.items():
            if name not in final.column_names:
                final = final.append_column(name, values)
        choosing = selection.Selecting(select, tuple(self.kept_), label, (_ROW,))
        chosen = choosing.decide(choosing.chunk(final.append_column(_ROW, table.column(_ROW))))
        self.kept_, self.selection_ = list(chosen.kept), chosen

    def _final(self, table: pa.Table, encoded: pa.Table) -> pa.Table:
        """Final columns in order."""
        columns = {}
        for raw, name, is_encoded in self._made():
            if name in self.kept_:
                inner = name[: len(name) - len(self.suffix)] if is_encoded and self.suffix else name
                columns[name] = encoded.column(inner) if is_encoded else table.column(raw)
        return pa.table(columns)

    def transform(self, X: Any) -> Any:
        """Encode rows by what all train rows say; one by one, so that any subset of them gives the same.

        Raises
        ------
        FrameError
            If raw features are not there.
        ComputeError
            If values do not fit a feature's type, or an encoder refuses them.
        """
        check_is_fitted(self, "fitted_")
        if not containers.is_frame(X):
            X = validate_data(self, X, dtype=None, ensure_all_finite=False, reset=False)
        table = self._table(X, names=list(self.input_types_))
        return self._output(X, self.fitted_.transform(table))

    def _output(self, X: Any, encoded: pa.Table) -> Any:
        wanted = containers.wanted(self, X)
        raw = [source for source, name, is_encoded in self._made() if not is_encoded and name in self.kept_]
        return containers.build(wanted, X, self._final(self._table(X, names=raw), encoded))

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Names of the final features, in order."""
        check_is_fitted(self, "fitted_")
        given = _check_feature_names_in(self, input_features)
        called = dict(zip(self.input_types_, given, strict=True))
        return np.array(
            [f"{called[raw]}{name[len(raw) :]}" for raw, name, _ in self._made() if name in self.kept_],
            dtype=object,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "kept_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.target_tags.required = any("target" in str(entry) for entry in self.encode)
        tags.transformer_tags.preserves_dtype = []
        return tags

    def to_json(self) -> Json:
        """Rules, types and everything fitted, as plain values; `from_json` gives the same encoder to the last bit."""
        check_is_fitted(self, "fitted_")
        select = self.select.model_dump(exclude_none=True) if isinstance(self.select, Select) else self.select
        return {
            "format": FORMAT,
            "encode": [_spelled(entry) for entry in self.encode],
            "select": None if select is None else dict(select),
            "features": None if self.features is None else list(self.features),
            "time": self.time,
            "label_delay": self.label_delay,
            "suffix": self.suffix,
            "inputs": dict(self.input_types_),
            "fitted": self.fitted_.to_json(),
            "kept": list(self.kept_),
        }

    @classmethod
    def from_json(cls, given: Json) -> DatasetEncoder:
        """Read what `to_json` wrote.

        Raises
        ------
        ComputeError
            If a newer featureflow wrote it.
        """
        if given["format"] > FORMAT:
            raise ComputeError(
                f"encoder: written in format {given['format']}; this featureflow reads up to {FORMAT}. Upgrade."
            )
        names = ("encode", "select", "features", "time", "label_delay", "suffix")
        made = cls(**{name: given[name] for name in names})
        made._set(Fitted.from_json(given["fitted"]), dict(given["inputs"]), given["kept"])
        return made


def _spelled(entry: Mapping[str, Any] | Encode) -> Json:
    """An entry of `encode:` as plain values."""
    return entry.model_dump(mode="json", by_alias=True) if isinstance(entry, Encode) else dict(entry)


def _labels(encodes: Sequence[Encode], y: Any) -> dict[str, pa.Array]:
    """Label columns by name: those of a frame, or the only one."""
    if y is None:
        return {}
    if containers.is_frame(y) and len(containers.names(y)) > 1:
        table = containers.table(y, containers.names(y))
        return {name: table.column(name).combine_chunks() for name in table.column_names}
    named = {dict(step.params).get("label") for e in encodes for step in e.with_ if step.name == "target"}
    name = next(iter(sorted(filter(None, named))), "label")
    values = (
        containers.table(y, containers.names(y)).column(0) if containers.is_frame(y) else containers.array(y)
    )
    return {name: values}


def _fitted(
    encodes: Sequence[Encode], table: pa.Table, labels: Mapping[str, int], time: str | None
) -> Fitted:
    fitting = fits.begin(encodes, table.schema, labels=labels, time=time, identity=(_ROW,))
    while not fitting.done:
        fitting = fitting.advance(fits.merge([fitting.chunk(table)]))
    return fitting.fitted
