"""The exchange: rows re-keyed into buckets, in files that any host can read slices of."""
