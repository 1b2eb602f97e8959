"""The server of the tests itself."""

from __future__ import annotations

from featureflow.core import storage


def test_what_was_acknowledged_is_there_after_a_kill(s3, bucket):
    storage.write_atomic(f"{bucket}/a", b"one")
    s3.kill()
    s3.restart()
    assert storage.read_bytes(f"{bucket}/a") == b"one"
    assert storage.list_names(bucket) == ["a"]
