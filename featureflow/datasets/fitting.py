"""Fit encoders on train rows in any number of files, one pass for all columns at a time.

::

    fitting = begin(encodes, schema, labels={"label": delay_us}, time="t", identity=("card_id", "t"))
    while not fitting.done:
        states = [fitting.chunk(train_rows) for each file]      # tasks; read fitting.columns
        fitting = fitting.advance(merge(states))                # any order, any grouping
    fitted = fitting.fitted                                     # plain JSON: fitted.to_json()
    encoded = fitted.transform(rows)

Each pass fits the next step of every chain, or finds quantiles more closely. A `Fitting` and the states are plain data:
what is fitted is the same to the byte for any files, order and grouping.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from featureflow.contracts.encoder import Json, Statistic
from featureflow.core.errors import PlanError
from featureflow.core.types import parse_type, type_name
from featureflow.datasets.chains import Chain, duplicates, explained
from featureflow.datasets.fitted import Fitted, rows_of
from featureflow.library.encoders import make
from featureflow.library.encoders.columns import plain, plain_type
from featureflow.library.encoders.target import Target
from featureflow.spec.encode import Encode


@dataclass(frozen=True, slots=True)
class Fitting:
    """How far a fit has come.

    Parameters
    ----------
    chains
        One for each encoded column.
    labels
        Label columns, each with how long after the row's time it is known, in microseconds.
    time
        Column of the rows' time; for `folds: time`.
    identity
        Columns whose hash decides the fold of a row for `folds: 5`: rows that are equal in them share a fold.
    others
        Columns that are not encoded: nothing encoded may have their names.
    """

    chains: tuple[Chain, ...]
    labels: Mapping[str, int] = field(default_factory=dict)
    time: str | None = None
    identity: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether everything is fitted."""
        return all(chain.done for chain in self.chains)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the train rows that the next pass reads."""
        open_chains = [chain for chain in self.chains if not chain.done]
        targets = [chain.target[1] for chain in open_chains if chain.target]
        needed = [chain.column for chain in open_chains]
        needed += [target.label for target in targets if target.label]
        needed += self.identity if any(isinstance(target.folds, int) for target in targets) else ()
        return tuple(dict.fromkeys(needed))

    def chunk(self, table: pa.Table) -> bytes:
        """State of some train rows; an empty table has one, too.

        Raises
        ------
        ComputeError
            If values can't be fitted (an infinity has no mean), or a type is not the one that was planned.
        """
        states: dict[str, Json] = {}
        for place, chain in enumerate(self.chains):
            if chain.done:
                continue
            target = chain.target
            train = rows_of(table, chain, self.identity)
            # what follows an out-of-time target is fitted on what all labels say: only then is it one pass
            by_time = target is not None and target[1].folds == "time"
            made = chain.apply(table.column(chain.column), None if by_time else train)
            values = [pair for pair in made if not pair[0].extra]
            name, params = chain.steps[len(chain.fitted)]
            if len(values) != 1:
                raise PlanError(
                    f"encode {chain.column!r}: {chain.steps[len(chain.fitted) - 1][0]} makes {len(values)} columns "
                    f"of it, so {name} can't follow. Make it the last of the chain."
                )
            step = [name, params, type_name(chain.next_kind())]
            with explained(chain.column, name):
                state = _statistic(step).chunk(chain.search["of"], plain(values[0][1]), train)
            states[str(place)] = {"step": step, "state": state}
        return _written(states)

    def advance(self, state: bytes) -> Fitting:
        """Finish a pass with the merged state of all train rows."""
        states = json.loads(state)
        chains = []
        for place, chain in enumerate(self.chains):
            if chain.done:
                chains.append(chain)
                continue
            own = states[str(place)]
            known, found = _statistic(own["step"]).advance(chain.search["of"], own["state"])
            if not known:
                chains.append(replace(chain, search={"of": found}))
                continue
            encoder = chain.encoders[len(chain.fitted)]
            with explained(chain.column, encoder.name):
                fitted = encoder.finish(chain.next_kind(), found)
            chains.append(chain.advanced(fitted))
        return replace(self, chains=tuple(chains))

    @property
    def fitted(self) -> Fitted:
        """Everything fitted.

        Raises
        ------
        PlanError
            If it is not done, or an encoded column has the name of another column.
        """
        if not self.done:
            raise PlanError("encode: not all passes over the train rows are done.")
        made = Fitted(self.chains, dict(self.labels), self.time, self.identity)
        names = [output.name for output in made.outputs]
        if twice := duplicates([*names, *self.others]):
            raise PlanError(
                f"encode: two columns are named {twice[0]!r}, at least one of them encoded. Rename the input column."
            )
        return made

    def to_json(self) -> Json:
        """Plain values."""
        return {
            "chains": [chain.to_json() for chain in self.chains],
            "labels": dict(self.labels),
            "time": self.time,
            "identity": list(self.identity),
            "others": list(self.others),
        }

    @classmethod
    def from_json(cls, given: Json) -> Fitting:
        """Read what `to_json` wrote."""
        chains = tuple(Chain.from_json(chain) for chain in given["chains"])
        return cls(chains, given["labels"], given["time"], tuple(given["identity"]), tuple(given["others"]))


def _statistic(step: Json) -> Statistic:
    """Statistic of a step that has one: its name, its parameters, and the type that it takes."""
    name, params, kind = step
    statistic = make(name, params).statistic(parse_type(kind))
    if statistic is None:
        raise ValueError(f"{name} has nothing to fit.")
    return statistic


def _written(states: Json) -> bytes:
    return json.dumps(states, separators=(",", ":"), allow_nan=False).encode()


def merge(states: Iterable[bytes]) -> bytes:
    """State of the rows of several states; of merged ones, too, so that a tree of tasks can do it.

    Notes
    -----
    Order: none matters. Cost: two states are held at a time; about 2 MB a numeric column with quantiles, and some
    50 bytes for each different category.

    Raises
    ------
    ValueError
        If there is no state: an empty table has one, too.
    """
    merged: Json = None
    for state in states:
        read = json.loads(state)
        if merged is None:
            merged = read
            continue
        for place, own in read.items():
            before = merged[place]
            before["state"] = _statistic(own["step"]).merge(before["state"], own["state"])
    if merged is None:
        raise ValueError("there is no state to merge; take that of an empty table.")
    return _written(merged)


def begin(
    encodes: Sequence[Encode],
    schema: pa.Schema,
    *,
    labels: Mapping[str, int] | None = None,
    time: str | None = None,
    identity: Sequence[str] = (),
) -> Fitting:
    """Plan the fit of a dataset's encoders.

    Parameters
    ----------
    encodes
        `encode:` of the spec.
    schema
        Of the dataset's raw rows.
    labels
        Label columns, each with how long after the row's time it is known (gap and horizon), in microseconds.
    time
        The spine's time.
    identity
        Columns that say which rows belong into one fold of a target encoder; mostly keys and time.

    Raises
    ------
    PlanError
        If an encoder can't take its column, or misses a label, a time or an identity.

    Examples
    --------
    >>> spec = Encode.model_validate({"columns": ["x"], "with": ["standard"]})
    >>> fitting = begin([spec], pa.schema([("x", pa.float64())]))
    >>> parts = [fitting.chunk(pa.table({"x": [1.0, 2.0]})), fitting.chunk(pa.table({"x": [3.0]}))]
    >>> fitted = fitting.advance(merge(parts)).fitted
    >>> fitted.transform(pa.table({"x": [2.0, None]}))["x"].to_pylist()
    [0.0, None]
    """
    known = dict(labels or {})
    chains = []
    for encode in encodes:
        for column in encode.columns:
            if column not in schema.names:
                raise PlanError(
                    f"encode {column!r}: there is no such column. Known: {', '.join(schema.names)}."
                )
            with explained(column, "encode"):
                kind = type_name(plain_type(schema.field(column).type))
            steps = tuple(
                (step.name, _params(step.name, dict(step.params), column, known)) for step in encode.with_
            )
            chain = Chain(column, kind, steps)
            chain.check()
            _check_target(chain, time, identity)
            chains.append(chain.begun())
    encoded = {chain.column for chain in chains}
    others = tuple(name for name in schema.names if name not in encoded)
    return Fitting(tuple(chains), known, time, tuple(identity), others)


def _params(step: str, params: Json, column: str, labels: Mapping[str, int]) -> Json:
    """Parameters as JSON, a target encoder's with its label."""
    plain_params = {key: list(value) if isinstance(value, tuple) else value for key, value in params.items()}
    if step != "target":
        return plain_params
    label = params.get("label") or (next(iter(labels)) if len(labels) == 1 else None)
    if label not in labels:
        there = ", ".join(labels) or "none"
        raise PlanError(
            f"encode {column!r}: target needs one label of the dataset. Name it with `label:`; there: {there}."
        )
    return {**plain_params, "label": label}


def _check_target(chain: Chain, time: str | None, identity: Sequence[str]) -> None:
    found = chain.target
    if found is None:
        return
    if sum(isinstance(step, Target) for step in chain.encoders) > 1:
        raise PlanError(f"encode {chain.column!r}: only one target encoder can be in a chain.")
    if found[1].folds == "time" and time is None:
        raise PlanError(f"encode {chain.column!r}: target with folds: time needs the spine's `time:`.")
    if isinstance(found[1].folds, int) and not identity:
        raise PlanError(f"encode {chain.column!r}: target with folds needs columns that tell rows apart.")
