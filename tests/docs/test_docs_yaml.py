"""Every YAML block of the documentation is a valid spec, or a part of one that its comment names."""

from __future__ import annotations

import textwrap

import pytest
import yaml
from docs.pages import ALL_BLOCKS, ROOT

from featureflow.spec.load import load_text

TEMPLATE = ROOT / "featureflow" / "demo" / "templates" / "fraud" / "featureflow.yaml"
YAML = [block for block in ALL_BLOCKS if block.language == "yaml"]
SOURCE = """
featureflow: 1
sources:
  events: {path: "events/*.parquet", time: ts}
  merchants: {path: merchants.csv, time: valid_from}
"""
#: what datasets are made of
DATASET_TABLES = """
featureflow: 1
sources:
  events: {path: "events/*.parquet", time: ts}
  labels: {path: labels.parquet, time: t}
  customers: {path: customers.csv, time: since}
  chargebacks: {path: chargebacks.parquet, time: ts}
features:
  card_spend: {source: events, keys: card_id, aggregate: [{column: amount, ops: sum, windows: 1d}]}
  merchant_stats: {source: events, keys: merchant, aggregate: [{ops: count, windows: 7d, as: "n_{window}"}]}
"""


def whole(block):
    """The spec that a fragment is a part of."""
    if (block.key, block.value) == ("example", "dataset"):  # of the README, which goes on with its first spec
        (first,) = [b for b in ALL_BLOCKS if b.page == block.page and (b.key, b.value) == ("example", "spec")]
        return first.text + block.text
    inside = textwrap.indent(block.text, "    ")
    if block.key == "yaml":
        where = block.value
        if where == "top":
            return SOURCE + block.text
        if where == "source":
            return f"featureflow: 1\nsources:\n  it:\n{inside}"
        if where == "rest of a source":
            return f"featureflow: 1\nsources:\n  it:\n    path: it.parquet\n    time: ts\n{inside}"
        rows = "    source: events\n    keys: [id]\n"
        if where == "feature":
            return f"{SOURCE}features:\n  it:\n{rows}{inside}"
        if where == "datasets":
            return DATASET_TABLES + block.text
        if where in ("spine", "rest of a dataset"):
            spine = "" if where == "spine" else "    spine: {source: labels, keys: [card_id]}\n"
            return f"{DATASET_TABLES}datasets:\n  it:\n{spine}{inside}"
        if where == "of the fraud template":
            return TEMPLATE.read_text().split("\ndatasets:\n")[0] + "\n" + block.text
        if where == "udf":
            return f"allow_python: true\n{SOURCE}features:\n  it:\n{rows}{inside}"
        raise AssertionError(f"{block.name}: unknown mark yaml: {where}")
    return block.text


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.name)
def test_block_is_a_valid_spec(block, monkeypatch):
    monkeypatch.delenv("FEATUREFLOW_STORE", raising=False)
    project = load_text(whole(block)).project
    assert project.sources


def test_the_check_finds_mistakes():
    from featureflow import SpecError

    broken = next(b for b in YAML if b.value == "feature")
    with pytest.raises(SpecError):
        load_text(whole(broken) + "    colour: red\n")


@pytest.mark.parametrize("block", [b for b in YAML if "\ntests:" in b.text], ids=lambda block: block.name)
def test_the_specs_own_tests_pass(block):
    import featureflow as ff

    results = ff.Project(block.text).test()
    assert results
    assert [(r.name, r.message) for r in results if not r.passed] == []


def test_the_templates_dataset_is_shown_as_it_is():
    (shown,) = [yaml.safe_load(block.text) for block in YAML if block.value == "of the fraud template"]
    (given,) = yaml.safe_load(TEMPLATE.read_text())["datasets"].values()
    assert shown == {"datasets": {"next_day_spend": {k: v for k, v in given.items() if k not in METADATA}}}


METADATA = ("description", "owner", "tags")
