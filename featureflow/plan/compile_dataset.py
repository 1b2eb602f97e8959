"""Spec of datasets and input schemas → typed datasets. Every mistake is found before data is read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from featureflow.contracts.cube import Cube
from featureflow.core.errors import Problem
from featureflow.core.expressions import compile_condition, compile_expression
from featureflow.core.fingerprints import fingerprint
from featureflow.core.types import to_polars
from featureflow.plan.columns import Path, no_column
from featureflow.plan.compile_grid_lookup import compile_grid_lookup
from featureflow.plan.compile_patches import compile_patches
from featureflow.plan.compile_uses import UsedTables
from featureflow.plan.dataset_nodes import CompiledDataset, LabelNode, Use, WindowJoin
from featureflow.plan.definition import dataset_definition
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.grid_nodes import GridInput
from featureflow.plan.nodes import CompiledTable, Derived, Feature, Input, Lookup, Series, Window
from featureflow.plan.patches import PatchSpine
from featureflow.spec.datasets import Label
from featureflow.spec.dependencies import parents
from featureflow.spec.load import LoadedProject
from featureflow.spec.splits import Split, Values

if TYPE_CHECKING:
    from featureflow.plan.grid_nodes import CompiledGrid


def spine_name(dataset: str) -> str:
    """Name of the input behind a spine that names its own files; no source can have it."""
    return f"{dataset}.spine"


def compile_datasets(
    loaded: LoadedProject,
    sources: dict[str, Input],
    tables: dict[str, CompiledTable],
    names: Sequence[str],
    problems: list[Problem],
    grids: Mapping[str, CompiledGrid] | None = None,
    cubes: Mapping[str, Cube] | None = None,
) -> dict[str, CompiledDataset]:
    """Compile datasets.

    Parameters
    ----------
    sources
        Every raw source that they use, and the spines that are files under `spine_name`.
    tables
        The feature tables that they use; a dataset that uses another one is left out: its mistake is reported.
    problems
        Gets every mistake; a dataset with one is left out.
    grids
        The grids that they use; as with tables, one that is missing has been reported.
    cubes
        The sources of N-d data that labels of patches come from.
    """
    compiled = {}
    for name in names:
        known = {*tables, *(grids or {})}
        if any(parent not in known for parent in parents(loaded.project, name)):
            continue
        found = _DatasetCompiler(loaded, name, sources, tables, problems, grids or {}, cubes or {}).compile()
        if found is not None:
            compiled[name] = found
    return compiled


class _DatasetCompiler(UsedTables):
    """Compiles one dataset; mistakes go to ``problems`` and the rest is still looked at."""

    def compile(self) -> CompiledDataset | None:
        before = len(self.problems)
        spec = self.spec.spine
        patches = None
        if spec.grid is not None:
            cut = self._patches()
            spine, patches = (None, None) if cut is None else cut
        else:
            spine = self.input(spec.source or spine_name(self.name))
        if spine is None:
            return None
        time = spine.time if patches else spec.time or spine.time
        carried = self._spine(spine, time)
        if len(self.problems) > before:
            return None
        uses = [self.use(spine, time, used, i) for i, used in enumerate(self.spec.features)]
        lookups = self._lookups(spine, time)
        features = list(self.stored)[len(carried) :]
        derived = self.derive(self.spec.derive)
        features += [item.name for item in derived]
        labels = [self._label(spine, time, label, i) for i, label in enumerate(self.spec.label)]
        self._divisions()
        self._encoded((*spec.keys, *([time] if time else [])))
        schema = None if len(self.problems) > before else self.arrow_schema()
        if schema is None:
            return None
        names = [node.name for node in labels if node]
        if self.spec.split is not None and self.spec.split.by == "column":
            names.append(self.spec.split.column or "")  # says which split, which is not for learning
        if spec.columns is not None:  # named on purpose: they are for the model
            features = [c for c in spec.columns if c not in (*spec.keys, time)] + features
        joined = tuple(lookup for lookup in lookups if lookup)
        definition = self._definition(spine, tuple(use for use in uses if use), joined)
        return CompiledDataset(
            name=self.name,
            spine=spine,
            where=spec.where,
            keys=spec.keys,
            time=time,
            carried=carried,
            uses=tuple(use for use in uses if use),
            lookups=joined,
            derived=tuple(derived),
            labels=tuple(node for node in labels if node),
            features=tuple(name for name in features if name not in names),
            schema=schema,
            lineage=self.lineage,
            notices=tuple(self.notices),
            spec=self.spec,
            definition=definition,
            definition_hash=fingerprint(definition),
            patches=patches,
        )

    def _patches(self) -> tuple[Input, PatchSpine] | None:
        """Rows that are patches of a grid."""
        spec = self.spec.spine
        grid = self.grids.get(spec.grid or "")
        labels: CompiledGrid | GridInput | None = None
        if spec.labels is not None:
            name = spec.labels.source
            labels = self.grids.get(name)
            if labels is None and name in self.cubes:
                cube = self.cubes[name]
                labels = GridInput("source", name, cube.outline, cube.chunks, "", cube)
            if labels is None:
                return None
        found = None if grid is None else compile_patches(self, spec, grid, labels)
        if found is not None:
            for field in found[1].fields:
                self.lineage[field.name] = (f"{field.source}.{field.variable}",)
        return found

    def _spine(self, spine: Input, time: str | None) -> tuple[str, ...]:
        """Take the spine's own columns over."""
        spec = self.spec.spine
        for i, key in enumerate(spec.keys):
            if key in spine.columns and spine.columns[key].is_nested():
                self.tell(("spine", "keys", i), f"{key!r} is {spine.columns[key]}; a key is a single value.")
        if time is not None and time in spine.columns and not isinstance(spine.columns[time], pl.Datetime):
            self.tell(
                ("spine", "time"),
                f"{time!r} is {spine.columns[time]}; a time is needed. Declare it as `time:` of the source.",
            )
        if spec.where is not None:
            self.check_sql(compile_condition, spec.where, spine.columns, ("spine", "where"))
        others = spine.columns if spec.columns is None else spec.columns
        labels = [label.column for label in self.spec.label if label.source is None and label.column]
        # what rows are divided by comes along; it can also be a column that is made here
        divided = [name for _, name in self._divided_by() if name in spine.columns]
        names = dict.fromkeys([*spec.keys, *([time] if time else []), *others, *labels, *divided])
        for name in names:
            place = (
                ("spine", "time") if name == time else ("spine", "keys" if name in spec.keys else "columns")
            )
            self.take(spine, name, place)
        return tuple(self.stored)

    def _divided_by(self) -> list[tuple[Path, str]]:
        """Columns that say how rows are split and sampled, with their places in the spec."""
        split, sample = self.spec.split, self.spec.sample
        named = [
            (("split", "column"), split.column if split else None),
            (("split", "stratify"), split.stratify if split else None),
            (("sample", "column"), sample.column if sample else None),
        ]
        return [(path, name) for path, name in named if name]

    def _divisions(self) -> None:
        """Check what splits and sampling need, and that the names of their own columns are free."""
        split, sample = self.spec.split, self.spec.sample
        rows = Input("table", self.name, dict.fromkeys(self.stored, pl.Null()), None)
        for path, name in self._divided_by():
            if name not in self.stored:
                self.tell(path, no_column(name, rows))
        own: dict[str, Path] = {}
        if split is not None and not _names_splits(split):
            own["split"] = ("split",)
        if split is not None and split.folds:
            own["fold"] = ("split", "folds")
        if sample is not None:
            own[sample.weight] = ("sample",)
        for name, path in own.items():
            clash = next((other for other in self.stored if other.lower() == name.lower()), None)
            if clash is not None:
                self.tell(
                    path,
                    f"makes a column {name!r}, but the dataset has one already. Leave that out with the spine's "
                    "`columns:`, or rename it in the source with `derive:`.",
                )

    def _encoded(self, own: tuple[str, ...]) -> None:
        """Check that encoded columns are there, and that none takes the place of a key or the time."""
        rows = Input("table", self.name, dict.fromkeys(self.stored, pl.Null()), None)
        for i, entry in enumerate(self.spec.encode):
            for j, name in enumerate(entry.columns):
                place: Path = ("encode", i, "columns", j)
                if name not in self.stored:
                    self.tell(place, no_column(name, rows))
                elif name in own and entry.with_[-1].name != "onehot":
                    self.tell(
                        place,
                        f"{name!r} is a key or the time of the spine and stays as it is. Encode a copy of it: "
                        f"`derive: {{{name}_code: {name}}}`, and name that here.",
                    )

    def _lookups(self, spine: Input, time: str | None) -> list[Lookup | GridLookup | None]:
        found: list[Lookup | GridLookup | None] = []
        for i, spec in enumerate(self.spec.lookup):
            if spec.at:
                if spec.from_ not in self.grids:
                    continue
                grid = self.grids[spec.from_]
                found.append(compile_grid_lookup(self, spine, time, spec, grid, ("lookup", i)))
                continue
            right = self.input(spec.from_)
            if right is None:
                continue
            if time is None:
                self.tell(("lookup", i), "a look-up needs a time; give the spine a `time:`.")
            found.append(self.lookup(spine, spec, right, ("lookup", i)))
        return found

    def _label(self, spine: Input, time: str | None, label: Label, index: int) -> LabelNode | None:
        path: Path = ("label", index) if len(self.spec.label) > 1 else ("label",)
        before = len(self.problems)
        windows, kind = None, None
        inputs: tuple[str, ...] = (f"{spine.name}.{label.column}",)
        if label.source is None:
            if label.column not in self.stored:
                self.tell((*path, "column"), no_column(label.column or "", spine))
                return None
            kind = self.stored[label.column or ""]
        else:
            right = self.input(label.source)
            if right is None:
                return None
            windows, inputs = self._later_events(spine, time, label, right, path)
            kind = windows.features[0].type if windows else None
        if kind is None or len(self.problems) > before:
            return None
        derived = None
        if label.derive is not None:
            seen = {**self.schema, label.name: to_polars(kind)}
            expression = self.check_sql(compile_expression, label.derive, seen, (*path, "derive"))
            if expression is None:
                return None
            kind, derived = expression.dtype, Derived(label.name, label.derive)
        if label.source is None and label.name == label.column:
            if derived is not None:
                self.tell(
                    (*path, "derive"),
                    f"{label.name!r} is the spine's; give the label its own name with `as:`.",
                )
        else:
            self.add(label.name, kind, inputs, path)
        reach = (
            0 if label.horizon is None else (label.gap.microseconds or 0) + (label.horizon.microseconds or 0)
        )
        return LabelNode(label.name, windows, label.column if label.source is None else None, derived, reach)

    def _later_events(
        self, spine: Input, time: str | None, label: Label, right: Input, path: Path
    ) -> tuple[WindowJoin | None, tuple[str, ...]]:
        """Read a forward window as the trailing window of the time at which it ends."""
        before = len(self.problems)
        if right.time is None or time is None:
            self.tell(
                (*path, "source"), "a label over a horizon needs a `time:` of its source and of the spine."
            )
        if label.column is not None and label.column not in right.columns:
            self.tell((*path, "column"), no_column(label.column, right))
        for left, other in label.keys.items():
            self.check_pair(spine, right, left, other, path)
        if label.where is not None:
            self.check_sql(compile_condition, label.where, right.columns, (*path, "where"))
        if len(self.problems) > before or label.op is None or label.horizon is None:
            return None, ()
        params = dict(label.op.params)
        kind = self.output_type(right, label.column, label.op.name, params, (*path, "op"))
        if kind is None:
            return None, ()
        fills, fill = "fill_empty" in label.model_fields_set, label.fill_empty
        if fill is not None:
            try:
                fill = pa.scalar(fill).cast(kind).as_py()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
                self.tell((*path, "fill_empty"), f"{fill!r} does not fit the result, which is {kind}.")
        horizon, gap = label.horizon.microseconds or 0, label.gap.microseconds or 0
        feature = Feature(
            name=label.name,
            series=Series(label.column, label.where),
            op=label.op.name,
            params=label.op.params,
            window=Window(horizon, "left", 0, None, str(label.horizon)),
            type=kind,
            other=label.op.other,
            fills_empty=fills,
            fill_empty=fill,
        )
        join = WindowJoin(
            right=right,
            left_keys=tuple(label.keys),
            right_keys=tuple(label.keys.values()),
            features=(feature,),
            carried=(),
            shift_us=gap + horizon,
            finished_only=True,
        )
        read = [name for name in (label.column, label.op.other) if name] or [right.time or ""]
        return join, tuple(f"{right.name}.{name}" for name in read)

    def _definition(
        self, spine: Input, uses: tuple[Use, ...], lookups: tuple[Lookup | GridLookup, ...]
    ) -> dict[str, Any]:
        labels = self.spec.spine.labels
        used = [spine.name, *([labels.source] if labels else []), *(use.table for use in uses)]
        used += [lookup.right.name for lookup in lookups]
        used += [label.source for label in self.spec.label if label.source]
        upstream = {name: table.definition_hash for name, table in self.tables.items()}
        upstream |= {name: grid.definition_hash for name, grid in self.grids.items()}
        folder = os.path.abspath(self.loaded.root)
        return dataset_definition(
            self.loaded.project, self.name, tuple(dict.fromkeys(used)), upstream, folder
        )


def _names_splits(split: Split) -> bool:
    """Whether the dataset's own column ``split`` holds the names of the splits, so that no other is made."""
    same = all(isinstance(part, Values) and part.values == (name,) for name, part in split.parts.items())
    return split.by == "column" and split.column == "split" and same
