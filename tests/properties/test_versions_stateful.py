"""A table's life against a dict: publish, kill, restore, tag, collect, verify, read, in any order.

The model keeps the rows of every version. Whatever happened, every kept version reads as it was published, expired
ones say so, Delta readers see the latest, and no file of a kept version is lost.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from featureflow.core import storage
from featureflow.core.errors import TableError
from featureflow.core.fingerprints import fingerprint
from featureflow.tables import tags, versions
from featureflow.tables.collect import gc
from featureflow.tables.commit import publish
from featureflow.tables.history import history
from featureflow.tables.layout import file_path
from featureflow.tables.parquet_files import find_staged, write_file
from featureflow.tables.restore import restore
from featureflow.tables.state import current_state
from featureflow.tables.store import open_table
from featureflow.tables.verify import verify

DAYS = ["2026-01-01", "2026-01-02", None]
SCHEMAS = [
    pa.schema([("k", pa.int64()), ("t", pa.timestamp("us", "UTC")), ("v", pa.float64())]),
    pa.schema([("k", pa.int64()), ("t", pa.timestamp("us", "UTC")), ("v", pa.string()), ("w", pa.int64())]),
]
UNITS = st.dictionaries(
    st.tuples(st.sampled_from(DAYS), st.integers(0, 1)),
    st.lists(st.integers(0, 9), max_size=3),
    min_size=1,
    max_size=4,
)


class Killed(BaseException):
    """The process ends here."""


class Life(RuleBasedStateMachine):
    """See the module's text."""

    @initialize()
    def start(self) -> None:
        """An empty store; `content[n]` is (schema, {(day, bucket): values}) of version n."""
        self.root = tempfile.mkdtemp()
        self.url = f"{self.root}/t"
        self.content: dict[int, tuple[int, dict[Any, list[int]]]] = {}
        self.tags: dict[str, int] = {}
        self.expired: set[int] = set()
        self.builds = 0

    def teardown(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def latest(self) -> int:
        """Number of the latest version."""
        return max(self.content, default=0)

    def table_of(self, schema: int, unit: Any, values: list[int]) -> pa.Table:
        """Rows of a unit; `t` is null where the day is."""
        n = len(values)
        time = [None if unit[0] is None else 86_400_000_000 * v for v in values]
        columns: list[Any] = [pa.array(values, pa.int64()), pa.array(time, SCHEMAS[0].field("t").type)]
        columns += [[v / 2 for v in values]] if schema == 0 else [[str(v) for v in values], [unit[1]] * n]
        return pa.table(
            [pa.array(c, f.type) for c, f in zip(columns, SCHEMAS[schema], strict=True)],
            schema=SCHEMAS[schema],
        )

    def publish(self, units: dict[Any, list[int]], schema: int, stop: str | None = None) -> None:
        """Replace units, or everything where the schema changes; perhaps die at a phase."""
        self.builds += 1
        state = current_state(self.url)
        before = self.content.get(self.latest, (schema, {}))
        replaced = list(state.units) if state and before[0] != schema else list(units)
        adds = []
        for unit, values in units.items():
            path = file_path("day", unit[0], unit[1], fingerprint([schema, str(unit), str(values)], length=8))
            staged = find_staged(self.url, path)
            adds.append(
                staged
                or write_file(self.table_of(schema, unit, values), self.url, path, keys=["k"], time="t")
            )

        def on_phase(phase: str) -> None:
            if phase == stop:
                raise Killed

        try:
            publish(
                self.url,
                schema=SCHEMAS[schema],
                partition="day",
                keys=["k"],
                time="t",
                adds=adds,
                removes=[state.units[u].path for u in replaced if u in state.units] if state else [],
                record={
                    "build": f"b{self.builds}",
                    "definition_hash": str(schema),
                    "definition": {"schema": schema},
                },
                expected_version=state.version if state else None,
                on_phase=on_phase,
            )
        except Killed:
            if stop in ("checked", "recorded"):
                return
        kept = before[1] if before[0] == schema else {}
        self.content[self.latest + 1] = (schema, {**kept, **units})

    @rule(units=UNITS, schema=st.integers(0, 1))
    def build(self, units: dict[Any, list[int]], schema: int) -> None:
        """A build that goes well."""
        self.publish(units, schema)

    @rule(units=UNITS, stop=st.sampled_from(["checked", "recorded", "committed"]))
    def killed_build(self, units: dict[Any, list[int]], stop: str) -> None:
        """A build that is killed around the commit."""
        self.publish(units, self.content[self.latest][0] if self.content else 0, stop)

    @precondition(lambda self: self.content)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Make an old version the next one."""
        number = data.draw(st.sampled_from(sorted(self.content)))
        self.builds += 1
        if number in self.expired:
            with pytest.raises(TableError, match="expired"):
                restore(self.url, "t", str(number), build=f"b{self.builds}")
            return
        assert restore(self.url, "t", str(number), build=f"b{self.builds}").version == self.latest + 1
        self.content[self.latest + 1] = self.content[number]

    @precondition(lambda self: self.content)
    @rule(tag=st.sampled_from(["prod", "old"]), data=st.data())
    def tag(self, tag: str, data: st.DataObject) -> None:
        """Move a tag."""
        number = data.draw(st.sampled_from(sorted(set(self.content) - self.expired)))
        tags.set_tag(self.url, tag, number)
        self.tags[tag] = number

    @precondition(lambda self: self.content)
    @rule(keep=st.integers(1, 3), late=st.booleans())
    def collect(self, keep: int, late: bool) -> None:
        """Collect garbage; `late`: so much later that leftovers of killed builds go too."""
        now = datetime.now(UTC) + timedelta(days=30 if late else 0)
        done = gc(self.url, "t", keep=keep, now=now)
        known = sorted(set(self.content) - self.expired)
        expected = set(known[:-keep]) - set(self.tags.values())
        assert set(done.expired) == expected
        self.expired |= expected
        if late:
            listed = {f.path for n in done.kept for f in open_table(self.url, "t", str(n)).state.files}
            found = {str(p.relative_to(self.url)) for p in Path(self.url).glob("day=*/*")}
            assert found == listed

    @precondition(lambda self: self.content)
    @rule(number=st.integers(0, 3))
    def lose_projections(self, number: int) -> None:
        """As if publishers had been killed before projecting."""
        for gone in range(max(1, self.latest - number + 1), self.latest + 1):
            storage.delete(f"{self.url}/{versions.version_path(gone)}")

    @invariant()
    def every_version_reads_as_published(self) -> None:
        """The heart."""
        if not getattr(self, "content", None):
            return
        assert [e.info.version for e in history(self.url)] == list(range(self.latest, 0, -1))
        for number, (schema, units) in self.content.items():
            if number in self.expired:
                with pytest.raises(TableError, match="expired"):
                    open_table(self.url, "t", str(number))
                continue
            table = open_table(self.url, "t", str(number))
            expected = [(day, bucket, v) for (day, bucket), values in units.items() for v in values]
            found = table.to_polars(["k", "day"])
            rows = [(d and str(d), k) for k, d in found.rows()]
            assert sorted(rows, key=repr) == sorted([(d, v) for d, _, v in expected], key=repr)
            assert table.schema.equals(SCHEMAS[schema]) and table.rows == len(expected)
            sums = table.record["statistics"]["k"]
            assert (sums["count"], sums.get("sum", 0)) == (len(expected), sum(v for _, _, v in expected))
        for tag, number in self.tags.items():
            assert open_table(self.url, "t", tag).version == number
        assert verify(self.url, "t").problems == ()
        delta = pl.read_delta(self.url)
        assert sorted(delta["k"]) == sorted(
            v for values in self.content[self.latest][1].values() for v in values
        )


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=15, deadline=None, derandomize=True)
