"""How datasets, and stores that hold some, look in a notebook: small tables, no scripts, every value escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featureflow.core.roles import Roles
from featureflow.core.types import type_name
from featureflow.datasets.balance import label_balance
from featureflow.datasets.place import DATASETS
from featureflow.observe import html
from featureflow.observe.datasets import ENCODED, balance_text, column_role, describe_dataset, embargoed_text
from featureflow.observe.stored import describe_version
from featureflow.observe.stored_grids import sizes_line
from featureflow.observe.units import count, moment, plural, size, value

if TYPE_CHECKING:
    from featureflow.datasets.dataset import Dataset
    from featureflow.datasets.store import Store
    from featureflow.tables.table import Table

_COLUMNS_SHOWN = 60
_ALIKE = 26


def dataset_html(dataset: Dataset) -> str:
    """A version: splits with their labels, columns with their parts and statistics, what to look out for."""
    table, described = dataset.table, describe_dataset(dataset.record)
    info = table.state.info
    about = [
        plural(dataset.rows, "row"),
        f"{size(info.bytes)} in {plural(info.files, 'file')}",
        f"published {moment(info.published)} UTC",
        *table.tags,
    ]
    roles = Roles.from_json(described["roles"])
    parts = [
        html.title(f"{dataset.name}@{dataset.version}", " · ".join(about)),
        html.table(_facts(described, roles), ("", "")),
        _splits(dataset, described),
        _columns(table, described, roles),
    ]
    notes = [*described["notices"], *described["warnings"]]
    if described["embargoed"]:
        notes.insert(0, f"embargoed {embargoed_text(described['embargoed'])}")
    return html.page_part([*parts, html.notes(notes)])


def _facts(described: dict[str, Any], roles: Roles) -> list[tuple[str, str]]:
    facts = [
        ("keys", ", ".join(roles.keys)),
        ("time", roles.time or ""),
        ("features", str(len(roles.features))),
        ("labels", ", ".join(roles.labels)),
        ("weights", roles.weight or ""),
    ]
    if described["selection"]:
        dropped = [one["feature"] for one in described["selection"]["dropped"]]
        facts.append(("dropped", ", ".join(dropped)))
    if described["encoders"]:
        steps = dict.fromkeys(" → ".join(one["steps"]) for one in described["encoders"])
        facts.append(("encoded", f"{plural(len(described['encoders']), 'column')}: {', '.join(steps)}"))
    return [fact for fact in facts if fact[1]]


def _splits(dataset: Dataset, described: dict[str, Any]) -> str:
    balance = label_balance(dataset) or {}
    by_split = described["splits"] or ({"all": dataset.rows} if balance else {})
    if not by_split:
        return ""
    rows = [
        (
            name,
            count(n),
            f"{n / max(1, dataset.rows):.1%}",
            *(balance_text(found.get(name)) for found in balance.values()),
        )
        for name, n in by_split.items()
    ]
    return html.table(rows, ("split", "rows", "share", *balance), right=(1, 2))


def _columns(table: Table, described: dict[str, Any], roles: Roles) -> str:
    encoded = frozenset(one["column"] for one in described["encoders"])
    found = table.stats.to_dicts()
    rows = [
        (
            row["column"].removesuffix(ENCODED),
            type_name(table.schema.field(row["column"]).type),
            column_role(row["column"], roles, encoded),
            f"{row['nulls'] / table.rows:.1%}" if row["nulls"] and table.rows else "",
            _extreme(row["min"]),
            "" if row["mean"] is None else value(row["mean"]),
            _extreme(row["max"]),
        )
        for row in found[:_COLUMNS_SHOWN]
    ]
    headers = ("column", "type", "role", "null", "min", "mean", "max")
    left = len(found) - _COLUMNS_SHOWN
    more = html.notes([f"and {plural(left, 'more column', 'more columns')}: .stats"]) if left > 0 else ""
    return html.table(rows, headers, right=(3, 4, 5, 6)) + more


def _extreme(given: str | None) -> str:
    """An extreme, which comes as text, as people write it."""
    if given is None:
        return ""
    if given in ("False", "True"):
        return given.lower()
    if given[4:5] == "-" and "T" in given:
        return moment(given)
    try:
        return value(float(given)) if "." in given or "e" in given else given
    except ValueError:
        return given if len(given) <= _ALIKE else given[: _ALIKE - 1] + "…"


def store_html(store: Store) -> str:
    """The tables, grids and datasets of a store."""
    found = [*store.latest(), *(store.version(f"{DATASETS}/{name}") for name in store.datasets())]
    described = [describe_version(table) for table in found]
    rows = [
        (
            table.name,
            entry["kind"],
            str(table.version),
            sizes_line(entry["dims"]) if "dims" in entry else count(table.rows),
            str(len(table.schema)),
            size(entry["bytes"]),
            moment(table.state.info.published),
            ", ".join(table.tags),
        )
        for table, entry in zip(found, described, strict=True)
    ]
    kinds = [entry["kind"] for entry in described]
    counted = [
        kind for kind in ("table", "grid", "dataset") if kind in kinds or (kind == "table" and not kinds)
    ]
    about = " · ".join(plural(kinds.count(kind), kind) for kind in counted)
    headers = ("name", "kind", "version", "rows", "columns", "bytes", "published (UTC)", "tags")
    body = html.table(rows, headers, right=(2, 3, 4, 5)) if rows else ""
    return html.page_part([html.title(store.url, about), body])
