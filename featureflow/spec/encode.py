"""The typed spec of `encode:`: which encoders, with all their parameters, for which columns."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from featureflow.spec.encoders import (
    ENCODERS,
    PARAMETER_ALIASES,
    read_parameter,
    read_step,
    step_json_schema,
    written,
)
from featureflow.spec.fields import AsTuple, Misplaced, SpecModel
from featureflow.spec.sources import Columns
from featureflow.spec.suggest import did_you_mean


class EncodeStep(SpecModel):
    """One encoder with all its parameters decided, sorted by name."""

    name: str
    params: tuple[tuple[str, Any], ...] = ()

    def with_params(self, **changed: Any) -> EncodeStep:
        """The same encoder with other values of some parameters."""
        return EncodeStep(name=self.name, params=tuple(sorted({**dict(self.params), **changed}.items())))


def _step(given: Any) -> EncodeStep:
    if isinstance(given, EncodeStep):
        return given
    name, params = read_step(given)
    return EncodeStep(name=name, params=tuple(params.items()))


def _spelled(step: EncodeStep) -> dict[str, Any]:
    return {step.name: dict(step.params)}


StepField = Annotated[
    EncodeStep, PlainValidator(_step), PlainSerializer(_spelled), WithJsonSchema(step_json_schema())
]


class Encode(SpecModel):
    """Encoders for some columns, one after the other, fitted on the train split."""

    columns: Columns = Field(description="Columns that are encoded, each by itself.")
    with_: Annotated[tuple[StepField, ...], AsTuple(single=True, least=1)] = Field(
        alias="with", description="Encoders, in order; a parameter may also stand beside this."
    )

    @model_validator(mode="before")
    @classmethod
    def _parameters_beside(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = {key: value for key, value in given.items() if key in ("columns", "with")}
        beside = {key: value for key, value in given.items() if key not in own}
        steps = given.get("with")
        steps = list(steps) if isinstance(steps, list | tuple) else [steps]
        if not beside or any(isinstance(step, EncodeStep) for step in steps):
            return given
        try:
            read = [written(step) for step in steps]
        except ValueError:
            return own  # first the encoders, which say what they are themselves
        for key, value in beside.items():
            _put(read, key, value)
        return {**own, "with": [{name: params} for name, params in read]}


def _put(steps: list[tuple[str, dict[str, Any]]], key: Any, value: Any) -> None:
    """Give a parameter to the one step that has it."""
    able = [params for name, params in steps if key in ENCODERS[name].params]
    names = [name for name, _ in steps if key in ENCODERS[name].params]
    if not able:
        known = {key for name, _ in steps for key in ENCODERS[name].params}
        names = list(dict.fromkeys(name for name, _ in steps))
        what = f"{names[0]} has no" if len(names) == 1 else f"none of {', '.join(names)} has a"
        hint = did_you_mean(key, {"columns", "with", *known}, aliases=PARAMETER_ALIASES)
        raise Misplaced((key,), f"{what} parameter {key!r}. {hint}")
    if len(able) > 1:
        example = f"{{{names[0]}: {{{key}: {value}}}}}"
        raise Misplaced((key,), f"{' and '.join(names)} both have {key!r}. Write it with one: {example}.")
    if key in able[0]:
        raise Misplaced((key,), f"{key!r} of {names[0]} is given twice: here, and in with:. Remove one.")
    try:
        read_parameter(names[0], key, value)
    except ValueError as error:
        raise Misplaced((key,), str(error), at_key=False) from None
    able[0][key] = value
