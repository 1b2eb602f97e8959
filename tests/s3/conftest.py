"""One S3 server for all tests of this folder; every test gets a folder of its own in the bucket."""

from servers.s3_fixtures import bucket, s3, s3_server

__all__ = ["bucket", "s3", "s3_server"]
