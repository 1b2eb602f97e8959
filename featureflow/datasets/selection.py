"""Feature selection on train rows: missing share, variance, correlation, mutual information, top k.

::

    selecting = Selecting(spec.select, features, label="label", identity=("card_id", "t"))
    states = [selecting.chunk(train_rows) for each file]        # tasks; rows as they are after encoding
    selection = selecting.decide(merge(states))                 # selection.kept, selection.to_pandas()

Missing shares and variances are exact, of all train rows. Correlations and mutual information are those of a sample:
the ``SAMPLE_ROWS`` rows with the smallest hashes, which is all of them where there are no more. So nothing depends on
how the rows were cut, and the cost does not grow with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as t
from numpy.typing import NDArray

from featureflow.contracts.encoder import Json, Rows
from featureflow.core.errors import ComputeError, PlanError
from featureflow.kernels.hashing import combine, hash_rows
from featureflow.kernels.totals import Total
from featureflow.library.encoders.columns import doubles, is_number, keys_of, plain, plain_type
from featureflow.library.encoders.statistics import Moments
from featureflow.spec.datasets import Select

if TYPE_CHECKING:
    import pandas as pd

#: rows of the sample for correlations and mutual information
SAMPLE_ROWS = 20_000
#: a feature or label of integers with at most this many different values in the sample counts as discrete
DISCRETE_VALUES = 20
_HASH, _STATE = "__ff_hash", b"featureflow"


@dataclass(frozen=True, slots=True)
class Selection:
    """What was decided, and why.

    Parameters
    ----------
    kept
        Features that stay, in their order.
    report
        ``rows`` (train rows), ``sample_rows``, and ``features``: a line for each feature, with ``missing`` (share),
        ``variance`` (population), ``correlation`` and ``correlated_with`` (the largest with a feature before it that
        is kept), ``mutual_information`` (nats), ``kept`` and ``reason``. None where it was not asked for, or
        does not exist.
    """

    kept: tuple[str, ...]
    report: Json

    def to_pandas(self) -> pd.DataFrame:
        """The report's lines as a frame, one a feature."""
        import pandas as pd

        return pd.DataFrame(self.report["features"])


@dataclass(frozen=True, slots=True)
class Selecting:
    """Statistics that a selection needs, of one file after the other.

    Parameters
    ----------
    select
        The spec's `select:`.
    features
        Features to choose from, in order.
    label
        Column that mutual information is about; rows where it is null do not count for it.
    identity
        Columns that tell rows apart; they decide the sample.
    """

    select: Select
    features: tuple[str, ...]
    label: str | None = None
    identity: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self._informed and self.label is None:
            raise PlanError("select: mutual_information and top_k need a label. Add `label:` to the dataset.")

    @property
    def _informed(self) -> bool:
        return self.select.mutual_information is not None or self.select.top_k is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that :meth:`chunk` reads."""
        label = (self.label,) if self._informed and self.label is not None else ()
        return tuple(dict.fromkeys([*self.features, *label, *self.identity]))

    def chunk(self, table: pa.Table) -> bytes:
        """State of some train rows, as they are after encoding; an empty table has one, too.

        Raises
        ------
        ComputeError
            If a number is infinite: it has no variance.
        """
        moments: dict[str, Json] = {}
        sampled: dict[str, pa.Array] = {}
        for name in self.features:
            column = table.column(name)
            if not _is_scalar(column.type):
                moments[name] = {"rows": len(column), "nulls": column.null_count}
                continue
            array = plain(column)
            sampled[name] = array
            moments[name] = {"rows": len(array), "nulls": array.null_count}
            if is_number(array.type):
                try:
                    moments[name]["numbers"] = Moments().chunk(None, array, Rows())
                except ValueError as error:
                    raise ComputeError(f"select: feature {name!r} {error}") from None
        return _written(moments, self._sample(table, sampled))

    def _sample(self, table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
        """Rows with the smallest hashes; none if no decision needs them."""
        if not self._informed and self.select.correlation is None:
            return pa.table({})
        arrays = dict(columns)
        if self._informed:
            arrays[f"label:{self.label}"] = plain(table.column(str(self.label)))
        content = pa.table(arrays)
        # rows of one identity are told apart by what is in them; equal rows are equal
        hashes = hash_rows(content)
        if self.identity:
            hashes = combine(hash_rows(table.select(list(self.identity))), hashes)
        return _smallest(content.append_column(_HASH, pa.array(hashes)))

    def decide(self, state: bytes) -> Selection:
        """Choose with the merged state of all train rows: in the order missing, variance, correlation, information."""
        moments, sample = _read(state)
        lines = {name: _line(name, moments[name]) for name in self.features}
        self._by_moments(lines)
        if self.select.correlation is not None:
            self._by_correlation(lines, sample, self.select.correlation)
        if self._informed:
            self._by_information(lines, sample)
        kept = tuple(name for name in self.features if lines[name]["kept"])
        rows = max((own["rows"] for own in moments.values()), default=0)
        report = {"rows": rows, "sample_rows": len(sample), "features": list(lines.values())}
        return Selection(kept, report)

    def _by_moments(self, lines: dict[str, Json]) -> None:
        for line in lines.values():
            share, variance = self.select.missing, self.select.variance
            if share is not None and line["missing"] is not None and line["missing"] > share:
                _drop(line, f"missing share {line['missing']:.6g} is over {share:g}")
            elif variance is not None and line["variance"] is not None and line["variance"] <= variance:
                _drop(line, f"variance {line['variance']:.6g} is not over {variance:g}")

    def _by_correlation(self, lines: dict[str, Json], sample: pa.Table, most: float) -> None:
        names = [n for n in self.features if lines[n]["kept"] and n in sample.column_names]
        names = [name for name in names if is_number(sample.schema.field(name).type)]
        matrix = _correlations(np.column_stack([doubles(plain(sample[n])) for n in names])) if names else None
        chosen: list[int] = []
        for at, name in enumerate(names):
            if matrix is not None and chosen:
                own = np.nan_to_num(np.abs(matrix[at, chosen]))
                best = chosen[int(own.argmax())]
                if own.max() > 0:
                    lines[name].update(correlation=float(matrix[at, best]), correlated_with=names[best])
                if own.max() > most:
                    text = f"correlation {matrix[at, best]:.6g} with {names[best]} is over {most:g}"
                    _drop(lines[name], text)
                    continue
            chosen.append(at)

    def _by_information(self, lines: dict[str, Json], sample: pa.Table) -> None:
        label = plain(sample.column(f"label:{self.label}"))
        for name in self.features:
            if lines[name]["kept"] and name in sample.column_names:
                lines[name]["mutual_information"] = mutual_information(plain(sample[name]), label)
        least, most = self.select.mutual_information, self.select.top_k
        measured = [line for line in lines.values() if line["mutual_information"] is not None]
        for line in measured:
            if least is not None and line["mutual_information"] < least:
                _drop(line, f"mutual information {line['mutual_information']:.6g} is less than {least:g}")
        if most is not None:
            # a stable sort: of equal ones, those that come first stay
            ranked = sorted((line for line in measured if line["kept"]), key=_information, reverse=True)
            for line in ranked[most:]:
                _drop(line, f"not among the {most} of the largest mutual information")


def _information(line: Json) -> float:
    return float(line["mutual_information"])


def _line(name: str, own: Json) -> Json:
    """A feature's line of the report, with what its moments say."""
    numbers = own.get("numbers")
    variance = None
    if numbers is not None:
        total = Total.from_json(numbers["total"])
        variance = total.variance if total.count else None
    return {
        "feature": name,
        "missing": own["nulls"] / own["rows"] if own["rows"] else None,
        "variance": variance,
        "correlation": None,
        "correlated_with": None,
        "mutual_information": None,
        "kept": True,
        "reason": "",
    }


