"""The list of all rules.

A rule is a function of a :class:`Scope` that yields findings. All run, so that an author sees every mistake at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from featureflow.spec.messages import Finding
from featureflow.spec.rules.aggregates import aggregate_rules
from featureflow.spec.rules.checks import check_rules
from featureflow.spec.rules.datasets import dataset_rules
from featureflow.spec.rules.grids import grid_rules
from featureflow.spec.rules.learning import learning_rules
from featureflow.spec.rules.patches import patch_rules
from featureflow.spec.rules.scope import Scope
from featureflow.spec.rules.sources import source_rules
from featureflow.spec.rules.tables import table_rules
from featureflow.spec.rules.targets import target_rules

#: every family of rules; the findings are sorted by place afterwards
RULES: tuple[Callable[[Scope], Iterator[Finding]], ...] = (
    table_rules,
    source_rules,
    grid_rules,
    aggregate_rules,
    check_rules,
    dataset_rules,
    patch_rules,
    learning_rules,
    target_rules,
)
