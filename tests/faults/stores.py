"""Stores as bytes: taken from an object store or a disk, and put back elsewhere, as often as a sweep needs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from featureflow.core import storage


def objects(url: str) -> dict[str, bytes]:
    """Everything below a URL: path to bytes."""
    if storage.is_local(url):
        root = Path(storage.local_path(url))
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    fs, path = storage.filesystem(url)
    fs.invalidate_cache()
    root_ = path.rstrip("/") + "/"
    names = [name for name in fs.find(path) if name.startswith(root_)]
    found = fs.cat(names) if names else {}
    return {name[len(root_) :]: data for name, data in sorted(found.items())}


def tag_moves(table_url: str, tag: str) -> list[tuple[int, dict[str, Any]]]:
    """All moves of a tag by number, as they were written."""
    found = objects(f"{table_url}/_ff/tags/{tag}")
    return [(int(name.removesuffix(".json")), json.loads(data)) for name, data in sorted(found.items())]


def put(url: str, found: dict[str, bytes]) -> None:
    """Write all of them below another URL."""
    if storage.is_local(url):
        for name, data in found.items():
            path = Path(storage.local_path(url), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return
    fs, path = storage.filesystem(url)
    fs.pipe({f"{path.rstrip('/')}/{name}": data for name, data in found.items()})
    fs.invalidate_cache()


def remove(url: str) -> None:
    """Delete everything below a URL."""
    if storage.is_local(url):
        shutil.rmtree(storage.local_path(url), ignore_errors=True)
        return
    fs, path = storage.filesystem(url)
    fs.rm(path, recursive=True)
    fs.invalidate_cache()
