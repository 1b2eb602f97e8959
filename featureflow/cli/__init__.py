"""The ``featureflow`` command: parses, calls the layers below, prints.

Results go to stdout, as text or with ``--json`` as one JSON value; progress, notes and errors go to stderr. Importing
this package imports click and nothing else that is large: every command imports what it needs when it runs.
"""

from __future__ import annotations

from featureflow.cli.app import main

__all__ = ["main"]
