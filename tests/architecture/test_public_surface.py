"""What the package promises: its public names, and the aggregations that a spec can name."""

from __future__ import annotations

import featureflow
from featureflow.library.aggregations import AGGREGATIONS
from featureflow.spec.ops import OPS


def test_public_names_are_few_and_exist():
    assert len(featureflow.__all__) <= 20
    assert sorted(featureflow.__all__) == sorted(set(featureflow.__all__))
    for name in featureflow.__all__:
        assert getattr(featureflow, name) is not None


def test_public_names_are_pinned():
    """Changing this list is a change of the interface: say so in CHANGELOG.md."""
    errors = {
        *("CheckFailed", "CommitConflict", "CommitUnknown", "ComputeError", "CorruptionError"),
        *("FeatureflowError", "PlanError", "SourceError", "SpecError", "TableError", "Unreachable"),
    }
    assert (
        set(featureflow.__all__) == {"Project", "Store", "Table", "Dataset", "open", "load_shards"} | errors
    )


def test_language_and_library_name_the_same_aggregations():
    assert set(OPS) == set(AGGREGATIONS)
