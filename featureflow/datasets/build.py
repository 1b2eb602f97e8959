"""Build a dataset: read the spine, join, put the pieces together, split, encode, check, publish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pyarrow as pa

from featureflow.contracts.check import CheckResult
from featureflow.contracts.cube import Cube
from featureflow.core.errors import TableError
from featureflow.datasets.assembly import Assembly, assemble
from featureflow.datasets.encoding import plan_encoders
from featureflow.datasets.finishing import Finished, Finishing, finish_pieces
from featureflow.datasets.grid_lookups import PointRouting, look_up_rows
from featureflow.datasets.joins import JoinTask, run_join
from featureflow.datasets.patch_record import remember
from featureflow.datasets.patches import PatchIndexing, index_patches
from featureflow.datasets.place import dataset_url
from featureflow.datasets.planning import ALL, TASK_BYTES, DatasetPlan, JoinPlan, plan_dataset
from featureflow.datasets.spine import Routing, SpineFile, SpineReader, read_spine, route_spine
from featureflow.execute.build_plan import BuildPlan
from featureflow.execute.checks.checking import BoundCheck, bind, notes_folder
from featureflow.execute.checks.judgement import judge_table
from featureflow.execute.exchange.manifest import write_list
from featureflow.execute.exchange.rekeying import file_of, reads_of, rekey_chunks
from featureflow.execute.grids.zone_rows import gridded, tabular
from featureflow.execute.inputs import Readable
from featureflow.execute.publish import publish_table
from featureflow.execute.site import Site
from featureflow.execute.sizing import RowEstimate
from featureflow.execute.task import Task
from featureflow.observe.datasets import dataset_summary
from featureflow.observe.plans import describe_table
from featureflow.observe.report import TableOutcome
from featureflow.plan.dataset_nodes import CompiledDataset, WindowJoin
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import Lookup
from featureflow.tables.state import current_state

#: Gives what a name stands for: rows, or a grid.
Source = Callable[[str], Readable | Cube]


class DatasetBuild:
    """One dataset of a build: computes it, and publishes it when everything of the build has been checked."""

    def __init__(self, plan: DatasetPlan, site: Site, checks: tuple[BoundCheck, ...]) -> None:
        self.plan, self.dataset, self.site, self.checks = plan, plan.dataset, site, checks
        self.url = dataset_url(site.store_url, plan.dataset.name)
        self.folder = site.shelf
        self.results: list[CheckResult] = []
        self._partials: dict[str, Any] = {}
        self.finished: Finished | None = None

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.dataset.name

    @property
    def lineage(self) -> dict[str, tuple[str, ...]]:
        """Input columns of each column."""
        return self.dataset.lineage

    @property
    def warnings(self) -> list[str]:
        """What its author should know: columns left out, and what the split was found to leak."""
        return [*self.dataset.notices, *(self.finished.warnings if self.finished else ())]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Sources, tables and grids that its rows come from."""
        names = [self.dataset.spine.name, *(self.dataset.patches.inputs if self.dataset.patches else ())]
        for use in self.dataset.uses:
            names += [use.table]
        names += [join.right.name for join in self.dataset.joins]
        return tuple(dict.fromkeys(names))

    @property
    def array_inputs(self) -> dict[str, dict[str, Any]]:
        """What it reads of sources of N-d data itself, by name: how much, and a name of all of it."""
        labels = self.dataset.patches.label_input if self.dataset.patches else None
        if labels is None or labels.cube is None:
            return {}
        pieces = labels.cube.pieces()
        found = {"pieces": len(pieces), "bytes": sum(piece.size for piece in pieces)}
        return {labels.name: {**found, "fingerprint": self.plan.inputs[labels.name]}}

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns that are the spine's."""
        return self.dataset.carried

    def rows(self, source: Source) -> pa.Table:
        """Compute the rows, in the spine's order, and give them back; nothing is split, encoded or kept.

        Cost: all rows in memory.
        """
        job = self.assemble(source)
        pieces: dict[str, pa.Table] = {}
        tasks = [
            Task(str(i), assemble, (job, i), f"{self.name}: assemble, piece {i}") for i in range(job.n_pieces)
        ]
        self.site.run(tasks, lambda task, made: pieces.update({task.key: made}))
        return pa.concat_tables([pieces[task.key] for task in tasks])

    def describe(self) -> dict[str, Any]:
        """What would happen, in the form of a table's plan."""
        n_pieces = max(1, -(-self.plan.estimate["rows"] // self.plan.piece_rows))
        described = describe_table(self.plan.as_table(n_pieces=n_pieces))
        patches = self.dataset.patches
        use = "patches" if patches else "rows"
        reads = [{"kind": self.dataset.spine.kind, "name": self.dataset.spine.name, "use": use}]
        if patches and patches.inputs[1:]:
            kind = "source" if patches.label_input else "grid"
            reads += [{"kind": kind, "name": name, "use": "labels"} for name in patches.inputs[1:]]
        for join in self.dataset.joins:
            use = "look-up" if isinstance(join, Lookup | GridLookup) else "windows"
            reads.append({"kind": join.right.kind, "name": join.right.name, "use": use})
        unique = [one for i, one in enumerate(reads) if one not in reads[:i]]
        return {**described, "kind": "dataset", "reads": unique, "notes": list(self.dataset.notices)}

    def compute(self, source: Source, now_us: int) -> list[CheckResult]:
        """Compute the rows and judge the checks; nothing becomes visible."""
        plan, state = self.plan, self.plan.state
        if plan.does_something:
            assembly = self.assemble(source)
            finishing = Finishing(assembly, self.url, plan.mark, self.checks, self._notes(), self.folder)
            self.finished = finish_pieces(finishing, self.site)
            if self.dataset.patches is not None:
                cubes = self._cubes(source)
                self.finished.patches = remember(self.dataset.patches, cubes)
            table, new = plan.as_table(self.finished.schema, assembly.n_pieces), self.finished.files
        elif state is not None:
            table, new = plan.as_table(state.schema, int(state.record["buckets"])), []
        self.results, self._partials = judge_table(
            self.site, table, state, [(ALL, staged) for staged in new], self.checks, now_us, root=self.url
        )
        return self.results

    def _notes(self) -> str:
        return notes_folder(self.site.board, self.checks)

    def assemble(self, source: Source) -> Assembly:
        """Read the spine and answer every join; what the pieces are put together from."""
        dataset, plan = self.dataset, self.plan
        files, times = self._spine(source)
        rows = sum(file.rows for file in files)
        spine = write_list(self.site.board, [[file.path, file.first, file.rows] for file in files])
        n_pieces = max(1, -(-rows // plan.piece_rows))
        answers = tuple(
            self._sample(one, one.join, source(one.join.right.name), files, n_pieces)
            if isinstance(one.join, GridLookup)
            else self._join(one, one.join, tabular(source(one.join.right.name)), files, times, n_pieces)
            for one in plan.joins
        )
        return Assembly(dataset, spine, answers, plan.piece_rows, rows)

    def _spine(self, source: Source) -> tuple[list[SpineFile], tuple[int, int] | None]:
        """The rows on scratch: read, or those of an index of patches, which is made here."""
        dataset, patches = self.dataset, self.dataset.patches
        if patches is None:
            return self._read_spine(tabular(source(dataset.spine.name)))
        job = PatchIndexing(patches, dataset.spine, self._cubes(source), self.plan.mark, self.folder)
        return index_patches(self.site, self.name, job)

    def _cubes(self, source: Source) -> dict[str, Cube]:
        """The grids and sources of N-d data that patches are cut out of, by name."""
        patches = self.dataset.patches
        found: dict[str, Cube] = {}
        for name in patches.inputs if patches else ():
            labels = patches.label_input if patches else None
            if labels is not None and labels.cube is not None and labels.name == name:
                found[name] = labels.cube
            else:
                found[name] = gridded(source(name))
        return found

    def _read_spine(self, readable: Readable) -> tuple[list[SpineFile], tuple[int, int] | None]:
        """Write the spine's rows to exchange files, chunk by chunk, and number them; also the range of their times."""
        dataset = self.dataset
        job = SpineReader(
            readable.reader,
            dataset.spine_columns,
            dict(dataset.spine.columns),
            dataset.where,
            dataset.time,
            self.folder,
        )
        stage = f"{dataset.name}: spine"
        self.site.progress.stage(stage, len(readable.chunks))
        paths = {chunk.id: job.path(readable.drop_name(chunk)) for chunk in readable.chunks}
        found: dict[str, tuple[int, int | None, int | None]] = {}
        tasks = [
            Task(
                chunk.id,
                read_spine,
                (job, chunk, paths[chunk.id], readable.drops.get(chunk.id)),
                f"{stage}, {file_of(chunk)}",
                reads_of(readable, chunk),
            )
            for chunk in readable.chunks
        ]

        def done(task: Task, result: tuple[int, int | None, int | None]) -> None:
            found[task.key] = result
            self.site.progress.advance(stage, rows=result[0])

        self.site.run(tasks, done)
        files, first = [], 0
        for chunk in readable.chunks:
            rows = found[chunk.id][0]
            files.append(SpineFile(paths[chunk.id], first, rows))
            first += rows
        if not files:
            files.append(SpineFile(job.write_empty(), 0, 0))
        low = [result[1] for result in found.values() if result[1] is not None]
        high = [result[2] for result in found.values() if result[2] is not None]
        return files, (min(low), max(high)) if low and high else None

    def _join(
        self,
        one: JoinPlan,
        join: WindowJoin | Lookup,
        right: Readable,
        files: list[SpineFile],
        times: tuple[int, int] | None,
        n_pieces: int,
    ) -> str:
        """Answer one join for all rows; returns the list of the answers' files."""
        name = self.dataset.name
        routed = self._route(one, files)
        shift = 0 if isinstance(join, Lookup) else join.shift_us
        columns = join.needed if isinstance(join, Lookup) else join.carried or join.needed
        chunks = []
        if times is not None:
            first = None if join.reach_us is None else times[0] + shift - join.reach_us
            last = times[1] + shift
            chunks = [chunk for chunk in right.chunks if _touches(chunk, first, last)]
        events, counts = rekey_chunks(
            self.site, name, right, join.right, columns, join.right_keys, one.n_buckets, chunks
        )
        latest = right.last_us
        share = -(-sum(file.rows for file in files) // one.n_buckets)
        estimate = RowEstimate([piece for piece in right.pieces() if piece.has_times])
        tasks = []
        for bucket in range(one.n_buckets):
            for start, end in _ranges(one, counts[bucket], share, times, estimate):
                job = JoinTask(
                    join,
                    bucket,
                    start,
                    end,
                    routed,
                    events,
                    latest,
                    self.plan.piece_rows,
                    n_pieces,
                    self.folder,
                )
                path = job.path
                label = f"{name}: join {join.right.name}, bucket {bucket}"
                tasks.append(Task(path, run_join, (job, path), label))
        stage = f"{name}: join {join.right.name}"
        self.site.progress.stage(stage, len(tasks))
        self.site.run(tasks, lambda _, n: self.site.progress.advance(stage, rows=n))
        return write_list(self.site.board, [[task.key] for task in tasks])

    def _sample(
        self, one: JoinPlan, lookup: GridLookup, right: Readable | Cube, files: list[SpineFile], n_pieces: int
    ) -> str:
        """Look all rows up in a grid; returns the list of the answers' files."""
        mark, cube = self.plan.inputs[lookup.right.name], gridded(right)
        routing = PointRouting(lookup, cube, mark, self.dataset.time, one.n_buckets, self.folder)
        return look_up_rows(self.site, self.name, routing, files, (self.plan.piece_rows, n_pieces))

    def _route(self, one: JoinPlan, files: list[SpineFile]) -> str:
        """Send the spine's rows to the buckets of a join; joins by the same columns share the files."""
        job = Routing(one.join.left_keys, self.dataset.time, one.n_buckets, self.folder)
        paths = [job.path(file) for file in files]
        todo = [
            Task(path, route_spine, (job, file, path), f"{self.dataset.name}: route, {file.path}")
            for path, file in zip(paths, files, strict=True)
        ]
        self.site.run(todo, lambda *_: None)
        return write_list(self.site.board, [[path] for path in paths])

    def publish(self, remembered: dict[str, Any]) -> TableOutcome:
        """Make the new version visible, if there is one."""
        plan, state, finished = self.plan, self.plan.state, self.finished
        published = None
        files = [] if finished is None else finished.files
        if finished is not None:
            n_pieces = finished.assembly.n_pieces
            table = plan.as_table(finished.schema, n_pieces)
            wanted = finished.assembly.rows
            found = sum(staged.rows for staged in files)
            if found != wanted:
                raise TableError(
                    f"{self.url}: the spine has {wanted} rows, but {found} were written. Nothing was published."
                )
            record = {
                **remembered,
                "description": self.dataset.spec.description,
                "owner": self.dataset.spec.owner,
                "tags": list(self.dataset.spec.tags),
                "dataset": finished.to_json(),
                "notices": list(self.dataset.notices),
                "check_partials": self._partials,
                "checks": [
                    {"label": r.label, "passed": r.passed, "message": r.message} for r in self.results
                ],
            }
            published = publish_table(table, self.url, state, [(ALL, staged) for staged in files], record)
        rows = published.rows if published else (state.info.rows if state else 0)
        return TableOutcome(
            name=self.name,
            change=plan.change,
            reason=plan.reason,
            version=published.version if published else None,
            previous_version=state.version if state else None,
            rows=rows,
            rows_written=sum(staged.rows for staged in files),
            files_written=len(files),
            files_reused=0 if published else (state.info.files if state else 0),
            slices_computed=int(plan.does_something),
            checks=[
                {
                    "name": r.label,
                    "passed": r.passed,
                    "on_fail": r.on_fail,
                    "message": r.message,
                    "rows": r.bad,
                }
                for r in self.results
            ],
            kind="dataset",
            dataset=self._summary(),
        )

    def _summary(self) -> dict[str, Any] | None:
        """How the rows fell into splits, and how many have labels; None if nothing was built yet."""
        state, nulls = self.plan.state, Counter[str]()
        if self.finished is not None:
            for staged in self.finished.files:
                nulls.update({name: one["nulls"] for name, one in staged.columns.items() if "nulls" in one})
            return dataset_summary(self.finished.to_json(), nulls, self.finished.assembly.rows)
        if state is None:
            return None
        found = state.record["statistics"]
        nulls.update({name: one["nulls"] for name, one in found.items() if "nulls" in one})
        return dataset_summary(state.record["dataset"], nulls, state.info.rows)


def prepare(dataset: CompiledDataset, plan: BuildPlan, *, full: bool) -> DatasetBuild:
    """Plan a dataset within a build that makes, or takes as published, the tables that it reads."""
    site = plan.site
    plan_encoders(dataset, dataset.schema)  # what can't be encoded is told before anything is computed
    state = current_state(dataset_url(site.store_url, dataset.name))
    planned = plan_dataset(dataset, plan.pieces, plan.buckets(), state, site, full=full)
    return DatasetBuild(planned, site, bind(dataset.spec.each_check, f"datasets.{dataset.name}"))


def _touches(chunk: Any, first: int | None, last: int) -> bool:
    return chunk.min_us is not None and chunk.min_us <= last and (first is None or chunk.max_us >= first)


def _ranges(
    one: JoinPlan, events: int, rows: int, times: tuple[int, int] | None, estimate: RowEstimate
) -> list[tuple[int | None, int | None]]:
    """Cut a bucket that is larger than a task by time: a hot key does not fit anything else.

    Cutting ends where the look-back alone fills a task, or where there is none (``lifetime``, no ttl).
    """
    reach = one.join.reach_us
    whole = one.task_bytes(events, rows)
    if whole <= TASK_BYTES or reach is None or times is None or times[1] <= times[0]:
        return [(None, None)]
    n_cuts = min(64, -(-whole // TASK_BYTES))
    low, high = times
    total = max(1, estimate.between(low, high + 1))
    edges, at = [], low
    for k in range(1, n_cuts):  # equal shares of the events' rows, by bisection
        a, b, wanted = at, high, total * k // n_cuts
        while b - a > 1:
            middle = (a + b) // 2
            a, b = (middle, b) if estimate.between(low, middle) < wanted else (a, middle)
        at = b
        edges.append(at)
    bounds: list[int | None] = [None, *dict.fromkeys(edges), None]
    return list(pairwise(bounds))
