"""Places in the document: ``("features", "clicks", "aggregate", 0)`` is ``features.clicks.aggregate[0]``."""

from __future__ import annotations

Path = tuple[str | int, ...]


def path_text(path: Path) -> str:
    """A path as people read it.

    Examples
    --------
    >>> path_text(("features", "clicks", "aggregate", 0, "ops", 1))
    'features.clicks.aggregate[0].ops[1]'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
