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
        "training_set.ipynb",
    }


def test_quickstart(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "quickstart.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "version 1:" in done.stdout
    assert "version 2, the rows of Tuesday:" in done.stdout
    assert "still version 2" in done.stdout
    assert list(tmp_path.iterdir()) == []


def outputs(name: str, folder: Path) -> list[str]:
    """Run a notebook in a folder; what its cells put out."""
    pytest.importorskip("ipykernel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Jupyter's own, about its folders and event loops
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(EXAMPLES / name, as_version=4)
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
        client.execute()
    return [str(output) for cell in notebook.cells for output in cell.get("outputs", [])]


def test_notebook(tmp_path: Path) -> None:
    texts = outputs("card_features.ipynb", tmp_path)
    agree = next(match for text in texts if (match := re.search(r"(\d+) of (\d+) rows agree", text)))
    assert agree[1] == agree[2] != "0"
    assert any("text/html" in text for text in texts)


def test_notebook_of_a_training_set(tmp_path: Path) -> None:
    text = "\n".join(outputs("training_set.ipynb", tmp_path))
    agree = re.search(r"(\d+) of (\d+) labels agree, (\d+) of them unknown", text)
    assert agree is not None
    assert agree[1] == agree[2] == "329"
    assert int(agree[3]) == 36
    assert "as stored: True" in text
    assert "goes on where it was: True" in text
    assert "part-00000-of-00001.tar" in text
    assert list(tmp_path.iterdir()) == []
