"""Stored datasets for people and for ``--json``: parts of the columns, splits, labels, encoders, what to look out for.

Everything here is read from a version's record, which is plain values; no row is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from featureflow.core.roles import EMBARGOED, Roles
from featureflow.observe.terminal import Paint, table, wrap
from featureflow.observe.units import count, plural, value

if TYPE_CHECKING:
    from featureflow.spec.splits import Split

#: Ends the stored name of a column that is encoded for a model.
ENCODED = "__encoded"
#: Why a row is in no split, for people.
REASONS = {
    "embargo": "whose label window crosses a threshold",
    "no_time": "without a time",
    "outside": "in no range",
    "border": "across a border between splits",
}
_NAMES_SHOWN = 12
_DROPPED_SHOWN = 6


def is_dataset(record: Mapping[str, Any]) -> bool:
    """Whether a version's record is a dataset's."""
    return "dataset" in record


def dataset_summary(found: Mapping[str, Any], nulls: Mapping[str, int], rows: int) -> dict[str, Any]:
    """Describe splits and labels of a dataset as JSON values.

    Parameters
    ----------
    found
        What the version remembers of itself as a dataset: ``record["dataset"]``.
    nulls
        Nulls by column, as far as they are known.
    rows
        Rows of the dataset.

    Returns
    -------
    dict
        ``features`` (how many), ``splits`` (rows by split), ``embargoed`` (rows by reason), ``folds``, and ``labels``:
        for each how many rows have one (``known``) and how many have none, mostly because its horizon is not over.
    """
    roles, split = found["roles"], found.get("split") or {}
    counted = split.get("rows", {})
    return {
        "features": len(roles["features"]),
        "splits": {name: counted[name] for name in found.get("splits", ()) if name != EMBARGOED},
        "embargoed": dict(split.get("embargoed", {})),
        "folds": dict(split.get("folds", {})),
        "labels": {
            name: {"known": rows - nulls[name], "null": nulls[name]}
            for name in roles["labels"]
            if name in nulls
        },
    }


def summary_texts(summary: Mapping[str, Any]) -> list[str]:
    """Say how the rows of a dataset fell, a line for splits, one for embargoed rows, and one for nulls of labels.

    Examples
    --------
    >>> labels = {"y": {"known": 9, "null": 1}}
    >>> summary_texts({"splits": {"train": 1800, "test": 600}, "embargoed": {}, "labels": labels})
    ['train 1,800 · test 600 rows', 'y is null in 1 of 10 rows']
    """
    texts = []
    if summary["splits"]:
        texts.append(
            " · ".join(f"{name} {count(rows)}" for name, rows in summary["splits"].items()) + " rows"
        )
    if summary["embargoed"]:
        texts.append(f"embargoed {embargoed_text(summary['embargoed'])}")
    for name, found in summary["labels"].items():
        if found["null"]:
            rows = plural(found["known"] + found["null"], "row")
            texts.append(f"{name} is null in {count(found['null'])} of {rows}")
    return texts


def describe_dataset(record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what a version remembers of itself as a dataset, as JSON values."""
    found = record["dataset"]
    statistics = record.get("statistics", {})
    nulls = {name: one["nulls"] for name, one in statistics.items() if one.get("nulls") is not None}
    encoder = _loaded(found.get("encoder"))
    return {
        "roles": found["roles"],
        **dataset_summary(found, nulls, record["rows"]),
        "encoders": [
            {"column": chain["column"], "steps": [name for name, _ in chain["steps"]]}
            for chain in (encoder or {}).get("fitted", {}).get("chains", ())
        ],
        "selection": _selection(_loaded(found.get("selection"))),
        "notices": list(record.get("notices", ())),
        "warnings": list(found.get("warnings", ())),
    }


def _loaded(given: Any) -> Any:
    """A part that the record keeps as text, because the order of its entries means something."""
    return json.loads(given) if isinstance(given, str) else given


def _selection(report: Any) -> dict[str, Any] | None:
    if report is None:
        return None
    lines = report["features"]
    return {
        "rows": report["rows"],
        "kept": sum(line["kept"] for line in lines),
        "dropped": [
            {"feature": line["feature"], "reason": line["reason"]} for line in lines if not line["kept"]
        ],
    }


def deciding_columns(split: Split, keys: Iterable[str], time: str | None) -> list[str]:
    """Columns that decide which split a row is in; none for ``by: random`` without ``stratify``."""
    by: dict[str, list[str | None]] = {"time": [time], "keys": list(keys), "random": []}
    return [name for name in (*by.get(split.by, [split.column]), split.stratify) if name is not None]


def column_role(name: str, roles: Roles, encoded: frozenset[str]) -> str:
    """The part of a stored column: as `Roles.of`, and for what is encoded ``raw``, ``encoded`` or ``dropped``.

    Parameters
    ----------
    encoded
        Columns that a model gets in another form.
    """
    if name.endswith(ENCODED):
        return "dropped" if roles.of(name.removesuffix(ENCODED)) == "other" else "encoded"
    played = roles.of(name)
    if name in encoded and played in ("feature", "other"):
        return "raw"
    return "" if played == "other" else played


