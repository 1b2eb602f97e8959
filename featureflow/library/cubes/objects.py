"""The objects below a folder with their sizes and versions, in one listing."""

from __future__ import annotations

import os

from featureflow.core import s3, storage

#: bytes, and a text that changes when the content does
Object = tuple[int, str]


def list_objects(url: str) -> dict[str, Object]:
    """Every object below a folder, by its path below it; empty if there is none.

    Notes
    -----
    Cost: a directory scan for each local folder; one request for each thousand objects of a store.
    """
    if storage.is_local(url):
        return dict(_local(storage.local_path(url).rstrip("/")))
    if s3.usable(url):
        import obstore

        with s3.asking(url):
            store, key = s3.connect(url)
            prefix = key.rstrip("/")
            listed = s3.insist(url, lambda: [each for page in obstore.list(store, prefix) for each in page])
        return {
            each["path"][len(prefix) :].lstrip("/"): (
                each["size"],
                f"etag:{each['e_tag']}" if each["e_tag"] else f"mtime:{each['last_modified']}",
            )
            for each in listed
        }
    with storage.talking_to(url):
        fs, path = storage.filesystem(url)
        fs.invalidate_cache()
        found = fs.find(path, detail=True)
    base = path.rstrip("/") + "/"
    return {name[len(base) :]: (int(info["size"]), _version(info)) for name, info in found.items()}


def _version(info: dict[str, object]) -> str:
    for key in (
        "ETag",
        "etag",
        "md5Hash",
        "content_md5",
        "LastModified",
        "last_modified",
        "updated",
        "mtime",
        "created",
    ):
        if info.get(key):
            return f"{key}:{info[key]}"
    return f"size:{info['size']}"


def _local(root: str) -> list[tuple[str, Object]]:
    found: list[tuple[str, Object]] = []
    folders = [root]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.path)
            else:
                stat = entry.stat()
                found.append((entry.path[len(root) + 1 :], (stat.st_size, f"mtime:{stat.st_mtime_ns}")))
    return found
