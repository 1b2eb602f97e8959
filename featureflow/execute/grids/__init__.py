"""Grids: cut the output into regions, compute each in one task, write whole chunks."""
