"""What the author probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache


def did_you_mean(given: object, known: Iterable[str], *, aliases: Mapping[str, str] | None = None) -> str:
    """Sentences for the end of an error: the closest known name, and all of them.

    Parameters
    ----------
    given
        What was written.
    known
        All names that would be right.
    aliases
        Other spellings, and the name that each stands for.

    Examples
    --------
    >>> did_you_mean("maen", ["mean", "max"])
    "Did you mean 'mean'? Known: max, mean."
    >>> did_you_mean("zzz", [])
    'Known: none.'
    """
    names = sorted(set(known))
    text = str(given)
    found = closest(text, names, aliases=aliases)
    hint = f"Did you mean {found!r}? " if found else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."


def closest(given: str, names: Iterable[str], *, aliases: Mapping[str, str] | None = None) -> str | None:
    """The known name that is nearest to what was written; None if nothing is near."""
    return _closest(given, tuple(sorted(names)), tuple((aliases or {}).items()))


@lru_cache(maxsize=4096)
def _closest(given: str, candidates: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> str | None:
    aliases = dict(pairs)
    folded = given.strip().lower().replace("-", "_").replace(" ", "_")
    if folded in candidates:
        return folded
    if aliases.get(folded) in candidates:
        return aliases[folded]
    # 64 characters: the comparison is quadratic, and the text may be anything
    found = difflib.get_close_matches(folded[:64], candidates, n=1, cutoff=0.6)
    return found[0] if found else None
