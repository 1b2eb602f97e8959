"""Every example runs as it is and shows what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_all_examples_are_run_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"} == {
        "quickstart.py",
        "card_features.ipynb",
    }


def test_quickstart(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "quickstart.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "version 1:" in done.stdout
    assert "version 2, the rows of Tuesday:" in done.stdout
    assert "still version 2" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_notebook(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Jupyter's own, about its folders and event loops
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(EXAMPLES / "card_features.ipynb", as_version=4)
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
    texts = [str(output) for cell in notebook.cells for output in cell.get("outputs", [])]
    agree = next(match for text in texts if (match := re.search(r"(\d+) of (\d+) rows agree", text)))
    assert agree[1] == agree[2] != "0"
    assert any("text/html" in text for text in texts)
