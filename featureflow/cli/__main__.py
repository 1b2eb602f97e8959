"""``python -m featureflow.cli``."""

from __future__ import annotations

from featureflow.cli.app import main

main()
