"""Rules about what learns in a dataset: splits, sampling, encoders, selection, and shards."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from featureflow.spec.datasets import Dataset, Select
from featureflow.spec.encode import EncodeStep
from featureflow.spec.encoders import ENCODERS
from featureflow.spec.exports import COMPRESSIONS, RECORD_FORMATS, Export
from featureflow.spec.messages import Finding
from featureflow.spec.paths import Path
from featureflow.spec.rules.scope import Scope
from featureflow.spec.splits import TRAIN, Before, Part, Rest, Share, Split, Values
from featureflow.spec.suggest import did_you_mean

_KIND_OF = {"time": Before, "column": Values}
_EXAMPLES = {
    "time": 'an end such as "< 2026-03-01", or rest',
    "column": "values of the column, such as train",
}
_SHARE_EXAMPLE = "a share such as 0.8, or rest"


def learning_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about splits, sampling, encoders, selection and export."""
    for name, dataset in scope.project.datasets.items():
        path: Path = ("datasets", name)
        complete = scope.complete("datasets", name)
        if dataset.split is not None:
            yield from _split((*path, "split"), dataset.split, complete=complete)
        if complete:
            yield from _train(path, dataset)
        yield from _columns(scope, path, dataset)
        yield from _encode_columns(path, dataset)
        for i, entry in enumerate(dataset.encode):
            for j, step in enumerate(entry.with_):
                place = (*path, "encode", i, "with", j)
                if ENCODERS[step.name].several and j + 1 < len(entry.with_):
                    message = (
                        f"{step.name} makes several columns of one, so nothing can follow it. Put it last."
                    )
                    yield Finding(place, message)
                if step.name == "target" and complete:
                    yield from _target(scope, place, dataset, step)
        if dataset.select is not None:
            yield from _select(path, dataset, dataset.select, complete=complete)
        if dataset.export is not None:
            yield from _export((*path, "export"), dataset.export)


def _split(path: Path, split: Split, *, complete: bool) -> Iterator[Finding]:
    if split.by in ("group", "column") and split.column is None and complete:
        field = "group" if split.by == "group" else "column"
        yield Finding(path, f"by: {split.by} needs the column. Add {field}: with its name.")
    if split.by not in ("group", "column") and split.column is not None:
        message = f"column is for by: group and by: column; this split is by: {split.by}. Remove it."
        yield Finding((*path, "column"), message, at_key=True)
    if split.embargo.microseconds and split.by != "time":
        message = f"an embargo keeps times apart; this split is by: {split.by}. Remove it, or write by: time."
        yield Finding((*path, "embargo"), message, at_key=True)
    if split.stratify is not None and split.by in ("time", "column"):
        message = f"stratify changes shares, and by: {split.by} has none. Remove it, or write by: random."
        yield Finding((*path, "stratify"), message, at_key=True)
    if not split.parts:
        if complete and split.folds is None and split.by != "column":
            what = 'train: "< 2026-03-01", test: rest' if split.by == "time" else "train: 0.8, test: rest"
            yield Finding(path, f"names no split. Add {what}, or folds:.")
        return
    yield from _kinds(path, split)
    yield from _rest(path, split)
    if split.by == "time":
        yield from _ascending(path, split, complete=complete)
    elif split.by != "column":
        yield from _shares(path, split, complete=complete)


def _kinds(path: Path, split: Split) -> Iterator[Finding]:
    wanted = _KIND_OF.get(split.by, Share)
    for name, part in split.parts.items():
        if not isinstance(part, wanted | Rest):
            message = (
                f"is no part of a split by: {split.by}. Write {_EXAMPLES.get(split.by, _SHARE_EXAMPLE)}."
            )
            yield Finding((*path, name), message)


def _rest(path: Path, split: Split) -> Iterator[Finding]:
    names = list(split.parts)
    for name in [n for n in names[:-1] if isinstance(split.parts[n], Rest)]:
        message = f"rest takes all rows that are left, and {names[-1]!r} comes after it. Put it last, once."
        yield Finding((*path, name), message)


def _ascending(path: Path, split: Split, *, complete: bool) -> Iterator[Finding]:
    ends = [(name, part) for name, part in split.parts.items() if isinstance(part, Before)]
    for (one, first), (other, second) in pairwise(ends):
        if second.at <= first.at:
            message = f"must be later than the end of {one!r} ({{other}}): a split begins where the one before it ends."
            yield Finding((*path, other), message, other=(*path, one))
    last = list(split.parts)[-1]
    if complete and isinstance(split.parts[last], Before):
        yield Finding(
            (*path, last), "rows from this time on would be in no split. Write rest for the last one."
        )


def _shares(path: Path, split: Split, *, complete: bool) -> Iterator[Finding]:
    parts: dict[str, Part] = split.parts
    total = sum((Decimal(str(p.share)) for p in parts.values() if isinstance(p, Share)), Decimal(0))
    if not all(isinstance(part, Share | Rest) for part in parts.values()):
        return
    last = list(parts)[-1]
    if total > 1:
        yield Finding(path, f"shares sum to {total.normalize():f}; at most 1 is there.")
    elif total == 1 and any(isinstance(part, Rest) for part in parts.values()):
        yield Finding((*path, last), "nothing is left for rest: the shares before it sum to 1.")
    elif complete and total < 1 and not any(isinstance(part, Rest) for part in parts.values()):
        left = (1 - total).normalize()
        message = (
            f"shares sum to {total.normalize():f}, and {left:f} of the rows would be in no split. Add rest."
        )
        yield Finding((*path, last), message)


