"""What a valid spec may leave out, put in: code that reads a loaded spec never asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featureflow.spec.datasets import Dataset, Label, Split, UsedTable, Values
from featureflow.spec.dependencies import grid_behind
from featureflow.spec.encode import Encode
from featureflow.spec.features import Lookup
from featureflow.spec.grids import GridFeature
from featureflow.spec.models import Project
from featureflow.spec.periods import states_period
from featureflow.spec.rules.scope import time_of

#: splits of `by: column` if none are named
USUAL_SPLITS = ("train", "valid", "test")


def resolved(project: Project) -> Project:
    """Put in keys of look-ups, labels and used tables, times of spines, labels of encoders.

    A table of a source without time gets ``partition: none``. What reads zones is left as it is: their keys and their
    time are known when they are compiled. A step of a grid that is fitted on what was selected
    before it gets ``period: all``.
    """
    features = {}
    for name, feature in project.features.items():
        update: dict[str, Any] = {}
        if any(not lookup.keys for lookup in feature.lookup):
            update["lookup"] = tuple(_lookup(project, lookup, ()) for lookup in feature.lookup)
        if time_of(project, feature.source) is None and grid_behind(project, name) is None:
            update["partition"] = "none"
        features[name] = feature.model_copy(update=update) if update else feature
    datasets = {name: _dataset(project, dataset) for name, dataset in project.datasets.items()}
    grids = {name: _grid(project, name) for name in project.grids}
    return project.model_copy(update={"features": features, "grids": grids, "datasets": datasets})


def _grid(project: Project, name: str) -> GridFeature:
    """Steps that learn from what was selected before them do so from all of it."""
    grid = project.grids[name]
    steps = tuple(
        step.with_params(period="all")
        if step.params.get("period", "all") is None and states_period(project, name, i)
        else step
        for i, step in enumerate(grid.steps)
    )
    return grid.model_copy(update={"steps": steps})


def keys_of_use(given: Mapping[str, str], table_keys: Sequence[str]) -> dict[str, str] | None:
    """The spine's column for every key of a table, in the table's order; None if the mapping does not fit.

    A mapping reads ``{spine's column: table's key}``. Where only the other way round fits the table's keys, it is
    meant that way. Keys that it does not name are the spine's columns of the same names.

    Examples
    --------
    >>> keys_of_use({"merchant_id": "merchant"}, ["merchant"]), keys_of_use({"merchant": "shop"}, ["merchant"])
    ({'merchant_id': 'merchant'}, {'shop': 'merchant'})
    >>> keys_of_use({"payer": "account"}, ["account", "currency"])
    {'payer': 'account', 'currency': 'currency'}
    """
    known = set(table_keys)
    if set(given.values()) <= known:
        column_of = {right: left for left, right in given.items()}
    elif given.keys() <= known:
        column_of = dict(given)
    else:
        return None
    found = {column_of.get(key, key): key for key in table_keys}
    return found if len(found) == len(known) and len(column_of) == len(given) else None


def _dataset(project: Project, dataset: Dataset) -> Dataset:
    spine = dataset.spine
    if spine.time is None and spine.source is not None:
        spine = spine.model_copy(update={"time": time_of(project, spine.source)})
    update: dict[str, Any] = {
        "spine": spine,
        "features": tuple(_use(project, used) for used in dataset.features),
        "lookup": tuple(_lookup(project, lookup, spine.keys) for lookup in dataset.lookup),
        "label": tuple(_label(label, spine.keys) for label in dataset.label),
        "encode": tuple(_encode(entry, dataset.label) for entry in dataset.encode),
    }
    if dataset.split is not None:
        update["split"] = _split(dataset.split)
    select = dataset.select
    if select is not None and select.label is None and dataset.label:
        update["select"] = select.model_copy(update={"label": dataset.label[0].name})
    return dataset.model_copy(update=update)


def _use(project: Project, used: UsedTable) -> UsedTable:
    if used.table in project.grids:
        return used
    keys = keys_of_use(used.keys, project.features[used.table].keys)
    return used.model_copy(update={"keys": keys})


def _lookup(project: Project, lookup: Lookup, keys: Sequence[str]) -> Lookup:
    """Keys of a look-up: a table's own, otherwise the spine's."""
    if lookup.keys or lookup.at or lookup.from_ in project.grids:
        return lookup
    right = project.features.get(lookup.from_)
    return lookup.model_copy(update={"keys": {key: key for key in (right.keys if right else keys)}})


def _label(label: Label, keys: Sequence[str]) -> Label:
    if label.source is None or label.keys:
        return label
    return label.model_copy(update={"keys": {key: key for key in keys}})


def _split(split: Split) -> Split:
    if split.by != "column" or split.parts:
        return split
    return split.model_copy(update={"parts": {name: Values((name,)) for name in USUAL_SPLITS}})


def _encode(entry: Encode, labels: Sequence[Label]) -> Encode:
    """Target encoders know which label, and how long after the row it is known."""
    by_name = {label.name: label for label in labels}
    steps = []
    for step in entry.with_:
        if step.name != "target":
            steps.append(step)
            continue
        params = dict(step.params)
        name = params["label"] or labels[0].name
        delay = params["label_delay"] or f"{by_name[name].reach_us}us"
        steps.append(step.with_params(label=name, label_delay=delay))
    return entry.model_copy(update={"with_": tuple(steps)})
