"""The typed spec of a grid in `features:`: a source of N-d data, variables, and steps on named dimensions.

A step is written as ``{name: parameters}``; short and long forms are read to one mapping of plain data (texts,
numbers, lists, mappings), which has **every** key of this table, defaults put in. ``T?`` means: or None. ``dims`` are
lists of names of dimensions, ``variables`` lists of names; ``variables: None`` means all that the step can work on
(numbers, with the step's dimensions), and those that it does not act on pass unchanged. ``op`` is one of ``mean sum
min max std var median count``; with * also ``first last``. ``ddof`` (int, 0 as in xarray) is for std and var.

==============  ====================================================================================================
step            parameters of ``make_step(name, params)``
==============  ====================================================================================================
select          labels: {dim: {kind: "range", from: label?, to: label?} (both inclusive, whichever way the coordinate
                runs; a time such as 2020-12 ends when that month ends)
                | {kind: "value", value: label, method: "exact"|"nearest"} (the dimension goes)
                | {kind: "values", values: [label], method}}; variables: [name]? (only these are kept)
isel            positions: {dim: {kind: "range", start: int?, stop: int?, step: int}
                | {kind: "value", index: int} | {kind: "values", indices: [int]}}; negative ones count from the end
where           expression: SQL; variables?          missing where it is not true
derive          expressions: {new name: SQL}          in order; may use the earlier ones
cast            dtype: dtype? (of all) ; each: {variable: dtype}      one of the two
fill            method: "constant"|"ffill"|"linear"; value: number? ; each: {variable: number} (constant: one of the
                two); dim: name? and limit: int? (ffill, linear); variables?
mask            source: name; variable: name? (None: its only one); values: [label]? ; expression: SQL? over the
                source's variables (neither: kept where it is not 0 and not missing); variables?
resample        dim; every: pandas offset "10min" "6h" "1D" "1MS" "1QS" "1YS"; op*; ddof
rolling         dim; window: int? ; window_us: int? (one of the two); op; min_periods: int? (None: the window if it
                is a number, otherwise 1); center: bool; ddof; variables?
coarsen         sizes: {dim: int}; op; boundary: "exact"|"trim"|"pad"; ddof
anomaly         over: dim; by: "month"|"dayofyear"|"hour"|"none"; period: [from, to]|"all"? ; variables?
normalize       dims? (None: all) ; period? ; to: [low, high]; constants: [min, max]? ; each: {variable: [min, max]};
                variables?                            constants or each: nothing is fitted
standardize     dims? ; period? ; constants: [mean, std]? ; each: {variable: [mean, std]}; ddof; variables?
clip            range: [low?, high?]? ; each: {variable: [low?, high?]}; quantiles: [low, high]? with dims? and
                period? ; variables?                  one of range, each, quantiles
percentile      dims; quantiles: [share from 0 to 1]; scalar: bool (then no dimension ``quantile`` is made); variables?
gradient        dim; edge_order: 1|2; unit: "s"|"min"|"h"|"D" (of a time, as xarray's ``datetime_unit``); variables?
diff            dim; n: int (how often, as xarray's; label "upper")
lag             dim; n: [int]; scalar: bool (True: values are replaced; False: new variables ``{variable}_lag{n}``);
                variables?
cumulative      dim; op: "sum"|"mean"|"max"|"min"; variables?
reduce          dims? (None: all); op*; ddof; variables?
groupby         dim; by: "month"|"dayofyear"|"hour"|"year"|"season"; op*; ddof; variables?    ``dim`` becomes ``by``
zonal           labels: {source: name, variable: name?}? ; polygons: {name: [[x, y], …]}? ; file: path? with
                property: name (of GeoJSON features); x: dim; y: dim (polygons and files); weights: "none"|"area"
                (by the cosine of latitude); ops: [op]; ddof; variables? (others are left out)
                one of labels, polygons, file; makes ``{variable}_{op}`` with the dimension ``zone``; the last step
regrid          to: {dim: {kind: "range", start: number, step: number, count: int} | {kind: "values", values: [number]}
                | {kind: "like", source: name}}; like: name? (all dimensions that both have); one of the two;
                method: "linear"|"nearest"|"conservative"
concat          sources: [name]; dim
merge           source: name; variables: [name]? (of the source); prefix: text
==============  ====================================================================================================

``period`` is what a step that learns is fitted on: ``[from, to]`` are labels of the time dimension, both inclusive;
``"all"`` is everything in its input, also put in where a ``select`` or ``isel`` with both ends came before it in the
chain (what is left is then what was stated). None: nothing was stated, which is right only if it learns over no
dimension of times: a step that finds times among its dimensions raises `StepMistake` at ``period``.

Places of a `StepMistake` are those of the YAML: ``("lat",)`` for ``select: {lat: …}``, ``("window",)`` for
``rolling: {window: …}``; what is not written there is shown at the nearest thing around it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from featureflow.spec.checks import Check, CheckEntry, expand
from featureflow.spec.fields import AsTuple, ColumnName, Reference, SpecModel
from featureflow.spec.grid_steps import read_step, step_json_schema
from featureflow.spec.sources import Sizes, Tags


class GridStepSpec(SpecModel):
    """One step with all its parameters decided, as the table above has them."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def reads(self) -> tuple[tuple[tuple[str | int, ...], str], ...]:
        """Sources and grids that it reads beside its input, each with its place in the parameters."""
        params = self.params
        if self.name in ("mask", "merge"):
            return ((("source",), params["source"]),)
        if self.name == "concat":
            return tuple((("source", i), name) for i, name in enumerate(params["sources"]))
        if self.name == "zonal" and params["labels"] is not None:
            return ((("labels", "source"), params["labels"]["source"]),)
        if self.name == "regrid":
            whole = [(("to", "like"), params["like"])] if params["like"] is not None else []
            each = [
                (("to", dim, "like"), to["source"])
                for dim, to in params["to"].items()
                if to["kind"] == "like"
            ]
            return (*whole, *each)
        return ()

    def with_params(self, **changed: Any) -> GridStepSpec:
        """The same step with other values of some parameters."""
        return GridStepSpec(name=self.name, params={**self.params, **changed})


