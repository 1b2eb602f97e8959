"""SIGKILL of the driver at operations on files of a local store: as on S3, and gc removes all that is left."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from faults import small_build
from faults.conftest import Figure
from faults.drivers import Drivers
from faults.small_build import TABLES, sight
from faults.test_s3_crashes import clean, tables_of

from featureflow.tables import delta_log, versions

pytestmark = pytest.mark.faults

CALL = "faults.small_build:build_dying"
#: Each third operation by default, beginning with another one of the three for each kind; 1 takes each.
EVERY = int(os.environ.get("FEATUREFLOW_SWEEP_FILES", "3"))


def test_sweep(tmp_path: Path, figure: Figure) -> None:
    spec = str(small_build.write_spec(tmp_path, str(tmp_path / "raw")))
    store, base, scratch, log = (tmp_path / name for name in ("store", "base", "scratch", "log"))
    with Drivers(tmp_path / "drivers") as drivers:

        def run(limit: int) -> int:
            log.unlink(missing_ok=True)
            return drivers.start(CALL, [spec, str(store), str(scratch), str(log), limit]).wait()

        small_build.write_raw(str(tmp_path / "raw"), 0)
        assert run(-1) == 0
        old = sight(str(store))
        shutil.copytree(store, base)
        small_build.write_raw(str(tmp_path / "raw"), 1)
        shutil.rmtree(scratch)
        assert run(-1) == 0
        operations = log.read_text().splitlines()
        new = sight(str(store))
        assert old != new
        clean(str(store))
        after = tables_of(str(store))
        begun, states, kinds = time.monotonic(), Counter[int](), Counter[str]()
        for place, operation in enumerate(operations):
            kind = operation.split()[0]
            kinds[kind] += 1
            if (kinds[kind] - 1) % EVERY:
                continue
            for folder in (store, scratch):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base, store)
            assert run(place) == -9, operation
            found = sight(str(store))
            for now, then, soon in zip(found.tables, old.tables, new.tables, strict=True):
                assert now in (then, soon), operation
            if found.tables[1] == old.tables[1]:
                assert found.export == old.export
            else:
                assert found.export in (None, new.export)
            states[sum(now == soon for now, soon in zip(found.tables, new.tables, strict=True))] += 1
            assert run(-1) == 0
            assert sight(str(store)) == new, operation
            for name in TABLES:
                assert versions.list_versions(f"{store}/{name}") == [1, 2]
                assert delta_log.numbers(f"{store}/{name}") == [0, 1]
            clean(str(store))
            left = tables_of(str(store))
            assert len(left) == len(after), operation
            assert not [path for path in left if ".tmp" in path]
    assert states.total() >= 20
    assert set(states) == {0, 1, 2}
    figure(
        "R2",
        f"{states.total()} kills at {len(operations)} operations on files of a local store: 0 torn reads, 0 re-runs "
        f"that failed or differ, 0 files left after gc; {dict(states)} tables were new; "
        f"{(time.monotonic() - begun) / states.total():.1f} s a kill",
    )
