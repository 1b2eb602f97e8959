"""Categories to what their labels are on average: target."""

# ruff: noqa: ARG002  (the contract's signatures)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.types as t
from numpy.typing import NDArray

from featureflow.contracts.encoder import Json, Output, Rows, Statistic
from featureflow.core.types import parse_type
from featureflow.kernels.out_of_time import running_encodings
from featureflow.kernels.totals import Total
from featureflow.library.encoders.columns import (
    codes_in,
    doubles,
    key_text,
    keys_from_json,
    numeric,
    plain,
    valid_rows,
)
from featureflow.library.encoders.target_counts import MOST_CLASSES, Sums, TargetCounts, folds_of, sums_of


def _classes(kind: pa.DataType, labels: list[Any]) -> list[Any] | None:
    """Classes of a label, as scikit-learn tells them; None if it is a quantity."""
    if t.is_boolean(kind):
        return [False, True]
    if t.is_floating(kind) or (t.is_integer(kind) and (set(labels) <= {0, 1} or len(labels) > MOST_CLASSES)):
        return None
    return labels


def _targets(classes: list[Any] | None) -> list[list[Any] | None]:
    """What each column averages: whether the label is one of these, or (None) the label itself."""
    if classes is None:
        return [None]
    # two classes are told by the second; scikit-learn takes a single one for the first of two
    return [[label] for label in classes] if len(classes) > 2 else [classes[1:]]


def _targeted(label: pa.Array, hits: list[Any] | None) -> NDArray[np.float64]:
    """What is averaged, for each row; NaN where the label is not known."""
    if hits is None:
        return doubles(label)
    met = (codes_in(label, hits) >= 0).astype(np.float64)
    met[~valid_rows(label)] = np.nan
    return met


