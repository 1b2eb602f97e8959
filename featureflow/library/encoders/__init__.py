"""Encoders that a spec can name: one class each, fitted from mergeable statistics of train rows."""

from __future__ import annotations

from featureflow.library.encoders.registry import ENCODERS, make

__all__ = ["ENCODERS", "make"]