def _step(given: Any) -> GridStepSpec:
    if isinstance(given, GridStepSpec):
        return given
    name, params = read_step(given)
    return GridStepSpec(name=name, params=params)


def _spelled(step: GridStepSpec) -> dict[str, Any]:
    return {step.name: step.params}


StepField = Annotated[
    GridStepSpec, PlainValidator(_step), PlainSerializer(_spelled), WithJsonSchema(step_json_schema())
]


class GridFeature(SpecModel):
    """A grid: variables of a source of N-d data or of another grid, after some steps, in chunks."""

    description: str | None = None
    owner: str | None = None
    tags: Tags = ()
    source: Reference = Field(description="A source of N-d data, or a grid.")
    variables: Annotated[tuple[ColumnName, ...], AsTuple(single=True, least=1)] | None = Field(
        default=None, description="Variables of the source; all if omitted."
    )
    steps: Annotated[tuple[StepField, ...], AsTuple()] = Field(
        default=(), description="What is done, in order, on named dimensions."
    )
    chunks: Sizes = Field(
        default_factory=dict, description="Dimension to the size of a stored chunk; chosen if omitted."
    )
    shards: Sizes | None = Field(
        default=None, description="Dimension to the size of an object of several chunks; none if omitted."
    )

    checks: Annotated[tuple[CheckEntry, ...], AsTuple()] = ()

    @property
    def each_check(self) -> tuple[Check, ...]:
        """The checks one by one."""
        return expand(self.checks)

    @property
    def reads(self) -> tuple[tuple[tuple[str | int, ...], str], ...]:
        """All sources and grids that it reads, each with its place in the grid."""
        found: list[tuple[tuple[str | int, ...], str]] = [(("source",), self.source)]
        for i, step in enumerate(self.steps):
            found += [(("steps", i, step.name, *place), name) for place, name in step.reads]
        return tuple(found)

    @property
    def is_zonal(self) -> bool:
        """Whether it ends in a table of zones (spec section 10)."""
        return bool(self.steps) and self.steps[-1].name == "zonal"
