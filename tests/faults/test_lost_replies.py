"""A store that does what it was asked, and whose reply is lost: no failure, and one version for each build."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from faults import small_build
from faults.conftest import Figure
from faults.small_build import TABLES, sight
from faults.stores import objects, put, tag_moves
from servers.fault_proxy import FaultProxy, Rule
from servers.seaweedfs import environment_of, variables

from featureflow.core import storage
from featureflow.tables import delta_log, tags, versions
from featureflow.tables.collect import gc
from featureflow.tables.restore import restore

pytestmark = pytest.mark.faults

CHANGES = "PUT|POST|DELETE|PATCH"


def build(spec: str, store: str, scratch: Path) -> None:
    small_build.build(spec, store, str(scratch))


def restored(_spec: str, store: str, _scratch: Path) -> None:
    restore(f"{store}/features/spend", "spend", "1", build="back")


def tagged(_spec: str, store: str, _scratch: Path) -> None:
    tags.set_tag(f"{store}/features/spend", "prod", 1, by="me")
    tags.set_tag(f"{store}/features/spend", "prod", None)


def collected(_spec: str, store: str, _scratch: Path) -> None:
    for name in TABLES:
        storage.write_atomic(f"{store}/{name}/litter.parquet", b"litter")
        gc(f"{store}/{name}", name, keep=1, margin=timedelta(0))


#: Name, what it does, versions of the two tables before and after.
KINDS: list[tuple[str, Callable[[str, str, Path], None], tuple[int, int], tuple[int, int]]] = [
    ("create", build, (0, 0), (1, 1)),
    ("new version", build, (1, 1), (2, 2)),
    ("restore", restored, (2, 2), (3, 2)),
    ("tag", tagged, (2, 2), (2, 2)),
    ("gc", collected, (2, 2), (2, 2)),
]


@pytest.mark.parametrize("action", ["drop", "status after"])
def test_every_lost_reply(
    action: str, bucket: str, proxy: FaultProxy, tmp_path: Path, figure: Figure
) -> None:
    raw, store = f"{bucket}/raw", f"{bucket}/store"
    spec = str(small_build.write_spec(tmp_path, raw))
    small_build.write_raw(raw, 0)
    snapshots: dict[tuple[int, int], dict[str, bytes]] = {(0, 0): {}}
    done: dict[str, int] = {}
    n = 0
    for name, act, before, after in KINDS:
        if before == (1, 1):
            small_build.write_raw(raw, 1)
        changes, last, expected = 0, -1, None
        while last < changes:  # -1: undisturbed, to count
            n += 1
            here, scratch = f"{store}{n}", tmp_path / f"scratch{n}"
            put(here, snapshots[before])
            proxy.clear()
            rule = proxy.add(
                Rule(action, method=CHANGES, skip=max(last, 0), count=int(last >= 0), status=500)
            )
            with variables(environment_of(proxy.url)):
                act(spec, here, scratch)
            found = sight(here)
            versions_now = tuple(versions.list_versions(f"{here}/{table}") for table in TABLES)
            assert versions_now == tuple(list(range(1, count + 1)) for count in after)
            if last < 0:
                changes, expected = proxy.count(CHANGES), found
                snapshots.setdefault(after, objects(here))
            else:
                assert rule.hits == 1
                assert proxy.faults[action] == 1
            assert found == expected, (name, last)
            for table, count in zip(TABLES, after, strict=True):
                assert delta_log.numbers(f"{here}/{table}") == list(range(count))
                builds = [versions.read_version(f"{here}/{table}", i + 1).build for i in range(count)]
                assert len(set(builds)) == count
            if act is tagged:
                moves = tag_moves(f"{here}/features/spend", "prod")
                assert [said["version"] for _, said in moves] == [1, None]
            last += 1
        done[name] = changes
    assert done["create"] >= 18
    assert done["restore"] >= 4
    figure(
        "R3",
        f"lost replies ({'connection broken' if action == 'drop' else 'told 500'} after it was done): "
        f"{sum(done.values())} ({', '.join(f'{k} {v}' for k, v in done.items())}), 0 failures, one version a build",
    )


def test_the_proxy_did_lose_them(bucket: str, proxy: FaultProxy) -> None:
    """A client that does not look again would fail: the same fault is seen by one that asks once."""
    import obstore
    from obstore.exceptions import AlreadyExistsError
    from obstore.store import S3Store

    proxy.add(Rule("status after", status=500, method="PUT", count=1))
    options: dict[str, Any] = {"endpoint": proxy.url, "region": "us-east-1"}
    name, _, folder = bucket.removeprefix("s3://").partition("/")
    client = S3Store(name, config=options, client_options={"allow_http": True})
    with pytest.raises(AlreadyExistsError):
        obstore.put(client, f"{folder}/x", b"1", mode="create", use_multipart=False)
    assert storage.read_bytes(f"{bucket}/x") == b"1"
