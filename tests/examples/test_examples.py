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
        "climate.py",
        "volumes.py",
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


@pytest.mark.parametrize(
    ("name", "package", "texts"),
    [
        (
            "climate.py",
            "hvsampledata",
            ["'time': 20, 'lat': 25, 'lon': 53", "('train', 120)", "air (32, 4, 8, 8)"],
        ),
        ("volumes.py", "nibabel", ["0.0 to 1.0", "'test': 105, 'train': 140", "image (16, 8, 8, 8) float32"]),
    ],
)
def test_examples_of_grids(name: str, package: str, texts: list[str], tmp_path: Path) -> None:
    pytest.importorskip(package)
    pytest.importorskip("matplotlib")
    command = [sys.executable, str(EXAMPLES / name), "picture.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(text in done.stdout for text in texts), done.stdout
    (picture,) = tmp_path.iterdir()
    assert picture.read_bytes()[:4] == b"\x89PNG"


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
