"""What a spec can say about encoders: names, parameters, defaults. The arithmetic is the library's.

The table here and the library's shelf must name the same encoders and parameters. A step that was read has every
parameter of its encoder, with the defaults filled in, so that nothing else needs to know them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from featureflow.spec.encoder_values import (
    NUMBER,
    SCALAR,
    SHARE,
    EncoderParameter,
    at_most,
    between,
    flag,
    one_of,
    or_null,
    percentage,
    read_delay,
    read_edges,
    read_ends,
    read_folds,
    read_name,
    read_number,
    read_scalar,
    read_smoothing,
    seed,
    whole,
)
from featureflow.spec.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What may be written about one encoder.

    Parameters
    ----------
    takes
        ``numbers``, or ``any`` column.
    params
        By name.
    short
        Parameter that a bare value stands for: ``{impute: median}`` is ``{impute: {strategy: median}}``.
    several
        Whether it makes several columns of one; then no other step can follow.
    together
        Gives what is wrong with parameters that are right one by one; None if nothing is.
    """

    takes: Literal["numbers", "any"]
    params: Mapping[str, EncoderParameter] = field(default_factory=dict)
    short: Callable[[Any], str | None] = lambda _: None
    several: bool = False
    together: Callable[[Mapping[str, Any]], str | None] = lambda _: None


def _robust(given: Mapping[str, Any]) -> str | None:
    return None if given["low"] < given["high"] else "low must be less than high"


def _impute(given: Mapping[str, Any]) -> str | None:
    constant = given["strategy"] == "constant"
    if constant and given["value"] is None:
        return "strategy constant needs a value. Write {impute: {strategy: constant, value: 0}}"
    return "value belongs to strategy: constant" if not constant and given["value"] is not None else None


def _bucketize(given: Mapping[str, Any]) -> str | None:
    if (given["edges"] is None) == (given["n_bins"] is None):
        return "it needs either edges or n_bins, such as {bucketize: {n_bins: 10}} or {bucketize: {edges: [0, 1]}}"
    return None


def _clip(given: Mapping[str, Any]) -> str | None:
    for fixed, share in (("low", "low_q"), ("high", "high_q")):
        if given[fixed] is not None and given[share] is not None:
            return f"{fixed} and {share} say the same end. Keep one"
    if all(given[end] is None for end in ("low", "high", "low_q", "high_q")):
        return "it needs an end: low, high, low_q or high_q, such as {clip: {low_q: 0.01, high_q: 0.99}}"
    for low, high in (("low", "high"), ("low_q", "high_q")):
        if given[low] is not None and given[high] is not None and given[low] > given[high]:
            return f"{low} must be at most {high}"
    return None


