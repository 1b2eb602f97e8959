"""``export``: a version of a dataset as training shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from featureflow.cli.options import (
    Bytes,
    engine_options,
    json_option,
    quiet_option,
    store_option,
    target_option,
)
from featureflow.cli.output import emit_json, look
from featureflow.cli.stores import open_store, target_here

if TYPE_CHECKING:
    from featureflow.datasets.dataset import Dataset
    from featureflow.spec.exports import Export
    from featureflow.spec.models import Target

# As in spec/exports.py, which is not imported before the command runs: it needs pydantic. A test compares.
FORMATS = ("arrow", "parquet", "webdataset", "mds", "tfrecord", "npy", "zarr", "litdata")
COMPRESSIONS = ("none", "zstd", "lz4", "gzip")
LAYOUTS = ("columns", "matrix")
FLOATS = ("float32", "float64", "keep")
NULLS = ("error", "nan")
#: Options of the spec that are about its format: another format does not take them over.
_OF_FORMAT = ("compression", "rows_per_record")


@click.command(short_help="Training shards of a dataset.")
@click.argument("name", metavar="DATASET[@V]")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="What readers they are for.")
@click.option(
    "--path", metavar="URL", help="Shards go to URL/DATASET/VERSION; the store's exports/ when omitted."
)
@click.option("--shard-size", type=Bytes(), metavar="SIZE", help="Of a shard before compression, as 256MB.")
@click.option("--shuffle-seed", type=int, metavar="N", help="Seed of the global shuffle.")
@click.option("--no-shuffle", is_flag=True, help="Rows in the spine's order.")
@click.option("--compression", type=click.Choice(COMPRESSIONS))
@click.option(
    "--rows-per-record", type=click.IntRange(1, 65_536), metavar="N", help="Of formats that have records."
)
@click.option("--layout", type=click.Choice(LAYOUTS), help="matrix: all numeric features in one column.")
@click.option("--float", "float_", type=click.Choice(FLOATS), help="Type of floating columns.")
@click.option("--nulls", type=click.Choice(NULLS), help="Of floating columns: an error, or NaN.")
@click.option("--replace", is_flag=True, help="Remove shards of other options that are in the folder.")
@store_option
@target_option
@engine_options
@quiet_option
@json_option
def export(
    name: str,
    format_: str | None,
    path: str | None,
    shard_size: int | None,
    shuffle_seed: int | None,
    no_shuffle: bool,
    compression: str | None,
    rows_per_record: int | None,
    layout: str | None,
    float_: str | None,
    nulls: str | None,
    replace: bool,
    store: str | None,
    target: str | None,
    quiet: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Write a version of DATASET as shards, shuffled over the whole split, with a manifest and checksums.

    What is not given is as under `export:` in the spec that the version was built from, or the default. An export that
    is there already is not written again; one that was interrupted goes on.
    """
    from featureflow.observe.exports import export_report

    if no_shuffle and shuffle_seed is not None:
        raise click.UsageError("--shuffle-seed and --no-shuffle exclude each other.")
    given = {
        "format": format_,
        "path": path,
        "shard_size": shard_size,
        "shuffle": False if no_shuffle else None if shuffle_seed is None else {"seed": shuffle_seed},
        "compression": compression,
        "rows_per_record": rows_per_record,
        "layout": layout,
        "float": float_,
        "nulls": nulls,
    }
    opened = open_store(store, target)
    dataset = opened.dataset(name)
    options = _options(dataset, {key: value for key, value in given.items() if value is not None})
    described = _export(
        dataset, options, opened.url, engine, target_here(target), quiet=quiet, replace=replace
    )
    if as_json:
        emit_json(described)
    else:
        click.echo(export_report(described, **look()))


def _options(dataset: Dataset, given: dict[str, Any]) -> Export:
    """What is given, over what the version's own spec says."""
    from pydantic import ValidationError

    from featureflow.core.errors import PlanError
    from featureflow.spec.exports import Export

    own = dict((dataset.definition or {}).get("dataset", {}).get("export") or {})
    if given.get("format", own.get("format", "arrow")) != own.get("format", "arrow"):
        own = {key: value for key, value in own.items() if key not in _OF_FORMAT}
    try:
        return Export.model_validate({**own, **given})
    except ValidationError as error:
        (first, *_) = error.errors()
        place = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"export.{place}: {first['msg'].removeprefix('Value error, ')}") from None


def _export(
    dataset: Dataset,
    options: Export,
    store_url: str,
    engine: dict[str, Any],
    target: Target,
    *,
    quiet: bool,
    replace: bool,
) -> dict[str, Any]:
    import os

    from featureflow.api import default_scratch
    from featureflow.core.sizes import parse_bytes
    from featureflow.execute.executors import keep_freed_memory
    from featureflow.execute.opening import Where, open_site
    from featureflow.export.dataset import describe_export, export_dataset, shown_by
    from featureflow.observe.progress import choose_progress

    keep_freed_memory()
    progress = choose_progress(quiet=quiet)
    where = Where(
        store_url,
        os.path.abspath(os.path.expanduser(engine["scratch"] or target.scratch or default_scratch())),
        scheduler=engine["scheduler"] or target.scheduler,
        workers=engine["workers"] or target.workers,
        memory_bytes=engine["memory"] or (parse_bytes(target.memory) if target.memory else None),
        target=target,
    )
    try:
        with open_site(where, progress) as site:
            progress.start(f"export {dataset}")
            folder, manifest = export_dataset(
                dataset,
                options,
                store_url=store_url,
                executor=site.executor,
                scratch=site.board,
                progress=shown_by(progress, dataset.name),
                replace=replace,
            )
    finally:
        progress.finish()
    return describe_export(folder, manifest)
