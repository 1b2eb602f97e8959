"""The task of a feature table: rows of a bucket in, features out, in memory or through scratch."""
