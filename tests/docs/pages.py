"""Markdown pages as lists of blocks, for the tests beside this file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
]
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"<!-- (?P<key>[\w ]+): (?P<value>[^>]*?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block, the mark in the comment next to it, and where it is."""

    page: str
    line: int
    language: str
    text: str
    key: str
    value: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        before = text[: match.start()].rstrip().splitlines()[-1:]
        after, *then = [*text[match.end() :].lstrip().splitlines()[:2], "", ""][:2]
        mark = None
        for line in (*before, after):
            mark = mark or _MARK.fullmatch(line)
        # a comment after a block is only ever `not run`, and not that of the next block: others stand before theirs
        if mark is not None and mark[0] not in before:
            mark = None if mark["key"] != "not run" or then[0].startswith("```") else mark
        key, value = (mark["key"], mark["value"]) if mark else ("", "")
        line = text.count("\n", 0, match.start()) + 1
        where = str(page.relative_to(ROOT))
        found.append(Block(where, line, match["language"], match["text"], key, value))
    return found


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]
