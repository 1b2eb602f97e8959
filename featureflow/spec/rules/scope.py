"""What the rules of a spec look at."""

from __future__ import annotations

from dataclasses import dataclass, field

from featureflow.spec.datasets import Spine
from featureflow.spec.dependencies import grid_behind
from featureflow.spec.models import Project
from featureflow.spec.names import dataset_columns, table_columns
from featureflow.spec.paths import Path


@dataclass(slots=True)
class Scope:
    """The parts of a spec that could be read, and the names of all.

    Parameters
    ----------
    project
        Without the parts that have mistakes of their own.
    declared
        Names by section, also of the parts that could not be read: a reference to one of these is no mistake.
    incomplete
        ``(section, name)`` of parts from which something was left out.
    """

    project: Project
    declared: dict[str, list[str]]
    incomplete: set[tuple[str, str]] = field(default_factory=set)
    _columns: dict[str, list[tuple[str, Path]]] = field(default_factory=dict, init=False)

    def complete(self, section: str, name: str) -> bool:
        """Whether nothing was left out of a part, so that what it lacks is really not there."""
        return (section, name) not in self.incomplete

    def has_table(self, name: str) -> bool:
        """Whether a source or feature table of this name could be read, and all that it reads as well."""
        seen: set[str] = set()
        while name in self.project.features and name not in seen:
            seen.add(name)
            name = self.project.features[name].source
        return name in self.project.sources and self.complete("sources", name) and not self.is_grid(name)

    def is_grid(self, name: str) -> bool:
        """Whether a name is that of a grid, or of a source of N-d data, that could be read."""
        source = self.project.sources.get(name)
        return name in self.project.grids or (source is not None and source.is_grid)

    def is_zonal(self, name: str) -> bool:
        """Whether a name is that of a grid of zones, which has rows; its columns are known when it is compiled."""
        grid = self.project.grids.get(name)
        return grid is not None and grid.is_zonal

    def knows_columns(self, name: str) -> bool:
        """Whether the spec alone tells all columns of a feature table.

        Of zones the name of their time is not in it, and of a grid that is looked up its variables may not be.
        """
        feature = self.project.features.get(name)
        if feature is None or not self.complete("features", name) or grid_behind(self.project, name):
            return False
        return not any(lookup.takes_all for lookup in feature.lookup)

    def time_of(self, name: str) -> str | None:
        """Name of the time column of a source or feature table; None if it has none, or is unknown."""
        return time_of(self.project, name)

    def knows_time(self, spine: Spine) -> bool:
        """Whether it is known which time the rows of a spine have, or that they have none."""
        return spine.time is not None or spine.source is None or self.has_table(spine.source)

    def time_of_spine(self, spine: Spine) -> str | None:
        """Name of the time column of a spine: its own, otherwise that of its source."""
        return spine.time or (self.time_of(spine.source) if spine.source is not None else None)

    def columns_of_spine(self, spine: Spine) -> list[str] | None:
        """All columns that a spine's rows have; None if only its files tell."""
        if spine.source not in self.project.features or not self.complete("features", spine.source):
            return None
        known = self.has_table(spine.source) and self.knows_columns(spine.source)
        return self.columns_of(spine.source) if known else None

    def placed_columns(self, name: str) -> list[tuple[str, Path]]:
        """Columns of a feature table with their places in it; see :func:`table_columns`."""
        if name not in self._columns:
            feature = self.project.features[name]
            self._columns[name] = table_columns(feature, self.time_of(feature.source))
        return self._columns[name]

    def columns_of_dataset(self, name: str) -> list[str] | None:
        """All columns of a dataset but the encoded ones; None where the spec alone does not tell."""
        dataset = self.project.datasets[name]
        spine, tables = dataset.spine, [used.table for used in dataset.features]
        if spine.columns is None and self.columns_of_spine(spine) is None:
            return None
        read = all(self.knows_columns(table) and self.has_table(table) for table in tables)
        read = read and not any(lookup.takes_all for lookup in dataset.lookup)
        if not read or not self.complete("datasets", name) or not self.knows_time(spine):
            return None
        placed = dataset_columns(dataset, self.time_of_spine(spine), self.columns_if_table)
        labels = [label.column for label in dataset.label if label.source is None and label.column]
        return list(dict.fromkeys([*(column for column, _ in placed), *labels]))

    def columns_if_table(self, name: str) -> list[tuple[str, Path]] | None:
        """Columns of a feature table with their places in it; None for anything else."""
        return self.placed_columns(name) if name in self.project.features else None

    def columns_of(self, name: str) -> list[str]:
        """Columns of a feature table, each once, in order."""
        return list(dict.fromkeys(column for column, _ in self.placed_columns(name)))

    def dropped(self, source: str) -> set[str]:
        """Columns that a source leaves out."""
        found = self.project.sources.get(source)
        return {column for column, how in found.mask.items() if how == "drop"} if found is not None else set()


def time_of(project: Project, name: str) -> str | None:
    """Name of the time column of a source or feature table: a table's is that of its source.

    None if the source has none, or if there is no such table.
    """
    seen: set[str] = set()
    while name in project.features and name not in seen:
        seen.add(name)
        name = project.features[name].source
    source = project.sources.get(name)
    return source.time if source is not None else None
