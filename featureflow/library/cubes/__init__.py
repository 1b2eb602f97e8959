"""Sources of N-d data, one file a format; `registry` opens them."""
