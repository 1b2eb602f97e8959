"""Aggregations that a spec can name: one class each, one file per family.

``AGGREGATIONS`` maps names to classes; :func:`make` turns the YAML form (``sum`` or ``{quantile: {q: 0.95}}``) into an
entry. Importing this package loads neither NumPy nor Arrow nor Numba.
"""

from __future__ import annotations

from featureflow.library.aggregations.registry import AGGREGATIONS, make

__all__ = ["AGGREGATIONS", "make"]
