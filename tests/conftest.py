"""What all tests share: Hypothesis profiles, the `slow` marker, and a factory of small projects."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import polars as pl

_common = {
    "deadline": None,  # the first example compiles Numba functions
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("ci", derandomize=True, max_examples=50, **_common)
settings.register_profile("random", max_examples=500, print_blob=True, **_common)
# the same examples in every run; `FEATUREFLOW_HYPOTHESIS=random pytest` looks for new ones
settings.load_profile(os.environ.get("FEATUREFLOW_HYPOTHESIS", "ci"))


# texts are as wide as where there is no terminal, wherever the tests run
os.environ.pop("COLUMNS", None)

#: run with -m and their name
_MARKED_SETS = ("slow", "readers", "clusters", "faults")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of the marked sets, unless -m or a single test's id asks for them."""
    if config.getoption("-m") or any("::" in argument for argument in config.args):
        return
    asked_for = [item for item in items if any(item.get_closest_marker(name) for name in _MARKED_SETS)]
    if asked_for:
        config.hook.pytest_deselected(items=asked_for)
        items[:] = [item for item in items if item not in asked_for]


@dataclass
class TinyProject:
    """A project in a folder of its own: `data/<source>/*.parquet`, `featureflow.yaml`, `store/`.

    In the text of the spec, `{data}` stands for the data folder.
    """

    folder: Path
    spec: Path = field(init=False)
    store: Path = field(init=False)

    def __post_init__(self) -> None:
        self.spec = self.folder / "featureflow.yaml"
        self.store = self.folder / "store"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def write(self, source: str, rows: pl.DataFrame | Sequence[Mapping[str, Any]], file: str = "a") -> Path:
        """Write (or replace) one Parquet file of a source; its new mtime is always another one."""
        import polars as pl

        frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows))
        path = self.data / source / f"{file}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat().st_mtime_ns if path.exists() else 0
        frame.write_parquet(path)
        if path.stat().st_mtime_ns == before:
            os.utime(path, ns=(before + 1_000_000, before + 1_000_000))
        return path

    def describe(self, text: str) -> Path:
        """Write the spec."""
        self.spec.write_text(text.replace("{data}", str(self.data)))
        return self.spec

    def open(self, **options: Any) -> Any:
        """Open it as a `featureflow.Project`."""
        import featureflow

        return featureflow.Project(str(self.spec), store=str(self.store), **options)


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., TinyProject]:
    """Make a project: `make_project(spec_text, transactions=rows, merchants=frame)`."""

    def make(spec: str, name: str = "project", **sources: Any) -> TinyProject:
        project = TinyProject(tmp_path / name)
        project.folder.mkdir()
        for source, rows in sources.items():
            project.write(source, rows)
        project.describe(spec)
        return project

    return make
