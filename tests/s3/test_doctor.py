"""`featureflow doctor`, and the refusal of stores that can't keep versions apart."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from s3.s3_world import project_file, put_lake
from servers.fault_proxy import FaultProxy, Rule
from servers.forgetful_s3 import forgetful_s3
from servers.seaweedfs import environment_of, variables

import featureflow as ff
from featureflow.cli.app import application
from featureflow.core import conditional, raw_files, s3, storage
from featureflow.core.errors import TableError
from featureflow.execute import doctor as doctoring


@pytest.fixture(autouse=True)
def small_disk_test(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATUREFLOW_STORE", raising=False)
    monkeypatch.setattr(doctoring, "_SPEED_BYTES", 1 << 20)


def examined(tmp_path, *arguments: str) -> tuple[int, dict[str, dict]]:
    """Exit code and findings by `area name`."""
    command = ["doctor", "--scratch", str(tmp_path / "scratch"), "--json", *arguments]
    result = CliRunner().invoke(application, command)
    found = json.loads(result.stdout)
    assert found["ok"] == (result.exit_code == 0)
    return result.exit_code, {f"{f['area']} {f['name']}": f for f in found["findings"]}


def test_a_store_on_s3_is_tried(s3, bucket, tmp_path):
    code, found = examined(tmp_path, "--store", bucket)
    assert code == 0, found
    store = [name for name in found if name.startswith("store")]
    assert store == ["store reachable", "store permissions", "store clock", "store conditional writes"]
    assert found["machine versions"]["facts"]["obstore"]
    assert found["scratch disk"]["facts"]["write_bytes_per_second"] > 0
    assert abs(found["store clock"]["facts"]["seconds"]) < 5
    assert list(storage.walk(bucket)) == [], "what it wrote is gone"


def test_a_local_store_is_tried(tmp_path):
    (tmp_path / "store").mkdir()
    code, found = examined(tmp_path, "--store", str(tmp_path / "store"))
    assert code == 0, found
    assert found["store conditional writes"]["status"] == "ok"
    assert [path for path, _, _ in storage.walk(str(tmp_path / "store"))] == []


def test_a_folder_that_nobody_may_write_is_found(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    code, found = examined(tmp_path, "--store", str(tmp_path / "file"))
    assert (code, found["store permissions"]["status"]) == (1, "failed")
    monkeypatch.setattr(doctoring, "_FREE_BYTES", 1 << 60)
    _, found = examined(tmp_path)
    assert found["scratch disk"]["status"] == "warning"
    assert "little space" in found["scratch disk"]["text"]


def test_wrong_credentials_and_missing_buckets_are_named(s3, bucket, tmp_path):
    with s3.environment(AWS_SECRET_ACCESS_KEY="another"):
        code, found = examined(tmp_path, "--store", bucket)
    assert code == 1
    assert "permission denied" in found["store reachable"]["text"]
    _, found = examined(tmp_path, "--store", "s3://there-is-no-such-bucket/store")
    assert "there is no bucket 'there-is-no-such-bucket'" in found["store reachable"]["text"]
    with s3.environment(AWS_PROFILE="nobody", AWS_CONFIG_FILE="/nothing"):
        _, found = examined(tmp_path, "--store", bucket)
    assert "AWS_PROFILE" in found["store reachable"]["text"]


def test_a_store_that_does_not_answer_is_given_up(s3, tmp_path, monkeypatch):
    from datetime import timedelta

    from featureflow.core import s3 as client

    monkeypatch.setattr(client, "PATIENCE", timedelta(seconds=1))
    monkeypatch.setattr(client, "BRIEF", timedelta(seconds=0.1))
    with s3.environment(AWS_ENDPOINT_URL="http://127.0.0.1:9"):
        code, found = examined(tmp_path, "--store", "s3://dead/store")
        assert code == 1
        assert "can't be reached" in found["store reachable"]["text"]
        result = CliRunner().invoke(application, ["ls", "--store", "s3://dead/store"])
        assert result.exit_code == 3


def test_a_clock_that_is_off_is_told(s3, bucket, tmp_path, monkeypatch):
    from datetime import UTC, datetime, timedelta

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz or UTC) + timedelta(seconds=90)

    monkeypatch.setattr(doctoring, "datetime", Later)
    _, found = examined(tmp_path, "--store", bucket)
    assert found["store clock"]["status"] == "warning"
    assert -95 < found["store clock"]["facts"]["seconds"] < -85


def test_a_store_without_conditional_writes_is_refused(tmp_path):
    with forgetful_s3() as endpoint, variables(environment_of(endpoint)):
        code, found = examined(tmp_path, "--store", "s3://old/store")
        assert code == 1
        assert found["store permissions"]["status"] == "ok"
        assert found["store conditional writes"]["status"] == "failed"
        assert "no conditional writes" in found["store conditional writes"]["text"]


def test_the_first_build_refuses_it_too_and_every_later_one(tmp_path):
    lake = str(tmp_path / "lake")
    put_lake(lake)
    spec = project_file(tmp_path, lake, "s3://old/store")
    with forgetful_s3() as endpoint, variables(environment_of(endpoint)):
        for _ in range(2):
            with pytest.raises(TableError, match="two builds at the same moment would silently lose one"):
                ff.Project(spec, scratch=tmp_path / "scratch").build(select=["footfall"])
        names = [path for path, _, _ in storage.walk("s3://old/store/features")]
        assert names == [], "nothing was computed"


def test_a_lost_reply_is_no_loss(s3, bucket):
    """The store made the object, its reply was lost, the client asks again and is told that it exists."""
    with FaultProxy(s3.endpoint) as proxy, variables(environment_of(proxy.url)):
        rule = proxy.add(Rule("status after", method="PUT", status=500, count=1))
        assert storage.write_new(f"{bucket}/mine", b"same")
        assert rule.hits == 1
        assert not storage.write_new(f"{bucket}/mine", b"same"), "of the same bytes, but it was there"
        assert conditional.creates_once(f"{bucket}/mine")


def test_outages_are_ridden_out(s3, bucket):
    """The store refuses everything, listings included, for some seconds."""
    storage.write_atomic(f"{bucket}/a.csv", b"x\n1\n")
    with FaultProxy(s3.endpoint) as proxy, variables(environment_of(proxy.url)):
        proxy.add(Rule("reset", count=4))
        assert storage.read_bytes(f"{bucket}/a.csv") == b"x\n1\n"
        proxy.clear()
        proxy.add(Rule("status", status=503, count=6))
        assert [file.size for file in raw_files.list_files(f"{bucket}/*.csv")] == [4]


def test_accounts_are_not_pickled(s3):
    import pickle

    with pytest.raises(TypeError, match="credentials are not pickled"):
        pickle.dumps(s3_account())


def s3_account() -> s3.Account:
    """The account of this environment."""
    return s3.account()


def test_a_dead_store_is_waited_for_once_and_given_patience_again_when_it_lives(s3, bucket):
    from datetime import timedelta

    from featureflow.core import s3 as client
    from featureflow.core.errors import Unreachable

    with FaultProxy(s3.endpoint) as proxy, variables(environment_of(proxy.url)):
        assert client.patience(bucket) == client.FIRST, "it never answered"
        storage.write_atomic(f"{bucket}/a", b"1")
        assert client.patience(bucket) == client.PATIENCE
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "PATIENCE", timedelta(seconds=0.3))
            proxy.add(Rule("status", status=503))
            with pytest.raises(Unreachable, match="can't be reached"):
                storage.read_bytes(f"{bucket}/a")
        assert client.patience(bucket) == client.BRIEF
        proxy.clear()
        assert storage.read_bytes(f"{bucket}/a") == b"1"
        assert client.patience(bucket) == client.PATIENCE
