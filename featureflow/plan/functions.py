"""Python functions of a project (``udf:``): found, called on whole columns, and part of a definition's hash.

``module:function`` is looked for in the spec's folder first, then among what is installed. A module of the folder that
was edited is imported again, so that a notebook or a long-lived worker never runs an older text than the definition's
hash names. Workers on other hosts must see the same folder, or have the module installed.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import polars as pl

from featureflow.core.errors import ComputeError, PlanError
from featureflow.core.fingerprints import fingerprint
from featureflow.plan.nodes import Derived
from featureflow.spec.models import Udf

GROUP = "featureflow.udf"
_LOCK = threading.RLock()
#: (modification time, size) that each module of a spec's folder had when it was imported
_IMPORTED: dict[str, tuple[int, int]] = {}


def load_function(name: str, folder: str = "") -> Callable[..., Any]:
    """Import ``module:function``, or the entry point of that name in the group ``featureflow.udf``.

    Parameters
    ----------
    folder
        The spec's folder, where modules are looked for first; empty for none.

    Raises
    ------
    PlanError
        If there is no such module, function or entry point, or importing it raises.
    """
    try:
        function = _imported(name, folder)
    except PlanError:
        raise
    except Exception as error:  # a module may raise anything
        where = f" in {folder}, nor installed" if folder and isinstance(error, ModuleNotFoundError) else ""
        raise PlanError(
            f"udf {name!r}: importing it raised {type(error).__name__}: {error}{where}."
        ) from error
    if not callable(function):
        raise PlanError(f"udf {name!r}: that is {type(function).__name__}, not a function.")
    return function  # type: ignore[no-any-return]


def _imported(name: str, folder: str) -> Any:
    if ":" not in name:
        from importlib.metadata import entry_points

        points = list(entry_points(group=GROUP))
        found = [point for point in points if point.name == name]
        if not found:
            known = ", ".join(sorted(point.name for point in points)) or "none"
            raise PlanError(
                f"udf {name!r}: no installed package has that entry point in the group {GROUP!r} (there: {known}). "
                "Or write module:function."
            )
        return found[0].load()
    module_name, _, attribute = name.partition(":")
    found_in = _module(module_name, folder)
    for part in attribute.split("."):
        if not hasattr(found_in, part):
            place = getattr(found_in, "__file__", None) or module_name
            raise PlanError(f"udf {name!r}: {place} has no {part!r}.")
        found_in = getattr(found_in, part)
    return found_in


def _module(name: str, folder: str) -> ModuleType:
    first = name.partition(".")[0]
    places = (os.path.join(folder, f"{first}.py"), os.path.join(folder, first, "__init__.py"))
    if not folder or not any(map(os.path.exists, places)):
        return importlib.import_module(name)
    with _LOCK:
        _forget_others(first, folder)
        sys.path.insert(0, folder)
        try:
            importlib.invalidate_caches()
            module = importlib.import_module(name)
        finally:
            sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # for imports inside of functions; behind everything installed
        _remember(folder)
        return module


def _forget_others(first: str, folder: str) -> None:
    """Let a module be imported again if it was edited, or if the one of that name is of another folder."""
    there = sys.modules.get(first)
    stale = there is not None and not _is_under(there, folder)
    changed = [
        path
        for path, known in _IMPORTED.items()
        if path.startswith(folder + os.sep) and _stamp(path) != known
    ]
    for name, module in list(sys.modules.items()):
        mine = _is_under(module, folder) and getattr(module, "__file__", None) in _IMPORTED
        if (stale and name.partition(".")[0] == first) or (changed and mine):
            del sys.modules[name]
    for path in changed:
        del _IMPORTED[path]


def _remember(folder: str) -> None:
    for module in list(sys.modules.values()):
        if _is_under(module, folder) and str(module.__file__).endswith(".py"):
            _IMPORTED.setdefault(str(module.__file__), _stamp(str(module.__file__)))


def _is_under(module: ModuleType, folder: str) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and file.startswith(folder + os.sep)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def function_problems(udfs: Mapping[str, Udf], folder: str) -> list[tuple[tuple[str, ...], str]]:
    """Functions of a source or a table that can't be loaded: (place below it, message)."""
    found: list[tuple[tuple[str, ...], str]] = []
    for column, udf in udfs.items():
        try:
            load_function(udf.function, folder)
        except PlanError as error:
            found.append((("udf", column, "function"), str(error)))
    return found


def source_digest(name: str, folder: str = "") -> str:
    """Hash the text of a function, so that changing it changes the definition of what uses it.

    Only the function's own text counts; a change in what it calls is declared by its ``version:``.
    """
    function = load_function(name, folder)
    try:
        return fingerprint(inspect.getsource(inspect.unwrap(function)))
    except (OSError, TypeError):
        return fingerprint(name)  # built in or compiled: its name is all there is


def call(udf: Derived, inputs: list[pl.Series]) -> pl.Series:
    """Call a function on whole columns and check what comes back; it is not called for no rows.

    Raises
    ------
    ComputeError
        If it raises, or returns something else than one value a row that fits the declared type.

    Notes
    -----
    Types: the declared one, or one that turns into it without losing anything: other widths of integers and floats,
    integers that a float holds exactly, other units of time. Nulls are handed over; NaN that comes back is null.
    """
    name, dtype, n_rows = udf.name, udf.dtype or pl.Null(), len(inputs[0])
    if n_rows == 0:
        return pl.Series(name, [], dtype=dtype)
    head = f"udf.{name}: {udf.function}"
    try:
        values = load_function(udf.function or "", udf.folder)(*inputs, **dict(udf.params))
    except PlanError as error:
        raise ComputeError(f"{head}: {error} Is it installed where the build runs?") from error
    except Exception as error:
        raise ComputeError(f"{head} raised {type(error).__name__}: {error}") from error
    if not isinstance(values, pl.Series) or len(values) != n_rows:
        given = f"a Series of {len(values)}" if isinstance(values, pl.Series) else type(values).__name__
        raise ComputeError(
            f"{head} must return a polars Series of {n_rows} values, one a row; it returned {given}."
        )
    fitting = _fitting(values, dtype)
    if fitting is None:
        raise ComputeError(
            f"{head} returned {str(values.dtype).lower()}, but `type:` says {str(dtype).lower()} and not every value "
            "fits. Change one of them."
        )
    return (fitting.fill_nan(None) if dtype.is_float() else fitting).alias(name)


def _fitting(values: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """The values as the declared type, or None if that would change one of them."""
    if values.dtype in (dtype, pl.Null):
        return values.cast(dtype)
    same_family = (
        (values.dtype.is_float() and dtype.is_float())
        or (values.dtype.is_integer() and dtype.is_numeric())
        or (
            isinstance(values.dtype, pl.Datetime)
            and isinstance(dtype, pl.Datetime)
            and values.dtype.time_zone
        )
        or (isinstance(values.dtype, (pl.Categorical, pl.Enum)) and dtype == pl.String)
        or (isinstance(values.dtype, pl.List) and isinstance(dtype, pl.List))
    )
    if not same_family:
        return None
    try:
        found = values.cast(dtype, strict=True)
        back = found.cast(values.dtype, strict=True)
    except pl.exceptions.PolarsError:
        return None
    exact = (dtype.is_float() and values.dtype.is_float()) or back.equals(values, null_equal=True)
    return found if exact else None
