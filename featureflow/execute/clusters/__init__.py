"""Clusters and their workers: what a target names is opened, prepared, watched and closed."""
