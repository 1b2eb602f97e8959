"""Commands on a project with a dataset: it is listed, shown, compared, tagged, restored, verified and exported."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from featureflow.cli import exporting
from featureflow.cli.app import application

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
SPEC = """\
featureflow: 1
project: shop
sources:
  orders: {path: data/orders.csv, time: ts, columns: {ts: timestamp, card: int64, amount: float64}}
  asked: {path: data/asked.csv, time: t, columns: {t: timestamp, card: int64, good: bool}}
features:
  spend:
    source: orders
    keys: [card]
    aggregate: [{column: amount, ops: [count, sum], windows: [1d]}]
datasets:
  train:
    description: Will a card be good?
    owner: risk@example.com
    spine: {source: asked, keys: [card]}
    features: [spend]
    label:
      - {column: good}
      - {source: orders, keys: [card], op: count, horizon: 6h, as: later}
    split: {by: time, train: "< 2026-01-03", test: rest, embargo: 6h}
    sample: {column: good, keep: {false: 0.5}}
    encode: [{columns: [amount_sum_1d], with: [{impute: median}, standard]}]
    export: {format: parquet, shard_size: 100B, shuffle: {seed: 7}, fill: {later: -1}}
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


def write_data(folder: Path, days: int) -> None:
    """An order every 3 hours, and a question every 4 hours: three cards take turns, one question has no time."""
    (folder / "data").mkdir(exist_ok=True)
    orders = [f"{START + timedelta(hours=3 * i):%Y-%m-%dT%H:%M:%SZ},{i % 3},{i}.5" for i in range(8 * days)]
    (folder / "data" / "orders.csv").write_text("\n".join(["ts,card,amount", *orders]) + "\n")
    asked = [
        f"{START + timedelta(hours=4 * i + 1):%Y-%m-%dT%H:%M:%SZ},{i % 3},{'true' if i % 4 == 0 else 'false'}"
        for i in range(6 * days)
    ]
    (folder / "data" / "asked.csv").write_text("\n".join(["t,card,good", *asked, ",1,true"]) + "\n")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with two versions of its dataset, the first tagged; both exported by their builds."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "featureflow.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREFLOW_SCRATCH", str(folder / "scratch"))
        patch.chdir(folder)
        write_data(folder, 4)
        done("build", "-q", "--scheduler", "threads")
        done("tag", "train", "prod")
        write_data(folder, 5)
        done("build", "-q", "--scheduler", "threads")
        shutil.copytree(folder, folder.with_name(f"{folder.name}_as_built"))
        yield folder


