"""Grids for people and as JSON values: what a build would do to one, and what a definition makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featureflow.observe.units import plural, size

if TYPE_CHECKING:
    import xarray as xr

    from featureflow.execute.grids.planning import GridPlan
    from featureflow.plan.grid_nodes import CompiledGrid


def describe_grid(plan: GridPlan) -> dict[str, Any]:
    """Describe what a build would do to a grid, as the plan of a table; ``estimate`` has the numbers of its chunks."""
    grid = plan.grid
    return {
        "kind": "grid",
        "name": grid.name,
        "change": plan.change,
        "reason": plan.reason,
        "publishes": plan.does_something,
        "version": None if plan.state is None else plan.state.version,
        "definition_hash": grid.definition_hash,
        "partition": "none",
        "buckets": 1,
        "compute": ["all"] if plan.missing else [],
        "reuse": ["all"] if plan.estimate["chunks_reused"] else [],
        "drop": [],
        "reads": [
            {"kind": found.kind, "name": name, "use": "values" if name == grid.source.name else "beside"}
            for name, found in grid.inputs.items()
        ],
        "dims": _sizes(grid.outline),
        "chunks": dict(grid.chunks),
        "shards": None if grid.shards is None else dict(grid.shards),
        "task": dict(zip(plan.lattice.dims, plan.cut.shape, strict=True)),
        "estimate": dict(plan.estimate),
        "notes": [*grid.notes, *plan.notes],
    }


def grid_facts(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """Give the lines of a grid's plan: what is computed, kept, read, written, and held in memory."""
    estimate = entry["estimate"]
    chunk = " × ".join(f"{dim} {n}" for dim, n in entry["chunks"].items())  # noqa: RUF001
    computed = f"{plural(estimate['chunks_computed'], 'chunk')} of {chunk}"
    if not entry["compute"]:
        computed = "nothing; coordinates and attributes are written"
    else:
        computed += f", {plural(estimate['tasks'], 'task')}"
    if estimate["fits"]:
        computed += f", after {plural(estimate['fits'], 'part')} of what steps learn"
    facts = [("compute", computed)]
    if estimate["chunks_reused"]:
        facts.append(("reuse", plural(estimate["chunks_reused"], "chunk")))
    facts.append(("read", _read_text(entry)))
    if estimate["bytes_rechunked"]:
        through, n = size(estimate["bytes_rechunked"]), plural(estimate["rechunk_tasks"], "task")
        said = (
            f"{through} through scratch, {n} before: stored chunks lie across the tasks, and are decoded once"
        )
        facts.append(("rechunk", said))
    facts.append(("write", f"{size(estimate['bytes_written'])} before compression"))
    if estimate["task_bytes"]:
        share = estimate["task_bytes"] / max(1, estimate["budget_bytes"])
        shown = f"{share:.0%}" if share >= 0.01 else "< 1%"
        facts.append(
            ("memory", f"{size(estimate['task_bytes'])} a task of {size(estimate['budget_bytes'])} ({shown})")
        )
    return facts


def _read_text(entry: dict[str, Any]) -> str:
    estimate = entry["estimate"]
    names = ", ".join(item["name"] for item in entry["reads"])
    text = size(estimate["bytes_read"])
    if estimate["bytes_touched"] and estimate["bytes_read"] > 1.01 * estimate["bytes_touched"]:
        text += f", {estimate['bytes_read'] / estimate['bytes_touched']:.2f} times what is needed"
    skipped = estimate["bytes_total"] - estimate["bytes_touched"]
    if skipped > 0:
        text += f", {size(skipped)} skipped"
    return f"{text}: {names}"


def describe_grid_definition(grid: CompiledGrid) -> dict[str, Any]:
    """Describe a compiled grid as JSON values: dimensions, variables with dtypes and units, chunks, its hash."""
    outline = grid.outline
    return {
        "name": grid.name,
        "kind": "grid",
        "source": {"kind": grid.source.kind, "name": grid.source.name},
        "lookups": [{"kind": other.kind, "name": name} for name, other in grid.others.items()],
        "steps": [link.name for link in grid.links],
        "dims": _sizes(outline),
        "chunks": dict(grid.chunks),
        "shards": None if grid.shards is None else dict(grid.shards),
        "coordinates": [
            {
                "name": str(name),
                "dims": [str(dim) for dim in coordinate.dims],
                "type": str(coordinate.dtype),
                "units": _units(coordinate),
            }
            for name, coordinate in outline.coords.items()
        ],
        "definition_hash": grid.definition_hash,
        "columns": [
            {
                "name": str(name),
                "type": str(variable.dtype),
                "dims": [str(dim) for dim in variable.dims],
                "units": _units(variable),
                "role": "variable",
                "from": list(grid.lineage.get(str(name), ())),
            }
            for name, variable in outline.data_vars.items()
        ],
    }


def grid_definition_facts(entry: dict[str, Any]) -> list[str]:
    """Give the short facts of a described grid."""
    reads = [entry["source"]["name"], *(item["name"] for item in entry["lookups"])]
    facts = [f"from {', '.join(dict.fromkeys(reads))}"]
    facts += [" → ".join(entry["steps"])] if entry["steps"] else []
    facts.append(" × ".join(f"{dim} {n}" for dim, n in entry["dims"].items()) or "no dimensions")  # noqa: RUF001
    facts.append("chunks " + " × ".join(f"{dim} {n}" for dim, n in entry["chunks"].items()))  # noqa: RUF001
    return [*facts, plural(len(entry["columns"]), "variable")]


def _sizes(outline: xr.Dataset) -> dict[str, int]:
    return {str(dim): int(n) for dim, n in outline.sizes.items()}


def _units(variable: xr.DataArray) -> str | None:
    found = variable.attrs.get("units", variable.encoding.get("units"))
    return None if found is None else str(found)