@dataclass(frozen=True, slots=True)
class Target:
    """Mean of the label over the category's train rows, drawn towards the mean of all (`TargetEncoder`).

    ``smoothing`` m gives ``(n * mean + m * prior) / (n + m)``; ``auto`` weighs by the variances within the category and
    of all, as scikit-learn does. A null is a category like others; a category without labels gets the mean of all.
    A boolean label and one of two values are binary; text or integers of 3 to 20 values are classes, each with
    a column of its own (``shop_blue``); everything else is averaged. Rows without a label do not count.

    The value stored for a train row never knows the row's own label: with a number of ``folds``, it is fitted on
    the other folds; with ``time``, on the labels known before the row's time. ``none`` turns that off. Rows that are
    not of the train split, and new ones, get what all train rows say. ``prior`` is given where no label at all is
    known; null if omitted.
    """

    smoothing: float | str = "auto"
    folds: int | str = 5
    prior: float | None = None
    label: str | None = None
    label_delay: str | None = None
    seed: int = 0
    name: ClassVar[str] = "target"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Labels by category and fold."""
        if self.label is None:
            raise TypeError("needs a label. Name it with `label:`.")
        folds = self.folds if isinstance(self.folds, int) else None
        return TargetCounts(kind, self.label, folds, self.seed)

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Encodings of each category (null last), from all train rows and from all but each fold."""
        label_kind = parse_type(found["label"])
        classes = _classes(label_kind, found["classes"])
        targets = _targets(classes)
        n_folds = self.folds if isinstance(self.folds, int) else 1
        by_target = [sums_of(found, n_folds, hits) for hits in targets]
        has_null = bool(by_target[0].count[:, -1].any())
        n_keys = len(found["keys"]) + has_null
        fitted = {
            "keys": found["keys"],
            "null": has_null,
            "classes": None if classes is None else [key_text(label_kind, c) for c in classes],
            "label": found["label"],
            "targets": targets,
            **self._encodings([sums.over_folds() for sums in by_target], n_keys),
        }
        if isinstance(self.folds, int):
            fitted["by_fold"] = [
                self._encodings([sums.without(fold) for sums in by_target], n_keys) for fold in range(n_folds)
            ]
        return fitted

    def _encodings(self, by_target: list[Sums], n_keys: int) -> Json:
        """Mean of all, and encoding of each category, for each target; None where there is no label at all."""
        means: list[float | None] = []
        values: list[list[float | None]] = []
        for sums in by_target:
            everything = sums.everything()
            if not everything.count:
                means.append(None)
                values.append([None] * n_keys)
                continue
            means.append(everything.mean)
            values.append(self._smoothed(sums, everything)[:n_keys].tolist())
        return {"means": means, "values": values}

    def _smoothed(self, sums: Sums, everything: Total) -> NDArray[np.float64]:
        """Encoding of each category, by scikit-learn's formulas."""
        count, total, prior = sums.count.astype(np.float64), sums.sums(), everything.mean
        with np.errstate(divide="ignore", invalid="ignore"):
            if not isinstance(self.smoothing, str):
                made = (total + self.smoothing * prior) / (count + self.smoothing)
                return np.where(count + self.smoothing == 0, prior, made)
            between = everything.variance * count
            share = between / (between + sums.deviations() / count)
            return np.where(np.isnan(share), prior, share * (total / count) + (1 - share) * prior)

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """One column; for a label of several classes, one for each."""
        if len(fitted["targets"]) == 1:
            return (Output(name, pa.float64()),)
        return tuple(Output(f"{name}_{label}", pa.float64()) for label in fitted["classes"])

    def codes(self, kind: pa.DataType, fitted: Json, column: pa.Array) -> NDArray[np.int64]:
        """Place of each row's category, null after the others; -1 for one that no train row has."""
        codes = codes_in(column, keys_from_json(kind, fitted["keys"]))
        codes[codes == -1] = len(fitted["keys"]) if fitted["null"] else -2
        codes[codes == -2] = -1
        return codes

    def transform(
        self, kind: pa.DataType, fitted: Json, column: pa.Array, train: Rows | None
    ) -> tuple[pa.Array, ...]:
        """Look up each row's category; for train rows in what was fitted without their labels."""
        if train is not None and self.folds == "time":
            if train.known is None:
                raise ValueError(
                    "the encodings of train rows by time have to be given: they need all train rows."
                )
            return tuple(train.known)
        codes = self.codes(kind, fitted, column)
        fits, fold = [fitted], np.zeros(codes.size, np.int64)
        if train is not None and isinstance(self.folds, int):
            if train.hashes is None:
                raise ValueError("needs the rows' hashes for its folds.")
            fits, fold = fitted["by_fold"], folds_of(train.hashes, self.folds, self.seed)
        columns = []
        for target in range(len(fitted["means"])):
            # the mean of all comes last: it serves categories that no train row has, whose place is -1
            table = np.array([[*fit["values"][target], fit["means"][target]] for fit in fits], np.float64)
            columns.append(self._with_prior(table[fold, codes]))
        return tuple(columns)

    def _with_prior(self, values: NDArray[np.float64]) -> pa.Array:
        return numeric(values if self.prior is None else np.where(np.isnan(values), self.prior, values))

    def known_before(
        self, fitted: Json, codes: NDArray[np.int64], times: pa.Array, label: pa.Array, delay_us: int
    ) -> tuple[pa.Array, ...]:
        """Encodings of all train rows by the labels known before each, in the order given: the ``known`` of `Rows`.

        ``codes`` are those of :meth:`codes`; a label is known ``delay_us`` microseconds after its row's time.
        """
        instants = plain(times).cast(pa.int64())
        return tuple(
            self._with_prior(
                running_encodings(
                    codes,
                    instants.fill_null(0).to_numpy(),
                    valid_rows(instants),
                    _targeted(plain(label), hits),
                    delay_us=delay_us,
                    smoothing=None if isinstance(self.smoothing, str) else self.smoothing,
                )
            )
            for hits in fitted["targets"]
        )
