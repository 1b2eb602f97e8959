"""What ``card_spend@prod`` means: a table's name and which of its versions.

===========================  ==========================================================================
``name``, ``name@latest``    the latest version
``name@7``                   version 7
``name@prod``                where the tag points now
``name@2026-11-01``          the last version published by the end of that day, UTC
``name@2026-11-01T12:00``    the last version published at or before that instant; UTC unless it has an offset
``name@build:<id>``          the version that this build published
===========================  ==========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from featureflow.core.errors import TableError
from featureflow.spec.suggest import did_you_mean
from featureflow.tables import tags, versions
from featureflow.tables.versions import Version

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ].+")


def split_reference(reference: str) -> tuple[str, str]:
    """Take ``name@which`` apart; without ``@`` it is ``latest``.

    Examples
    --------
    >>> split_reference("card_spend@7"), split_reference("card_spend")
    (('card_spend', '7'), ('card_spend', 'latest'))
    """
    name, at, which = reference.partition("@")
    if not name or (at and not which):
        raise TableError(
            f"{reference!r} is not a reference. Write name, name@7, name@tag or name@2026-11-01."
        )
    return name, which or "latest"


def resolve(table_url: str, name: str, which: str) -> Version:
    """Find the version that a reference means.

    Raises
    ------
    TableError
        If the table or version does not exist, or has expired; says what exists.

    Notes
    -----
    Time: a version's instant is when it was published by its builder's clock, kept strictly growing; file times and
    the Delta log's play no part, so a copied store gives the same answers.
    Cost: a few small reads; a time or build is searched backwards, one small read a version.
    """
    head = versions.head(table_url)
    if head is None or head.latest is None:
        raise TableError(f"table {name!r} was never published in {table_url}.")
    latest = head.latest
    if which == "latest":
        return latest
    if which.isdigit():
        found = _by_number(table_url, name, int(which), latest)
    elif which.startswith("build:"):
        found = _by_build(table_url, name, which.removeprefix("build:"), latest)
    elif _DATE.fullmatch(which) or _INSTANT.fullmatch(which):
        found = _by_time(table_url, name, which, latest)
    else:
        found = _by_number(table_url, name, _by_tag(table_url, name, which, latest), latest)
    versions.check_not_expired(table_url, name, found)
    return found


def _by_number(table_url: str, name: str, number: int, latest: Version) -> Version:
    if number == latest.version:
        return latest
    if not 1 <= number < latest.version:
        raise TableError(
            f"{name}@{number}: there is no such version; {name} has versions 1 to {latest.version}."
        )
    return versions.read_version(table_url, number)


def _by_tag(table_url: str, name: str, tag: str, latest: Version) -> int:
    known = tags.list_tags(table_url)
    if tag not in known:
        hint = did_you_mean(tag, [*known, "latest"])
        number = re.fullmatch(r"[vV](\d+)", tag)
        if number:
            hint = f"Version {number[1]} is {name}@{number[1]}. {hint}"
        raise TableError(f"{name}@{tag}: there is no such tag. {hint} Versions: 1 to {latest.version}.")
    return known[tag]


def _by_time(table_url: str, name: str, text: str, latest: Version) -> Version:
    """The last version before the end of a day, or at an instant."""
    try:
        if _DATE.fullmatch(text):
            limit = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + timedelta(days=1)
            limit -= timedelta(microseconds=1)
        else:
            limit = datetime.fromisoformat(text)
            limit = limit if limit.tzinfo else limit.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise TableError(
            f"{name}@{text}: not a time ({error}). Write 2026-11-01 or 2026-11-01T12:00."
        ) from None
    for version in _backwards(table_url, latest):
        if datetime.fromisoformat(version.published) <= limit:
            return version
    first = versions.read_version(table_url, 1)
    raise TableError(
        f"{name}@{text}: there was no version yet; the first was published at {first.published}."
    )


def _by_build(table_url: str, name: str, build: str, latest: Version) -> Version:
    for version in _backwards(table_url, latest):
        if version.build == build:
            return version
    raise TableError(
        f"{name}@build:{build}: this build published no version of {name}. The latest is {latest.version}, "
        f"by build {latest.build}."
    )


def _backwards(table_url: str, latest: Version) -> Iterator[Version]:
    """Versions from the latest to the first, each read when it is looked at."""
    yield latest
    for number in range(latest.version - 1, 0, -1):
        yield versions.read_version(table_url, number)