@pytest.fixture
def project(built: Path) -> Path:
    """The project as it was built, in the same place: inputs are known by their paths and times."""
    for path in built.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    shutil.copytree(built.with_name(f"{built.name}_as_built"), built, dirs_exist_ok=True)
    return built


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(application, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def value_of(*arguments: str, code: int = 0) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def golden(name: str, text: str) -> None:
    """Compare with a file, without what differs from run to run; FEATUREFLOW_UPDATE_GOLDEN=1 writes it anew."""
    text = re.sub(r"definition [0-9a-f]{12}", "definition <hash>", text)
    text = re.sub(r" +\d+(\.\d+)? (k?B)\b", " <size>", text)
    path = GOLDEN / name
    if os.environ.get("FEATUREFLOW_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_validate_and_compile(project: Path) -> None:
    assert "1 dataset" in done("validate")
    golden("compile_dataset.txt", done("compile"))
    found = value_of("compile")
    assert [entry["name"] for entry in found["tables"]] == ["spend"]
    (train,) = found["datasets"]
    assert (train["kind"], train["keys"], train["time"]) == ("dataset", ["card"], "t")
    assert train["features"] == [
        {"table": "spend", "how": "evaluated", "columns": ["amount_count_1d", "amount_sum_1d"]}
    ]
    roles = {column["name"]: (column["type"], column["role"], column["from"]) for column in train["columns"]}
    assert roles == {
        "card": ("int64", "key", ["asked.card"]),
        "t": ("timestamp", "time", ["asked.t"]),
        "good": ("bool", "label", ["asked.good"]),
        "amount_count_1d": ("int64", "feature", ["orders.amount"]),
        "amount_sum_1d": ("float64", "feature", ["orders.amount"]),
        "later": ("int64", "label", ["orders.ts"]),
        "split": ("string", "split", ["asked.t"]),
        "sample_weight": ("float64", "weight", ["asked.good"]),
    }


def test_plan(project: Path) -> None:
    text = done("plan", "--full")
    assert text.splitlines()[0].endswith("1 of 1 table and 1 of 1 dataset to build")
    assert "rows of asked in 1 piece, joined with 1 input" in text
    assert "asked (spine), orders (windows)" in text
    assert "= train  unchanged  dataset: version 2 has it all" in done("plan")
    kinds = {entry["name"]: entry["kind"] for entry in value_of("plan")["tables"]}
    assert kinds == {"spend": "table", "train": "dataset"}
    done("plan", "--full", "--graph", "plan.svg")
    drawn = Path("plan.svg").read_text()
    assert "spine of train" in drawn
    assert "dataset, full rebuild" in drawn
    assert [entry["name"] for entry in value_of("plan", "--select", "train")["tables"]] == ["train"]


def test_build_says_how_the_rows_fell(project: Path) -> None:
    write_data(project, 6)
    text = done("build", "-q")
    assert "train: train 11 · test 24 rows" in text
    assert "train: embargoed 2 rows: 1 whose label window crosses a threshold, 1 without a time" in text
    assert "train: later is null in 3 of 37 rows" in text
    assert "train@3 as parquet:" in text
    again = value_of("build", "-q")
    (outcome,) = [entry for entry in again["tables"] if entry["name"] == "train"]
    assert (outcome["kind"], outcome["version"]) == ("dataset", None)
    assert outcome["dataset"] == {
        "features": 2,
        "splits": {"train": 11, "test": 24},
        "embargoed": {"embargo": 1, "no_time": 1},
        "folds": {},
        "labels": {"good": {"known": 37, "null": 0}, "later": {"known": 34, "null": 3}},
    }
    assert [(entry["dataset"], entry["version"]) for entry in again["exports"]] == [("train", 3)]
    assert "train: train 11" not in done("build", "-q")


def test_ls(project: Path) -> None:
    lines = [line.split()[:4] for line in done("ls").splitlines()]
    assert lines == [
        ["name", "kind", "version", "rows"],
        ["spend", "table", "2", "40"],
        ["train", "dataset", "2", "31"],
    ]
    found = value_of("ls")
    assert [entry["table"] for entry in found["tables"]] == ["spend"]
    assert [(entry["dataset"], entry["kind"], entry["version"]) for entry in found["datasets"]] == [
        ("train", "dataset", 2)
    ]


def test_show(project: Path) -> None:
    head, special, columns = done("show", "train", "--rows", "0").split("\n\n", 2)
    assert head.splitlines()[:2] == ["train@2   dataset", "  Will a card be good?"]
    facts = " ".join(head.split())  # who and when decide where lines are broken
    for fact in ("31 rows ·", "keys card ·", "time t ·", "store/datasets/train"):
        assert fact in facts
    golden("show_dataset.txt", f"{special}\n\n{columns}")
    found = value_of("show", "train@prod", "--rows", "2")
    assert (found["dataset"], found["version"], found["tags"], len(found["sample"])) == (
        "train", 1, ["prod"], 2,
    )  # fmt: skip
    assert found["roles"]["features"] == ["amount_count_1d", "amount_sum_1d"]
    assert found["encoders"] == [{"column": "amount_sum_1d", "steps": ["impute", "standard"]}]
    assert found["splits"] == {"train": 11, "test": 12}
    # questions 0, 4, 8, … are good; 0 to 10 are train, 11 is too close to the threshold, 12 to 23 are test
    train, test = found["label_balance"]["good"]["train"], found["label_balance"]["good"]["test"]
    assert train == {"known": 11, "null": 0, "mean": 3 / 11, "classes": {"false": 8, "true": 3}}
    assert test["classes"] == {"false": 9, "true": 3}
    roles = {column["name"]: column["role"] for column in found["schema"]}
    assert (roles["amount_sum_1d"], roles["amount_sum_1d__encoded"], roles["split"]) == (
        "raw", "encoded", "split",
    )  # fmt: skip


def test_names_are_suggested_over_tables_and_datasets(project: Path) -> None:
    for command in ("show", "history", "lineage", "verify", "gc"):
        result = invoke(command, "trian")
        assert result.exit_code == 1, command
        assert "Did you mean 'train'?" in result.stderr, command
        assert "spend" in result.stderr
    assert "versions 1 to 2" in invoke("show", "train@7").stderr
    assert "prod" in invoke("show", "train@prot").stderr


def test_history_and_diff(project: Path) -> None:
    assert [line.split()[0] for line in done("history", "train").splitlines()] == ["version", "2", "1"]
    found = value_of("history", "train")
    assert (found["dataset"], [entry["rows"] for entry in found["versions"]]) == ("train", [31, 25])
    found = value_of("diff", "train@1", "train@2")
    assert (found["rows"]["before"], found["rows"]["after"]) == (25, 31)
    assert found["rows"]["compared"]["added"] == 6
    assert found["rows"]["compared"]["removed"] == 0
    assert "25 → 31" in done("diff", "train@prod", "train")
    assert "no difference" in done("diff", "train", "train@2")


def test_lineage(project: Path) -> None:
    found = value_of("lineage", "train")
    assert (found["dataset"], found["version"]) == ("train", 2)
    columns = found["columns"]
    assert columns["amount_sum_1d"] == columns["amount_sum_1d__encoded"] == ["orders.amount"]
    assert (columns["split"], columns["sample_weight"]) == (["asked.t"], ["asked.good"])
    assert columns["later"] == ["orders.ts"]
    assert "asked.card" in done("lineage", "train@1.card")
    result = invoke("lineage", "train.cart")
    assert result.exit_code == 1
    assert "'card'" in result.stderr


def test_tag(project: Path) -> None:
    assert value_of("tag", "train@2", "prod") == {"dataset": "train", "tag": "prod", "version": 2}
    assert value_of("show", "train@prod")["version"] == 2
    assert value_of("tag", "train", "prod", "--delete")["version"] is None
    assert invoke("show", "train@prod").exit_code == 1


def test_a_restored_version_is_built_again(project: Path) -> None:
    """Its input is older than what there is: the next build gives the rows of now, and then there is nothing to do."""
    old = sorted(path.name for path in (project / "store/datasets/train").glob("*.parquet"))
    found = value_of("restore", "train@1")
    assert found == {"dataset": "train", "restored": 1, "version": 3, "rows": 25}
    assert sorted(path.name for path in (project / "store/datasets/train").glob("*.parquet")) == old
    assert value_of("show", "train")["splits"] == {"train": 11, "test": 12}
    assert "no difference" not in done("diff", "train@2", "train@3")
    change = {entry["name"]: entry["change"] for entry in value_of("plan")["tables"]}
    assert change == {"spend": "unchanged", "train": "new data"}
    built = {entry["name"]: entry for entry in value_of("build", "-q")["tables"]}
    assert (built["train"]["version"], built["train"]["rows"], built["spend"]["version"]) == (4, 31, None)
    compared = value_of("diff", "train@2", "train@4")
    assert compared["files"] == {"shared": 1, "added": 0, "removed": 0}
    assert "nothing to do" in done("build", "-q")


def test_a_restored_latest_version_is_unchanged(project: Path) -> None:
    assert value_of("restore", "train@2")["version"] == 3
    assert {entry["change"] for entry in value_of("plan")["tables"]} == {"unchanged"}


def test_gc_keeps_what_versions_need(project: Path) -> None:
    done("restore", "train@2")  # versions 2 and 3 share their file
    assert value_of("gc", "--keep", "1", "--dry-run")["datasets"][0]["expired"] == [2]
    done("tag", "train", "prod", "--delete")
    (found,) = value_of("gc", "train", "--keep", "1")["datasets"]
    assert (found["dataset"], found["expired"], found["kept"], found["files"]) == ("train", [1, 2], [3], 1)
    assert value_of("verify", "train", "--deep")["ok"]
    assert "has expired" in invoke("show", "train@1").stderr
    assert value_of("export", "train", "-q")["rows"] > 0


def test_verify(project: Path) -> None:
    found = value_of("verify", "--deep")
    assert [entry["dataset"] for entry in found["datasets"]] == ["train"]
    assert [entry["table"] for entry in found["tables"]] == ["spend"]
    victim = next((project / "store/datasets/train").glob("*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 1
    victim.write_bytes(data)
    broken = value_of("verify", "train@1", "train@2", "--deep", code=1)
    assert sorted(len(entry["problems"]) for entry in broken["datasets"]) == [0, 1]
    assert victim.name in str(broken)


def test_export_takes_the_options_of_the_version(project: Path) -> None:
    shutil.rmtree(project / "store" / "exports")
    golden("export_dataset.txt", re.sub(r" +", " ", done("export", "train", "-q")))
    folder = project / "store" / "exports" / "train" / "2"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["shuffle"]) == ("parquet", 7)
    assert len(manifest["splits"]["train"]) > 1
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert value_of("export", "train", "-q")["rows"] == sum(
        shard["rows"] for shards in manifest["splits"].values() for shard in shards
    )
    assert (folder / "manifest.json").stat().st_mtime_ns == before


def test_export_with_other_options(project: Path) -> None:
    import featureflow

    where = ("--path", "shards", "-q", "--scheduler", "threads")
    found = value_of("export", "train@prod", *where, "--format", "npy", "--no-shuffle", "--shard-size", "1MB")
    assert (found["dataset"], found["version"], found["format"]) == ("train", 1, "npy")
    assert found["splits"]["train"]["shards"] == 1
    assert found["left_out"]["embargoed"] == 2
    manifest = json.loads(Path("shards/train/1/manifest.json").read_text())
    assert manifest["shuffle"] is None
    stored = featureflow.open("store").dataset("train@1").to_polars("train")
    kept = stored.filter(stored["sample_weight"] > 0)["amount_count_1d"].to_list()
    import numpy as np

    (path,) = Path("shards/train/1/train/amount_count_1d").glob("*.npy")
    assert np.load(path).tolist() == kept
    result = invoke("export", "train@prod", *where, "--format", "arrow")
    assert result.exit_code == 1
    assert "shards already" in result.stderr
    found = value_of("export", "train@prod", *where, "--format", "arrow", "--replace", "--layout", "matrix")
    assert found["format"] == "arrow"


def test_export_refuses(project: Path) -> None:
    assert invoke("export", "train", "--no-shuffle", "--shuffle-seed", "1").exit_code == 2
    assert invoke("export", "train", "--format", "hdf5").exit_code == 2
    result = invoke("export", "train", "--shard-size", "2TiB")
    assert result.exit_code != 0
    assert "error: export.shard_size: must be from 1 byte to 1TiB" in result.stderr
    assert "feature table" in invoke("export", "spend").stderr
    assert "Did you mean 'train'" in invoke("export", "trian").stderr
    assert invoke("export", "train", "-q", "--format", "npy", "--compression", "zstd").exit_code != 0


def test_stores_and_datasets_in_a_notebook(project: Path) -> None:
    import featureflow

    store = featureflow.open("store")
    assert repr(store) == "Store(store: spend, train)"
    shown = store._repr_html_()
    for text in ("1 table · 1 dataset", ">train<", ">dataset<", ">31<"):
        assert text in shown
    shown = store.dataset("train@prod")._repr_html_()
    for text in ("train@1", "27.3% true", "impute → standard", ">encoded<", "embargoed 2 rows"):
        assert text in shown
    assert "<script" not in shown


def test_a_store_tells_tables_from_datasets(project: Path) -> None:
    import featureflow
    from featureflow.core.errors import TableError

    store = featureflow.open("store")
    assert store.names() == ["spend", "train"]
    assert (store.version("train@1").rows, store.version("spend").version) == (25, 2)
    assert [str(one) for one in store.latest_datasets()] == ["train@2"]
    with pytest.raises(TableError, match=r"is a dataset; open it with store\.dataset\('train@1'\)"):
        store.table("train@1")
    with pytest.raises(TableError, match="is a feature table"):
        store.dataset("spend")
    shutil.copytree(project / "store/datasets/train", project / "store/features/train")
    with pytest.raises(TableError, match="Write features/train or datasets/train"):
        store.version("train")
    assert store.version("datasets/train@1").url == "store/datasets/train"
    assert store.find("features/train@prod") == ("store/features/train", "train", "prod")
    assert len(value_of("verify")["tables"]) == 2


def test_labels_are_not_counted_where_that_takes_long(project: Path) -> None:
    import featureflow
    from featureflow.datasets.balance import label_balance

    dataset = featureflow.open("store").dataset("train")
    assert label_balance(dataset, most_rows=30) is None
    found = label_balance(dataset, most_rows=31)
    assert found is not None
    assert found["later"]["test"] == {"known": 16, "null": 2, "mean": 0.75, "classes": {"1": 12, "0": 4}}


def test_the_options_of_export_are_those_of_the_language() -> None:
    from typing import get_args

    from featureflow.spec.exports import Export, ShardFormatName

    fields = Export.model_fields
    assert get_args(ShardFormatName) == exporting.FORMATS
    for name, known in {
        "compression": exporting.COMPRESSIONS,
        "layout": exporting.LAYOUTS,
        "float_": exporting.FLOATS,
        "nulls": exporting.NULLS,
    }.items():
        assert get_args(fields[name].annotation) == known
