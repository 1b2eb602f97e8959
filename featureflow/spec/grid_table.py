"""Every step that a grid may have."""

from __future__ import annotations

from featureflow.spec import grid_forms as form
from featureflow.spec import grid_numbers as numbers
from featureflow.spec import grid_places as places
from featureflow.spec.grid_forms import StepForm, needed, param
from featureflow.spec.grid_times import read_every, read_window
from featureflow.spec.grid_values import (
    DTYPES,
    NAMES,
    NUMBER,
    OPS,
    PAIR,
    TEXT,
    list_of,
    name_of,
    names_of,
    operation,
    percent,
    read_dtype,
    read_ends,
    read_expression,
    read_flag,
    read_number,
    read_pair,
    read_quantiles,
    share,
    whole,
    word,
)

_WHOLE = {"type": "integer", "minimum": 1}
_SOURCE = needed(name_of("source or grid"), TEXT, "A source of N-d data, or a grid.")
_DTYPE_SCHEMA = {"enum": list(DTYPES)}
_RUNNING = ("sum", "mean", "max", "min")
_CALENDAR = ("month", "dayofyear", "hour", "year", "season")
_CLIMATOLOGY = ("month", "dayofyear", "hour", "none")

#: every step of the language, in the order of the documentation
GRID_STEPS: dict[str, StepForm] = {
    "select": StepForm(
        "Keep labels: `[from, to]` (both inclusive), one label (its dimension goes), or `{values: […]}`.",
        '{select: {time: ["1990-01-01", "2020-12-31"], lat: [-60, 60]}}',
        {"variables": places.KEPT},
        others=param(places.selected, places.SELECTION_SCHEMA, "A dimension, and what of it is kept."),
        others_as="labels",
        finish=places.some_selection("labels"),
    ),
    "isel": StepForm(
        "Keep positions: `[start, stop]` (stop not included), one position (its dimension goes), `{values: […]}`.",
        "{isel: {band: 0, time: [0, 100]}}",
        {"variables": places.KEPT},
        others=param(places.positions, places.POSITION_SCHEMA, "A dimension, and what of it is kept."),
        others_as="positions",
        finish=places.some_selection("positions"),
    ),
    "where": StepForm(
        "Make values missing where an expression over the variables is not true.",
        '{where: "sst > 0"}',
        {
            "expression": needed(read_expression, TEXT, "SQL over the variables."),
            "variables": form.VARIABLES,
        },
        short=lambda given: {"expression": given} if isinstance(given, str) else None,
        short_schema=TEXT,
    ),
    "derive": StepForm(
        "Make variables of expressions over variables, in order.",
        '{derive: {celsius: "sst - 273.15"}}',
        {},
        others=param(read_expression, TEXT, "A new variable, and its SQL."),
        others_as="expressions",
        finish=form.some_of("expressions", '{derive: {celsius: "sst - 273.15"}}'),
    ),
    "cast": StepForm(
        f"Give values another type: {' '.join(DTYPES)}.",
        "{cast: float32}",
        {"dtype": param(read_dtype, _DTYPE_SCHEMA, "Type of all variables.")},
        others=param(read_dtype, _DTYPE_SCHEMA, "A variable, and its type."),
        others_as="each",
        short=lambda given: {"dtype": given} if isinstance(given, str) else None,
        short_schema=_DTYPE_SCHEMA,
        finish=form.one_of(("dtype", "each"), "{cast: float32} or {cast: {sst: float32}}"),
    ),
    "fill": StepForm(
        "Give missing values a value: a constant, the last one before, or a line between two.",
        "{fill: {method: ffill, dim: time, limit: 3}}",
        {
            "method": param(
                word("constant", "ffill", "linear"),
                {"enum": ["constant", "ffill", "linear"]},
                "How.",
                "constant",
            ),
            "value": param(read_number, NUMBER, "The constant."),
            "dim": param(name_of("dimension"), TEXT, "Dimension along which it is filled."),
            "limit": param(whole(1), _WHOLE, "Fill at most this many values in a row; all if omitted."),
            "variables": form.VARIABLES,
        },
        others=param(read_number, NUMBER, "A variable, and its constant."),
        others_as="each",
        short=lambda given: {"value": given} if not isinstance(given, list | str | None) else None,
        short_schema=NUMBER,
        finish=form.fill,
    ),
    "mask": StepForm(
        "Make values missing where a mask of another source or grid does not say that they are kept.",
        "{mask: {source: land, variable: is_land, keep: [1, 2]}}",
        {
            "source": _SOURCE,
            "variable": param(name_of("variable"), TEXT, "Of the mask; its only one if omitted."),
            "keep": param(
                form.kept,
                {"type": ["string", "number", "boolean", "array"]},
                "Values, or SQL over the mask's variables; what is not 0 and not missing if omitted.",
            ),
            "variables": form.VARIABLES,
        },
        finish=form.mask,
    ),
    "resample": StepForm(
        "Bins of time: `10min 6h 1D 7D 1MS 1QS 1YS`, labelled with their start.",
        "{resample: {time: 1D, op: mean}}",
        {
            "dim": param(name_of("dimension"), TEXT, "Dimension of times."),
            "every": param(read_every, TEXT, "Length of a bin."),
            "op": form.ORDERED_OP,
            "ddof": form.DDOF,
        },
        others=param(
            read_every, TEXT, "The dimension, and the length of a bin: in place of `dim` and `every`."
        ),
        others_as="each",
        finish=numbers.resample,
    ),
    "rolling": StepForm(
        "Windows that end at each label, of a number of values or a duration; `center: true` must be asked for.",
        "{rolling: {dim: time, window: 30, op: mean}}",
        {
            "dim": form.DIM,
            "window": needed(
                read_window, {"anyOf": [_WHOLE, TEXT]}, "Number of values, or a duration such as `30d`."
            ),
            "op": form.OP,
            "min_periods": param(
                whole(1),
                _WHOLE,
                "Least number of values that are not missing; the window, and 1 for a duration.",
            ),
            "center": param(
                read_flag, {"type": "boolean"}, "Windows around their label: they look ahead.", False
            ),
            "ddof": form.DDOF,
            "variables": form.VARIABLES,
        },
        finish=numbers.rolling,
    ),
    "coarsen": StepForm(
        "Blocks of so many values along dimensions.",
        "{coarsen: {lat: 4, lon: 4, op: mean}}",
        {
            "op": form.OP,
            "boundary": param(
                word("exact", "trim", "pad"),
                {"enum": ["exact", "trim", "pad"]},
                "If a size does not divide: refuse it, leave the rest out, or fill up with missing values.",
                "exact",
            ),
            "ddof": form.DDOF,
        },
        others=param(whole(1), _WHOLE, "A dimension, and the size of a block."),
        others_as="sizes",
        finish=form.some_of("sizes", "{coarsen: {lat: 4, lon: 4, op: mean}}"),
    ),
    "anomaly": StepForm(
        "Minus the climatology: the mean of the same month, day of year or hour (or of all) in a stated period.",
        "{anomaly: {over: time, by: month, period: ['1991-01-01', '2020-12-31']}}",
        {
            "over": needed(name_of("dimension"), TEXT, "Dimension of times."),
            "by": param(
                word(*_CLIMATOLOGY), {"enum": list(_CLIMATOLOGY)}, f"{' '.join(_CLIMATOLOGY)}.", "none"
            ),
            "period": form.PERIOD,
            "variables": form.VARIABLES,
        },
    ),
    "normalize": StepForm(
        "Min-max: the least value becomes `to[0]`, the greatest `to[1]`.",
        "{normalize: {dims: [lat, lon]}}",
        {
            "dims": form.ANY_DIMS,
            "period": form.PERIOD,
            "to": param(read_ends, {**PAIR, "items": NUMBER}, "New least and greatest value.", (0.0, 1.0)),
            "min": param(
                numbers.number_or_each,
                numbers.NUMBER_OR_EACH,
                "Instead of fitting: the least value, or `{variable: value}`.",
            ),
            "max": param(numbers.number_or_each, numbers.NUMBER_OR_EACH, "The greatest value."),
            "variables": form.VARIABLES,
        },
        finish=numbers.constants("min", "max"),
    ),
    "standardize": StepForm(
        "Z-score: minus the mean, divided by the standard deviation.",
        "{standardize: {dims: [time, lat, lon], period: all}}",
        {
            "dims": form.ANY_DIMS,
            "period": form.PERIOD,
            "mean": param(
                numbers.number_or_each,
                numbers.NUMBER_OR_EACH,
                "Instead of fitting: the mean, or `{variable: value}`.",
            ),
            "std": param(numbers.number_or_each, numbers.NUMBER_OR_EACH, "The standard deviation."),
            "ddof": form.DDOF,
            "variables": form.VARIABLES,
        },
        finish=numbers.constants("mean", "std"),
    ),
    "clip": StepForm(
        "Limit values to `[least, greatest]`, of all or of one variable each, or to fitted quantiles.",
        "{clip: {quantiles: [0.01, 0.99], dims: [time], period: all}}",
        {
            "min": param(read_number, NUMBER, "Least value."),
            "max": param(read_number, NUMBER, "Greatest value."),
            "quantiles": param(read_quantiles, {**PAIR, "items": NUMBER}, "Fitted ends, as shares."),
            "dims": form.ANY_DIMS,
            "period": form.PERIOD,
            "variables": form.VARIABLES,
        },
        others=param(numbers.ends_of, {"anyOf": [PAIR, {"type": "object"}]}, "A variable, and its ends."),
        others_as="each",
        short=lambda given: (
            dict(zip(("min", "max"), read_pair(given), strict=True)) if isinstance(given, list) else None
        ),
        short_schema=PAIR,
        finish=numbers.clip,
    ),
    "percentile": StepForm(
        "Percentiles over dimensions: `q` from 0 to 100, or `quantiles` from 0 to 1; a list makes `quantile`.",
        "{percentile: {dims: [time], q: [5, 50, 95]}}",
        {
            "dims": form.DIMS,
            "q": param(
                numbers.one_or_list(percent), {"type": ["number", "array"]}, "From 0 to 100; one, or a list."
            ),
            "quantiles": param(
                numbers.one_or_list(share), {"type": ["number", "array"]}, "The same from 0 to 1."
            ),
            "variables": form.VARIABLES,
        },
        finish=numbers.percentile,
    ),
    "gradient": StepForm(
        "Slope along the coordinate, by central differences.",
        "{gradient: {dim: lat}}",
        {
            "dim": form.DIM,
            "edge_order": param(whole(1, 2), {"enum": [1, 2]}, "Of the differences at both ends.", 1),
            "unit": param(word("s", "min", "h", "D"), {"enum": ["s", "min", "h", "D"]}, "Of a time.", "s"),
            "variables": form.VARIABLES,
        },
    ),
    "diff": StepForm(
        "Minus the value before, `n` times over; the first `n` labels go.",
        "{diff: {dim: time}}",
        {"dim": form.DIM, "n": param(whole(1, 100), _WHOLE, "How often.", 1)},
    ),
    "lag": StepForm(
        "The value so many labels before: one number replaces values, a list makes `{variable}_lag{n}`.",
        "{lag: {dim: time, n: [1, 7]}}",
        {
            "dim": form.DIM,
            "n": needed(
                numbers.one_or_list(numbers.steps_back),
                {"anyOf": [_WHOLE, {"type": "array", "items": _WHOLE, "minItems": 1}]},
                "How many labels; one, or a list.",
            ),
            "variables": form.VARIABLES,
        },
        finish=numbers.lag,
    ),
    "cumulative": StepForm(
        "Everything up to each label.",
        "{cumulative: {dim: time, op: sum}}",
        {
            "dim": form.DIM,
            "op": needed(operation(*_RUNNING), {"enum": list(_RUNNING)}, f"{' '.join(_RUNNING)}."),
            "variables": form.VARIABLES,
        },
    ),
    "reduce": StepForm(
        "One value over dimensions.",
        "{reduce: {dims: [lat, lon], op: mean}}",
        {"dims": form.ANY_DIMS, "op": form.ORDERED_OP, "ddof": form.DDOF, "variables": form.VARIABLES},
    ),
    "groupby": StepForm(
        "One value for each month, day of year, hour, year or season; that becomes the dimension.",
        "{groupby: {dim: time, by: month, op: mean}}",
        {
            "dim": form.DIM,
            "by": needed(word(*_CALENDAR), {"enum": list(_CALENDAR)}, f"{' '.join(_CALENDAR)}."),
            "op": form.ORDERED_OP,
            "ddof": form.DDOF,
            "variables": form.VARIABLES,
        },
    ),
    "zonal": StepForm(
        "Statistics of zones, given by an array of labels or by polygons: the dimension `zone`. The last step.",
        "{zonal: {labels: land.zone, ops: [mean, max]}}",
        {
            "labels": param(
                places.labels, {"anyOf": [TEXT, {"type": "object"}]}, "`source.variable` of zones' labels."
            ),
            "polygons": param(
                places.polygons,
                {"anyOf": [TEXT, {"type": "object"}]},
                "A GeoJSON file, or `{name: [[x, y], …]}`; a cell belongs to a polygon that its centre is in.",
            ),
            "property": param(
                name_of("property"), TEXT, "Of the file: the name of a zone; `name` if omitted."
            ),
            "x": param(name_of("dimension"), TEXT, "Dimension of the polygons' x; `lon` if omitted."),
            "y": param(name_of("dimension"), TEXT, "Dimension of the polygons' y; `lat` if omitted."),
            "weights": param(
                word("none", "area"), {"enum": ["none", "area"]}, "area: by the cosine of latitude.", "none"
            ),
            "ops": needed(list_of(operation(*OPS)), NAMES, f"{' '.join(OPS)}."),
            "ddof": form.DDOF,
            "variables": form.VARIABLES,
        },
        finish=places.zonal,
    ),
    "regrid": StepForm(
        "Values at other coordinates: of a range, a list, or like another source.",
        "{regrid: {to: {lat: {start: -60, stop: 60, step: 0.5}}, method: linear}}",
        {
            "to": needed(
                places.regrid_to,
                {"type": "object"},
                "`{dim: {start, stop, step}}`, a list, `{like: source}`.",
            ),
            "method": param(
                word("linear", "nearest", "conservative"),
                {"enum": ["linear", "nearest", "conservative"]},
                "How; conservative: means weighted by the overlap of cells.",
                "linear",
            ),
        },
        finish=places.regrid,
    ),
    "concat": StepForm(
        "Append other sources or grids along a dimension.",
        "{concat: {source: sst_2026, dim: time}}",
        {"source": needed(names_of("source or grid"), NAMES, "One, or several in order."), "dim": form.DIM},
        finish=lambda given: {"sources": given["source"], "dim": given["dim"]},
    ),
    "merge": StepForm(
        "Add variables of another source or grid with the same coordinates.",
        "{merge: {source: ice, variables: [thickness], prefix: ice_}}",
        {
            "source": _SOURCE,
            "variables": param(names_of("variable"), NAMES, "Of the other; all if omitted."),
            "prefix": param(form.read_prefix, {"type": "string"}, "In front of their names.", ""),
        },
    ),
}
