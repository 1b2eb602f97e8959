"""Versions of feature tables: Delta tables with create-only records beside the log.

``parquet_files`` writes one immutable file in a worker (``parquet_footer``: its end), ``commit`` makes a set of them
visible as one version, ``versions`` and ``tags`` say what a name like ``card_spend@prod`` means, ``table`` reads it.
Reading needs neither Dask nor Numba.
"""
