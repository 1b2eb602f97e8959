"""JSON Schema of the language, for editors; generated from the models."""

from __future__ import annotations

from typing import Any

from featureflow.spec.datasets import FILE_FIELDS
from featureflow.spec.encoders import parameter_json_schemas
from featureflow.spec.fields import NAME_PATTERN
from featureflow.spec.grid_values import TEXT
from featureflow.spec.models import GRIDS, Project
from featureflow.spec.splits import SPLIT_NAME_PATTERN

#: where a text is wanted a variable may stand, and it is replaced before anything is checked
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_SCALARS = ("string", "integer", "number", "boolean")


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a spec in one file.

    It knows the fields, their types and spellings. What needs several values (references, names of output columns)
    only ``featureflow validate`` knows: the schema accepts every spec that is valid, and some more.
    """
    schema = Project.model_json_schema(by_alias=True)
    source = schema["$defs"]["Source"]
    source["required"] = [name for name in source["required"] if name != "format"]  # from the suffix
    _show_hidden(schema["$defs"])
    _show_grids(schema)
    for section in ("sources", "features", "datasets", "targets"):
        schema["properties"][section]["propertyNames"] = {"pattern": NAME_PATTERN}
    made: dict[str, Any] = _with_variables(schema)
    made["$defs"]["Variable"] = _VARIABLE
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "featureflow spec",
    }


def _show_hidden(models: dict[str, Any]) -> None:
    """What is written beside the fields of a model but kept in a field of its own: files, splits, parameters."""
    spine, source = models["Spine"]["properties"], models["Source"]["properties"]
    del spine["<files>"]
    spine.update({name: source[name] for name in FILE_FIELDS})
    models["Spine"]["oneOf"] = [
        {"required": ["source", "keys"]},
        {"required": ["path", "keys"]},
        {"required": ["grid", "patch"]},
    ]
    models["Spine"]["required"] = []
    split = models["Split"]
    parts = split["properties"].pop("<parts>")
    split["properties"]["group"] = split["properties"]["column"]
    split["propertyNames"] = {"pattern": SPLIT_NAME_PATTERN}
    split["additionalProperties"] = {**parts["additionalProperties"], "description": parts["description"]}
    encode = models["Encode"]["properties"]
    encode.update({n: made for n, made in parameter_json_schemas().items() if n not in encode})


def _show_grids(schema: dict[str, Any]) -> None:
    """Grids are written among the features; what a look-up takes of a grid may have another name, or be omitted."""
    grids = schema["properties"].pop(GRIDS)["patternProperties"]
    tables = schema["properties"]["features"]["patternProperties"]
    for pattern, grid in grids.items():
        tables[pattern] = {"anyOf": [tables[pattern], grid]}
    lookup = schema["$defs"]["Lookup"]
    several = {"type": "array", "items": TEXT, "minItems": 1}
    columns = {**lookup["properties"]["columns"], "anyOf": [TEXT, several]}
    lookup["properties"] |= {"columns": columns, "variables": columns}
    lookup["required"] = ["from"]
    lookup["anyOf"] = [{"required": ["columns"]}, {"required": ["at"]}]


def _with_variables(schema: Any) -> Any:
    """Let ``${VAR}`` stand for every value that is not any text anyway."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    narrowed = schema.get("type") in _SCALARS[1:] or any(
        key in schema for key in ("enum", "const", "pattern")
    )
    narrowed = narrowed or (schema.get("type") == "string" and "maxLength" in schema)
    if narrowed:
        annotations = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        rest = {key: value for key, value in schema.items() if key not in annotations}
        return {**annotations, "anyOf": [rest, {"$ref": "#/$defs/Variable"}]}
    return {
        key: {name: _with_variables(item) for name, item in value.items()}
        if key in ("properties", "$defs") and isinstance(value, dict)
        else value
        if key in ("default", "examples", "required", "discriminator", "propertyNames")
        else _with_variables(value)
        for key, value in schema.items()
    }
