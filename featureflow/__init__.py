"""Distributed feature engineering: YAML specs to point-in-time correct, versioned feature tables."""

from __future__ import annotations

__version__ = "0.1.0"