def _drop(line: Json, reason: str) -> None:
    line.update(kept=False, reason=reason)


def _is_scalar(kind: pa.DataType) -> bool:
    try:
        plain_type(kind)
    except TypeError:
        return False
    return True


def _smallest(table: pa.Table) -> pa.Table:
    """The sample's rows, by hash."""
    order = np.argsort(table.column(_HASH).to_numpy(), kind="stable")[:SAMPLE_ROWS]
    return table.take(pa.array(order))


def _written(moments: Json, sample: pa.Table) -> bytes:
    text = json.dumps(moments, separators=(",", ":"), allow_nan=False)
    sink = pa.BufferOutputStream()
    tagged = sample.replace_schema_metadata({_STATE: text.encode()})
    with pa.ipc.new_stream(sink, tagged.schema) as writer:
        writer.write_table(tagged)
    return bytes(sink.getvalue())


def _read(state: bytes) -> tuple[Json, pa.Table]:
    table = pa.ipc.open_stream(state).read_all()
    return json.loads(table.schema.metadata[_STATE]), table.replace_schema_metadata()


def merge(states: Iterable[bytes]) -> bytes:
    """State of the rows of several states; of merged ones, too, in any order.

    Raises
    ------
    ValueError
        If there is no state: an empty table has one, too.
    """
    merged: Json = None
    sample = pa.table({})
    for state in states:
        moments, own = _read(state)
        if merged is None:
            merged, sample = moments, own
            continue
        for name, numbers in moments.items():
            before = merged[name]
            for count in ("rows", "nulls"):
                before[count] += numbers[count]
            if "numbers" in numbers:
                before["numbers"] = Moments().merge(before["numbers"], numbers["numbers"])
        if own.num_columns:
            sample = _smallest(pa.concat_tables([sample, own]))
    if merged is None:
        raise ValueError("there is no state to merge; take that of an empty table.")
    return _written(merged, sample)


def _correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlations of columns, of the rows where both have a value; NaN for a constant."""
    import pandas as pd

    found: NDArray[np.float64] = pd.DataFrame(values).corr(min_periods=2).to_numpy()
    return found


def mutual_information(feature: pa.Array, label: pa.Array) -> float | None:
    """Mutual information in nats, by scikit-learn's estimators, of the rows where both have a value.

    Booleans, text, and integers of at most ``DISCRETE_VALUES`` different values are discrete; all else is continuous.
    None with fewer than 5 rows: the estimators look at 3 neighbours.
    """
    from sklearn.feature_selection import (  # type: ignore[import-untyped]
        mutual_info_classif,
        mutual_info_regression,
    )

    both = np.asarray(feature.is_valid()) & np.asarray(label.is_valid())
    if both.sum() < 5:
        return None
    x, is_discrete = _numbers(feature.filter(pa.array(both)))
    y, is_class = _numbers(label.filter(pa.array(both)))
    estimate = mutual_info_classif if is_class else mutual_info_regression
    found = estimate(x[:, None], y, discrete_features=[is_discrete], n_neighbors=3, random_state=0)
    return float(found[0])


def _numbers(column: pa.Array) -> tuple[NDArray[Any], bool]:
    """Values, and whether they are discrete: then as places among the sorted ones."""
    codes, keys = keys_of(column)
    few = t.is_integer(column.type) and len(keys) <= DISCRETE_VALUES
    if few or t.is_boolean(column.type) or t.is_string(column.type):
        return codes, True
    if is_number(column.type):
        return doubles(column), False
    return column.cast(pa.int32() if t.is_date(column.type) else pa.int64()).to_numpy().astype(
        np.float64
    ), False
