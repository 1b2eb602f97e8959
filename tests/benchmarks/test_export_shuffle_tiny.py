"""The benchmark of the export's shuffle runs at a tiny size, so that it can't rot; nothing here is timed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import export_shuffle


# the peer calls what pandas 3.1 gives up
@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_export_shuffle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = export_shuffle.main(
        ["--rows", "4000", "--runs", "1", "--shard-rows", "900", "--workdir", str(tmp_path), "--no-cluster"]
    )
    assert set(taken) == {"ours, threads", "ours, threads, no shuffle", "dask tasks, threads"}
    assert "ours / dask tasks" in capsys.readouterr().out


def test_lost_rows_are_noticed(tmp_path: Path) -> None:
    rows = export_shuffle.write_rows(tmp_path / "rows", 1000)
    from featureflow.execute.executors import ThreadExecutor

    executor = ThreadExecutor(2)
    export_shuffle.ours(rows, tmp_path / "out", executor, shuffle=True, shard_rows=300)
    executor.close()
    export_shuffle.check(tmp_path / "out", 1000)
    next((tmp_path / "out").rglob("*.arrow")).unlink()
    with pytest.raises(AssertionError, match="not each of 1000 once"):
        export_shuffle.check(tmp_path / "out", 1000)
