"""One column's encoders, one after the other, with what is fitted of them so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.types as t

from featureflow.contracts.encoder import Encoder, Json, Output, Rows
from featureflow.core.errors import ComputeError, PlanError
from featureflow.core.types import parse_type, type_name
from featureflow.library.encoders import make
from featureflow.library.encoders.columns import plain, plain_type
from featureflow.library.encoders.target import Target

Made = list[tuple[Output, pa.Array]]


@dataclass(frozen=True, slots=True)
class Chain:
    """The encoders of a column; the first ``len(fitted)`` of them are fitted.

    ``search`` is what the next step's statistic looks for; None where all is fitted.
    """

    column: str
    kind: str
    steps: tuple[tuple[str, dict[str, Any]], ...]
    fitted: tuple[Json, ...] = ()
    search: Json = None

    @property
    def done(self) -> bool:
        """Whether every step is fitted."""
        return len(self.fitted) == len(self.steps)

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The steps as encoders."""
        return tuple(make(name, params) for name, params in self.steps)

    @property
    def target(self) -> tuple[int, Target] | None:
        """The step that knows labels, with its place; None if there is none."""
        found = [(at, step) for at, step in enumerate(self.encoders) if isinstance(step, Target)]
        return found[0] if found else None

    def kinds(self) -> Iterator[tuple[Encoder, pa.DataType, Json]]:
        """Each fitted step with the type that it takes."""
        kind = parse_type(self.kind)
        for step, fitted in zip(self.encoders, self.fitted, strict=False):
            yield step, kind, fitted
            made = step.outputs(kind, fitted, self.column)
            kind = plain_type(made[0].type) if made else kind  # a onehot without columns: nothing follows

    def next_kind(self) -> pa.DataType:
        """Type that the next step takes."""
        kind = parse_type(self.kind)
        for step, _, fitted in self.kinds():
            kind = plain_type(step.outputs(kind, fitted, self.column)[0].type)
        return kind

    def outputs(self) -> tuple[Output, ...]:
        """Columns that the fitted steps make, in order: the last step's, then indicators."""
        last: tuple[Output, ...] = ()
        extras: list[Output] = []
        for step, kind, fitted in self.kinds():
            made = step.outputs(kind, fitted, self.column)
            last = tuple(output for output in made if not output.extra)
            extras += [output for output in made if output.extra]
        return (*last, *extras)

    def apply(
        self, column: pa.Array | pa.ChunkedArray, train: Rows | None, *, until: int | None = None
    ) -> Made:
        """Encode rows with the steps that are fitted, or with the first ``until`` of them.

        ``train`` is given for train rows: then a target encoder uses only what does not know the row's own label.
        """
        made: Made = [(Output(self.column, parse_type(self.kind)), self._cast(column))]
        extras: Made = []
        for at, (step, kind, fitted) in enumerate(self.kinds()):
            if at == until:
                break
            if len(made) != 1:
                raise PlanError(
                    f"encode {self.column!r}: {self.steps[at - 1][0]} makes {len(made)} columns of it, so "
                    f"{self.steps[at][0]} can't follow. Make it the last of the chain."
                )
            with explained(self.column, step.name):
                arrays = step.transform(kind, fitted, plain(made[0][1]), train)
            outputs = step.outputs(kind, fitted, self.column)
            pairs = list(zip(outputs, arrays, strict=True))
            made = [pair for pair in pairs if not pair[0].extra]
            extras += [pair for pair in pairs if pair[0].extra]
        return made + extras

    def _cast(self, column: pa.Array | pa.ChunkedArray) -> pa.Array:
        """The column as the type that was fitted: frames of other libraries have integers with nulls as doubles."""
        target = parse_type(self.kind)
        array = plain(column)
        if array.type == target:
            return array
        try:
            if t.is_string(target) or t.is_string(array.type):
                if array.null_count == len(array):
                    return pa.nulls(len(array), target)
                raise pa.ArrowInvalid("text is no number")
            if t.is_boolean(target) and not t.is_boolean(array.type):
                array = array.cast(pa.uint8())
            return array.cast(target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ComputeError(
                f"column {self.column!r}: fitted as {type_name(target)}; got {type_name(array.type)}, "
                f"which has values that are none ({error}). Cast the column."
            ) from None

    def advanced(self, fitted: Json) -> Chain:
        """The chain with one more step fitted, and those after it that need no statistic."""
        chain = replace(self, fitted=(*self.fitted, fitted), search=None)
        return chain.begun()

    def begun(self) -> Chain:
        """The chain with the steps fitted that need no statistic, and the search of the first that does."""
        chain = self
        while not chain.done:
            step, kind = chain.encoders[len(chain.fitted)], chain.next_kind()
            with explained(self.column, step.name):
                statistic = step.statistic(kind)
                if statistic is not None:
                    return replace(chain, search={"of": statistic.start()})
                chain = replace(chain, fitted=(*chain.fitted, step.finish(kind, None)), search=None)
        return chain

    def check(self) -> None:
        """Refuse a chain whose steps can't take what they get, before anything is read."""
        kind = parse_type(self.kind)
        for place, step in enumerate(self.encoders):
            with explained(self.column, step.name):
                step.statistic(kind)
            if step.name == "onehot" and place + 1 < len(self.steps):
                raise PlanError(
                    f"encode {self.column!r}: nothing can follow onehot, which makes several columns."
                )
            params = self.steps[place][1]
            if step.name != "impute" or params["strategy"] in {"mean", "median"}:
                kind = pa.float64()

    def to_json(self) -> Json:
        """Plain values."""
        return {
            "column": self.column,
            "type": self.kind,
            "steps": [[name, params] for name, params in self.steps],
            "fitted": list(self.fitted),
            **({} if self.search is None else {"search": self.search}),
        }

    @classmethod
    def from_json(cls, given: Json) -> Chain:
        """Read what `to_json` wrote."""
        steps = tuple((name, params) for name, params in given["steps"])
        return cls(given["column"], given["type"], steps, tuple(given["fitted"]), given.get("search"))


@contextmanager
def explained(column: str, step: str) -> Iterator[None]:
    """Say which column and step an encoder's complaint is about."""
    try:
        yield
    except TypeError as error:
        raise PlanError(f"encode {column!r}: {step} {error}") from error
    except ValueError as error:
        raise ComputeError(f"encode {column!r}: {step}: {error}") from error


def duplicates(names: Sequence[str]) -> list[str]:
    """Names that are there more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)