#: every encoder of the language, in the order of the documentation
ENCODERS: dict[str, EncoderSpec] = {
    "standard": EncoderSpec("numbers", {"with_mean": flag(True), "with_std": flag(True)}),
    "minmax": EncoderSpec(
        "numbers",
        {
            "range": EncoderParameter(
                read_ends, {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}, (0.0, 1.0)
            ),
            "clip": flag(False),
        },
        short=lambda given: "range" if isinstance(given, list | tuple) else None,
    ),
    "robust": EncoderSpec(
        "numbers",
        {
            "low": percentage(25.0),
            "high": percentage(75.0),
            "with_centering": flag(True),
            "with_scaling": flag(True),
        },
        together=_robust,
    ),
    "quantile": EncoderSpec(
        "numbers",
        {
            "n_quantiles": EncoderParameter(
                whole(2, 100_000), {"type": "integer", "minimum": 2, "maximum": 100_000}, 1000
            ),
            "output": one_of("uniform", "uniform", "normal"),
        },
    ),
    "impute": EncoderSpec(
        "any",
        {
            "strategy": one_of("mean", "mean", "median", "most_frequent", "constant"),
            "value": EncoderParameter(or_null(read_scalar), SCALAR),
            "indicator": flag(False),
        },
        short=lambda given: "strategy" if isinstance(given, str) else None,
        together=_impute,
    ),
    "onehot": EncoderSpec(
        "any",
        {
            "min_count": EncoderParameter(or_null(whole(1, 2**53)), at_most(2**53)),
            "max_categories": EncoderParameter(or_null(whole(1, 10_000)), at_most(10_000)),
            "drop": one_of("none", "none", "first", "if_binary"),
            "unknown": one_of("ignore", "ignore", "error"),
        },
        several=True,
    ),
    "ordinal": EncoderSpec(
        "any",
        {
            "unknown_value": EncoderParameter(
                whole(-(2**31), 2**31 - 1),
                {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
                -1,
            ),
            "missing_value": EncoderParameter(
                or_null(whole(-(2**31), 2**31 - 1)), at_most(2**31 - 1, -(2**31))
            ),
        },
    ),
    "hash": EncoderSpec(
        "any",
        {
            "buckets": EncoderParameter(
                whole(2, 2**31 - 1),
                {"type": "integer", "minimum": 2, "maximum": 2**31 - 1},
                example="1024",
                required=True,
            ),
            "seed": seed(),
        },
        short=lambda given: "buckets" if isinstance(given, int) else None,
    ),
    "bucketize": EncoderSpec(
        "numbers",
        {
            "edges": EncoderParameter(
                or_null(read_edges),
                {"anyOf": [{"type": "array", "items": NUMBER, "minItems": 1}, {"const": None}]},
            ),
            "n_bins": EncoderParameter(or_null(whole(2, 10_000)), at_most(10_000, 2)),
            "strategy": one_of("quantile", "quantile", "uniform"),
        },
        short=lambda given: {list: "edges", tuple: "edges", int: "n_bins"}.get(type(given)),
        together=_bucketize,
    ),
    "target": EncoderSpec(
        "any",
        {
            "smoothing": EncoderParameter(
                read_smoothing, {"anyOf": [{"const": "auto"}, {**NUMBER, "minimum": 0}]}, "auto"
            ),
            "folds": EncoderParameter(
                read_folds,
                {"anyOf": [{"enum": ["time", "none"]}, {"type": "integer", "minimum": 2, "maximum": 1000}]},
                5,
            ),
            "prior": EncoderParameter(or_null(read_number), {"type": ["number", "null"]}),
            "label": EncoderParameter(or_null(read_name), {"type": ["string", "null"], "minLength": 1}),
            "label_delay": EncoderParameter(or_null(read_delay), {"type": ["string", "null"]}),
            "seed": seed(),
        },
    ),
    "log1p": EncoderSpec("numbers"),
    "clip": EncoderSpec(
        "numbers",
        {
            "low": EncoderParameter(or_null(read_number), {"type": ["number", "null"]}),
            "high": EncoderParameter(or_null(read_number), {"type": ["number", "null"]}),
            "low_q": EncoderParameter(or_null(between(0, 1, "a number from 0 to 1")), SHARE),
            "high_q": EncoderParameter(or_null(between(0, 1, "a number from 0 to 1")), SHARE),
        },
        together=_clip,
    ),
}

#: names that other tools use for the same thing; only for suggestions, never accepted
ALIASES = {
    **dict.fromkeys(
        ("zscore", "z_score", "standardize", "standardise", "scale", "standardscaler"), "standard"
    ),
    **dict.fromkeys(("min_max", "minmaxscaler", "rescale"), "minmax"),
    **dict.fromkeys(("robustscaler",), "robust"),
    **dict.fromkeys(("rank", "quantiletransformer"), "quantile"),
    **dict.fromkeys(("fill", "fillna", "imputer", "simpleimputer", "fill_null"), "impute"),
    **dict.fromkeys(("one_hot", "dummies", "get_dummies", "onehotencoder", "dummy"), "onehot"),
    **dict.fromkeys(("label", "label_encode", "ordinalencoder", "index", "codes"), "ordinal"),
    **dict.fromkeys(("hashing", "hash_trick", "featurehasher"), "hash"),
    **dict.fromkeys(
        ("bin", "bins", "kbins", "discretize", "cut", "buckets", "kbinsdiscretizer"), "bucketize"
    ),
    **dict.fromkeys(("mean_encode", "target_mean", "targetencoder", "likelihood"), "target"),
    **dict.fromkeys(("log", "ln", "log_1p"), "log1p"),
    **dict.fromkeys(("winsorize", "winsorise", "clamp"), "clip"),
}
PARAMETER_ALIASES = {
    **dict.fromkeys(("min_frequency", "min_freq"), "min_count"),
    **dict.fromkeys(("handle_unknown",), "unknown"),
    **dict.fromkeys(("smooth", "m"), "smoothing"),
    **dict.fromkeys(("cv",), "folds"),
    **dict.fromkeys(("fill_value", "constant"), "value"),
    **dict.fromkeys(("add_indicator",), "indicator"),
    **dict.fromkeys(("n_features", "n_buckets", "size"), "buckets"),
    **dict.fromkeys(("bins",), "n_bins"),
    **dict.fromkeys(("boundaries",), "edges"),
    **dict.fromkeys(("feature_range",), "range"),
    **dict.fromkeys(("output_distribution",), "output"),
    **dict.fromkeys(("min", "lower"), "low"),
    **dict.fromkeys(("max", "upper"), "high"),
}


def read_parameter(encoder: str, key: Any, value: Any) -> Any:
    """Read one parameter of a known encoder.

    Raises
    ------
    ValueError
        If the encoder has no such parameter, or the value is wrong; with what to do.
    """
    known = ENCODERS[encoder].params
    if key not in known:
        hint = did_you_mean(key, known, aliases=PARAMETER_ALIASES) if known else "It takes none."
        raise ValueError(f"{encoder} has no parameter {key!r}. {hint}")
    found = known[key].read(value)
    if found.wrong is not None:
        raise ValueError(f"{key} of {encoder} {found.wrong}; got {value!r}.")
    return found.value


def written(given: Any) -> tuple[str, dict[str, Any]]:
    """The name of a step and the parameters that are written in it.

    Raises
    ------
    ValueError
        If it is no encoder's name, nor one name with its parameters.

    Examples
    --------
    >>> written("standard"), written({"impute": "median"}), written({"onehot": {"min_count": 10}})
    (('standard', {}), ('impute', {'strategy': 'median'}), ('onehot', {'min_count': 10}))
    """
    no_params: dict[str, Any] = {}
    if isinstance(given, str):
        name, params = given, no_params
    elif isinstance(given, dict) and len(given) == 1:
        name, params = next(iter(given.items()))
    else:
        raise ValueError(
            "an encoder is a name, or one name with its parameters such as {onehot: {min_count: 10}}; "
            f"got {given!r}."
        )
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}. {did_you_mean(name, ENCODERS, aliases=ALIASES)}")
    if params is None:
        return name, no_params
    if isinstance(params, dict):
        return name, dict(params)
    short = ENCODERS[name].short(params)
    if short is None:
        raise ValueError(
            f"parameters of {name} must be a mapping; got {params!r}. Write {{{name}: {{parameter: value}}}}."
        )
    return name, {short: params}


