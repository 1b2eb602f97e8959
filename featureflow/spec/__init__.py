"""YAML to a typed spec: every mistake at once, with its file, line and column. Imports no data library."""
