"""Which columns no shard can hold, whatever its format, and what to do about them."""

from __future__ import annotations

import pyarrow as pa

from featureflow.contracts.shard_format import ShardOptions
from featureflow.core.errors import ComputeError
from featureflow.library.shards.columns import element_type_and_shape, is_fixed, is_text


def check_columns(schema: pa.Schema, *, format_name: str, lists: bool = False) -> None:
    """Refuse a schema with columns that no array of one shape, and no text, can hold.

    Parameters
    ----------
    schema
        Of the table to export.
    format_name
        Name of the format, for messages.
    lists
        Whether the format holds lists of varying length (of numbers or text), too.

    Raises
    ------
    ComputeError
        For the first such column: its name, its type and what to do.
    """
    for field in schema:
        problem = _problem(field.type, lists)
        if problem is not None:
            raise ComputeError(
                f"export: column {field.name!r} is {field.type}, and {format_name} shards {problem}"
            )


def check_file_names(schema: pa.Schema, *, format_name: str) -> None:
    """Refuse columns whose names can't be those of folders.

    Raises
    ------
    ComputeError
        For the first such column.
    """
    for field in schema:
        name = field.name
        if not name or name.startswith((".", "__")) or name == "zarr.json" or any(c in name for c in "/\\\0"):
            raise ComputeError(
                f"export: column {name!r} can't be a column of {format_name} shards, which have a folder of that name "
                "for each. Rename it, without slashes and not starting with '.' or '__'."
            )


def check_compression(format_name: str, compressions: tuple[str, ...], options: ShardOptions) -> None:
    """Refuse a compression that the readers of a format do not know.

    Raises
    ------
    ComputeError
        Listing those that they know.
    """
    if options.compression not in compressions:
        raise ComputeError(
            f"export: {format_name} shards know no compression {options.compression!r}. "
            f"Known: {', '.join(compressions)}."
        )


def _problem(arrow_type: pa.DataType, lists: bool) -> str | None:
    element, shape = element_type_and_shape(arrow_type)
    if 0 in shape:
        return "hold no lists of size 0. Leave it out."
    if pa.types.is_list(element) or pa.types.is_large_list(element):
        if not lists:
            return (
                "hold no lists of varying length. Use `format: arrow` or `parquet`, "
                "or make it a list of one fixed size."
            )
        return _problem(element.value_type, lists)
    if pa.types.is_string_view(element) or pa.types.is_binary_view(element):
        return "hold no views of text. Cast it to `string` or `binary`."
    if is_text(element):
        if shape and not lists:
            return "hold no lists of text. Use `format: arrow` or `parquet`, or one column for each entry."
        return None
    if is_fixed(element):
        return None
    if pa.types.is_decimal(element):
        return "hold no decimals. Cast it in `derive:`, to DOUBLE or BIGINT."
    if pa.types.is_dictionary(element):
        return "hold no dictionaries. Cast it to its values' type."
    if pa.types.is_struct(element) or pa.types.is_map(element):
        return "hold no structs or maps. Derive one column for each field that a model needs."
    return "can't hold it. Cast it in `derive:` to a number, a time or text, or leave it out."