def dataset_lines(
    entry: dict[str, Any], balance: Mapping[str, Any] | None, *, limit: int, paint: Paint | None = None
) -> list[str]:
    """Say what is special about a described dataset: splits with their labels, features, encoders, warnings."""
    brush = paint or Paint()
    facts = [("features", _names(entry["roles"]["features"]))]
    facts += [("labels", _labels_text(entry))] if entry["roles"]["labels"] else []
    facts += [("weights", entry["roles"]["weight"])] if entry["roles"]["weight"] else []
    if entry["folds"]:
        sizes = ", ".join(count(rows) for rows in entry["folds"].values())
        facts.append(("folds", f"{len(entry['folds'])} of {sizes} rows"))
    if entry["embargoed"]:
        facts.append(("embargoed", embargoed_text(entry["embargoed"])))
    facts += [("encoded", _encoders_text(entry["encoders"]))] if entry["encoders"] else []
    facts += [("selected", _selection_text(entry["selection"]))] if entry["selection"] else []
    lines = []
    for label, text in facts:
        body = wrap(text, limit - 13)
        lines.append(f"  {brush(f'{label:<10}', 'dim')} {body[0]}")
        lines += [" " * 13 + line for line in body[1:]]
    if entry["splits"]:
        lines += ["", *_split_lines(entry, balance, limit, brush)]
    for text in (*entry["notices"], *entry["warnings"]):
        style = ("yellow",) if text in entry["warnings"] else ()
        lines += [brush(line, *style) for line in wrap(f"  ! {text}", limit, "    ")]
    return lines


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    left = len(names) - _NAMES_SHOWN
    return f"{len(names)}: {shown}{f' and {left} more' if left > 0 else ''}" if names else "none"


def _labels_text(entry: dict[str, Any]) -> str:
    parts = []
    for name in entry["roles"]["labels"]:
        known = entry["labels"].get(name)
        null = f" (null in {plural(known['null'], 'row')})" if known and known["null"] else ""
        parts.append(f"{name}{null}")
    return ", ".join(parts)


def embargoed_text(reasons: Mapping[str, int]) -> str:
    """Rows that are in no split, and why.

    Examples
    --------
    >>> embargoed_text({"embargo": 203, "no_time": 1})
    '204 rows: 203 whose label window crosses a threshold, 1 without a time'
    """
    parts = [f"{count(rows)} {REASONS.get(reason, reason)}" for reason, rows in reasons.items()]
    return f"{plural(sum(reasons.values()), 'row')}: {', '.join(parts)}"


def _encoders_text(encoders: list[dict[str, Any]]) -> str:
    by_steps: dict[str, list[str]] = {}
    for one in encoders:
        by_steps.setdefault(" → ".join(one["steps"]), []).append(one["column"])
    return "; ".join(f"{', '.join(columns)}: {steps}" for steps, columns in by_steps.items())


def _selection_text(selection: dict[str, Any]) -> str:
    dropped = [f"{one['feature']} ({one['reason']})" for one in selection["dropped"]]
    left = len(dropped) - _DROPPED_SHOWN
    shown = "; ".join(dropped[:_DROPPED_SHOWN]) + (f"; and {left} more, see --json" if left > 0 else "")
    kept = f"{selection['kept']} of {plural(selection['kept'] + len(dropped), 'feature')} kept"
    return kept + (f"; dropped: {shown}" if dropped else "")


def _split_lines(
    entry: dict[str, Any], balance: Mapping[str, Any] | None, limit: int, brush: Paint
) -> list[str]:
    total = max(1, entry["rows"])
    columns = list(balance or {})
    rows = []
    for name, n in entry["splits"].items():
        shares = [balance_text((balance or {})[label].get(name)) for label in columns]
        rows.append((name, count(n), f"{n / total:.1%}", *shares))
    headers = ("split", "rows", "share", *columns)
    return table(rows, headers, limit=limit, right=(1, 2), paint=brush, indent="  ")


def balance_text(found: Mapping[str, Any] | None) -> str:
    """How a label is distributed in one split: shares of its classes, or its mean.

    Examples
    --------
    >>> balance_text({"known": 4, "null": 0, "mean": 0.25, "classes": {"false": 3, "true": 1}})
    '25.0% true'
    >>> balance_text({"known": 4, "null": 0, "mean": None, "classes": {"a": 3, "b": 1}})
    '75.0% a, 25.0% b'
    >>> balance_text({"known": 4, "null": 1, "mean": 2.5, "classes": None})
    'mean 2.5, 1 null'
    """
    if found is None or not found["known"]:
        return "-" if found is None or not found["null"] else f"{count(found['null'])} null"
    classes = found["classes"]
    if classes is not None:
        shown = {name: n for name, n in classes.items() if name != "false"} or classes
        parts = [f"{n / found['known']:.1%} {name}" for name, n in list(shown.items())[:3]]
        text = ", ".join(parts) + (f", {len(shown) - 3} more" if len(shown) > 3 else "")
    else:
        text = f"mean {value(found['mean'])}"
    return text + (f", {count(found['null'])} null" if found["null"] else "")
