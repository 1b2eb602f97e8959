"""The readers' code of the pages on shards, as it stands there, in environments with the real libraries."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from docs.pages import ALL_BLOCKS, ROOT, blocks
from docs.test_docs_code import command
from readers.environment import interpreter

pytestmark = pytest.mark.readers

FRAUD = ROOT / "featureflow" / "demo" / "templates" / "fraud"
SAYS = "pytest -m readers runs this"
SHOWN = [block for block in ALL_BLOCKS if block.page.startswith("docs/shards/") and SAYS in block.value]


def test_all_libraries_are_shown():
    shown = "".join(block.text for block in SHOWN)
    for library in (
        "webdataset",
        "wids",
        "streaming",
        "tensorflow",
        "tfrecord",
        "litdata",
        "datasets",
        "torch",
    ):
        assert f"import {library}" in shown or f"from {library}" in shown


@pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.name)
def test_the_code_of_the_page_runs(block, tmp_path, monkeypatch):
    import featureflow as ff

    python = interpreter("tensorflow" if "import tensorflow" in block.text else "torch")
    project = tmp_path / "project"
    shutil.copytree(FRAUD, project)
    monkeypatch.chdir(project)
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(tmp_path / "scratch"))
    ff.Project("featureflow.yaml").build()
    page = blocks(ROOT / block.page)
    for line in next(one for one in page if one.language == "sh").text.splitlines():
        command(line)
    # what the page ran before with NumPy alone
    lines = [b.text for b in page if b.line < block.line and b.text.startswith("import numpy")] + [block.text]
    script = tmp_path / "page.py"
    script.write_text(
        "if __name__ == '__main__':\n" + "".join(f"    {x}\n" for x in "".join(lines).splitlines())
    )
    found = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [python, str(script)], capture_output=True, text=True, timeout=300, check=False, env=found
    )
    assert done.returncode == 0, done.stderr[-3000:]
