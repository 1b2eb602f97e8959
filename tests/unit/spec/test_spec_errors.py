"""Every message an author can see, as a golden text next to the YAML that causes it.

`FEATUREFLOW_REGENERATE=1 pytest tests/unit/spec/test_spec_errors.py` writes the texts anew; read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featureflow.core.errors import SpecError
from featureflow.spec.load import load_text

GOLDEN = Path(__file__).parents[2] / "golden" / "spec_errors"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


@pytest.mark.parametrize("name", CASES)
def test_error_text(name: str) -> None:
    text = (GOLDEN / f"{name}.yaml").read_text()
    with pytest.raises(SpecError) as caught:
        load_text(text, f"{name}.yaml", env={})
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("FEATUREFLOW_REGENERATE"):
        expected.write_text(f"{caught.value}\n")
    assert str(caught.value) == expected.read_text().rstrip("\n")


def test_there_are_cases() -> None:
    assert len(CASES) >= 12