def read_step(given: Any) -> tuple[str, dict[str, Any]]:
    """Read one item of ``with:``; returns the encoder and all its parameters, by name.

    Raises
    ------
    ValueError
        For an unknown encoder or parameter, a missing one, or values that are wrong; with what to do.

    Examples
    --------
    >>> read_step({"impute": "median"})
    ('impute', {'indicator': False, 'strategy': 'median', 'value': None})
    """
    name, params = written(given)
    found = {key: read_parameter(name, key, value) for key, value in params.items()}
    for key, parameter in ENCODERS[name].params.items():
        if key not in found:
            if parameter.required:
                raise ValueError(f"{name} needs {key!r}. Write {{{name}: {{{key}: {parameter.example}}}}}.")
            found[key] = parameter.default
    wrong = ENCODERS[name].together(found)
    if wrong is not None:
        raise ValueError(f"{name}: {wrong}.")
    return name, dict(sorted(found.items()))


def step_json_schema() -> dict[str, Any]:
    """JSON Schema of one item of ``with:``."""
    shaped = [
        {
            "type": "object",
            "additionalProperties": False,
            "required": [name],
            "properties": {name: _shape(encoder)},
        }
        for name, encoder in ENCODERS.items()
    ]
    # a parameter that must be there may also stand beside `with:`
    return {"anyOf": [{"enum": list(ENCODERS)}, *shaped]}


def _shape(encoder: EncoderSpec) -> dict[str, Any]:
    forms: list[dict[str, Any]] = [
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {key: dict(p.schema) for key, p in encoder.params.items()},
        },
        {"type": "null"},
    ]
    samples: dict[str, Any] = {"string": "", "integer": 1, "array": []}
    for kind, sample in samples.items():
        short = encoder.short(sample)
        if short is not None:
            accepted = dict(encoder.params[short].schema)
            forms.append(accepted if "enum" in accepted else {**accepted, "type": kind})
    return {"anyOf": forms}


def parameter_json_schemas() -> dict[str, Any]:
    """JSON Schemas of all parameters, by name: each may also stand beside ``with:``."""
    found: dict[str, list[Any]] = {}
    for encoder in ENCODERS.values():
        for key, parameter in encoder.params.items():
            schemas = found.setdefault(key, [])
            if parameter.schema not in schemas:
                schemas.append(dict(parameter.schema))
    return {key: schemas[0] if len(schemas) == 1 else {"anyOf": schemas} for key, schemas in found.items()}