def _train(path: Path, dataset: Dataset) -> Iterator[Finding]:
    """What is learned is learned of the train split: there must be one if there are splits."""
    split = dataset.split
    if split is None or not split.parts or TRAIN in split.parts:
        return
    known = ", ".join(split.parts)
    normalized = dataset.export is not None and dataset.export.normalize is not None
    needy: list[tuple[Path, str, bool]] = [
        (("encode",), "encoders are fitted", bool(dataset.encode)),
        (("select",), "features are selected", dataset.select is not None),
        (("sample",), "rows are sampled", dataset.sample is not None),
        (("export", "normalize"), "statistics are taken", normalized),
    ]
    for field, what, needed in needy:
        if needed:
            message = f"{what} on the split {TRAIN!r}, and there is none ({known}). Name one of them {TRAIN}."
            yield Finding((*path, *field), message, at_key=True)


def _columns(scope: Scope, path: Path, dataset: Dataset) -> Iterator[Finding]:
    """Columns that are encoded and sampled by exist, where the spec alone knows all columns."""
    known = scope.columns_of_dataset(str(path[1]))
    if known is None:
        return
    wanted: dict[Path, str] = {
        (*path, "encode", i, "columns", j): column
        for i, entry in enumerate(dataset.encode)
        for j, column in enumerate(entry.columns)
    }
    if dataset.sample is not None:
        wanted[*path, "sample", "column"] = dataset.sample.column
    for place, column in wanted.items():
        if column not in known:
            yield Finding(place, f"the dataset has no column {column!r}. {did_you_mean(column, known)}")


def _encode_columns(path: Path, dataset: Dataset) -> Iterator[Finding]:
    first: dict[str, Path] = {}
    labels = {label.name for label in dataset.label}
    for i, entry in enumerate(dataset.encode):
        for j, column in enumerate(entry.columns):
            place: Path = (*path, "encode", i, "columns", j)
            if column in labels:
                yield Finding(
                    place, f"{column!r} is a label. Encoders are for features; use derive: of the label."
                )
            other = first.setdefault(column, place)
            if other is not place:
                message = f"{column!r} is already encoded ({{other}}). Put all its encoders into one with:, in order."
                yield Finding(place, message, other=other)


def _target(scope: Scope, path: Path, dataset: Dataset, step: EncodeStep) -> Iterator[Finding]:
    """A target encoder has one label to learn from, and a time if it looks back."""
    labels = [label.name for label in dataset.label]
    params = dict(step.params)
    if not labels:
        yield Finding(path, "target learns from a label, and there is none. Add label:.")
    elif params["label"] is None and len(labels) > 1:
        message = f"there are {len(labels)} labels. Say which: {{target: {{label: {labels[0]}}}}}."
        yield Finding(path, message)
    elif params["label"] is not None and params["label"] not in labels:
        yield Finding(path, f"unknown label {params['label']!r}. {did_you_mean(params['label'], labels)}")
    if params["folds"] == "time":
        spine = dataset.spine
        if scope.knows_time(spine) and scope.time_of_spine(spine) is None:
            yield Finding(path, "folds: time needs a time, and the spine has none. Add time: to the spine.")
    elif params["label_delay"] is not None:
        yield Finding(path, "label_delay belongs to folds: time. Add that, or remove it.")


def _select(path: Path, dataset: Dataset, select: Select, *, complete: bool) -> Iterator[Finding]:
    labels = [label.name for label in dataset.label]
    if complete and not select.model_fields_set - {"label"}:
        message = "selects nothing. Add missing, variance, correlation, mutual_information or top_k."
        yield Finding((*path, "select"), message, at_key=True)
    for field in ("mutual_information", "top_k"):
        if getattr(select, field) is None or not complete:
            continue
        if not labels:
            message = f"{field} compares with a label, and there is none. Add label:."
            yield Finding((*path, "select", field), message, at_key=True)
        elif len(labels) > 1 and select.label is None:
            message = f"there are {len(labels)} labels. Say which with label:, such as label: {labels[0]}."
            yield Finding((*path, "select", field), message, at_key=True)
    if select.label is not None and complete and select.label not in labels:
        message = f"unknown label {select.label!r}. {did_you_mean(select.label, labels)}"
        yield Finding((*path, "select", "label"), message)


def _export(path: Path, export: Export) -> Iterator[Finding]:
    known = COMPRESSIONS[export.format]
    if export.compression not in known:
        message = (
            f"readers of {export.format} shards know no {export.compression}. Use {' or '.join(known)}."
            if len(known) > 1
            else f"{export.format} shards are never compressed. Remove it."
        )
        yield Finding((*path, "compression"), message)
    if export.rows_per_record > 1 and export.format not in RECORD_FORMATS:
        message = f"{export.format} shards have no records; only {', '.join(RECORD_FORMATS)} do. Remove it."
        yield Finding((*path, "rows_per_record"), message, at_key=True)
