"""The shelf of encoders, and how a spec takes something from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from featureflow.contracts.encoder import Encoder
from featureflow.library.encoders.categories import Bucketize, Hash, OneHot, Ordinal
from featureflow.library.encoders.filling import Impute
from featureflow.library.encoders.scaling import Clip, Log1p, MinMax, Quantile, Robust, Standard
from featureflow.library.encoders.target import Target

#: every encoder by its name in a spec
ENCODERS: dict[str, type[Any]] = {
    entry.name: entry
    for entry in (
        *(Standard, MinMax, Robust, Quantile),
        *(Impute, OneHot, Ordinal, Hash, Bucketize),
        *(Target, Log1p, Clip),
    )
}


def make(name: str, params: Mapping[str, Any]) -> Encoder:
    """Make an encoder of its parameters, as a spec that was read has them.

    Raises
    ------
    ValueError
        If there is no such encoder or parameter.

    Examples
    --------
    >>> make("clip", {"low": 0.0})
    Clip(low=0.0, high=None, low_q=None, high_q=None)
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}. Known: {', '.join(ENCODERS)}.")
    known = {field.name for field in dataclasses.fields(ENCODERS[name])}
    if unknown := sorted(set(params) - known):
        raise ValueError(
            f"{name}: unknown parameter {unknown[0]!r}. Known: {', '.join(sorted(known)) or 'none'}."
        )
    made: Encoder = ENCODERS[name](
        **{key: tuple(value) if isinstance(value, list) else value for key, value in params.items()}
    )
    return made
