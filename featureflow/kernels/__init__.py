"""Pure array functions on one partition (Numba, NumPy): windows, aggregates, as-of matches, hashes, order."""
