"""Formats of training shards, each a module with a ``FORMAT``."""
