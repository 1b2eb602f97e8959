"""Credentials stay in the process that asks: nothing that is written, pickled, logged or printed holds them."""

from __future__ import annotations

import logging
import pickle
from datetime import timedelta
from pathlib import Path

import cloudpickle
import pytest
from click.testing import CliRunner
from s3.s3_world import project_file, put_lake
from servers.seaweedfs import ACCESS_KEY, SECRET_KEY

import featureflow as ff
from featureflow.cli.app import application
from featureflow.core import raw_files, s3, storage
from featureflow.core.errors import FeatureflowError, SourceError, SpecError
from featureflow.core.urls import has_credentials
from featureflow.execute.executors import ThreadExecutor

CANARY = SECRET_KEY
OPEN_PROFILE = "ff-profile"


@pytest.fixture
def profile(s3_server, tmp_path):
    """The same account by a profile in files, endpoint included; the environment names only the profile."""
    folder = tmp_path / "aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[{OPEN_PROFILE}]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {CANARY}\n"
    )
    (folder / "config").write_text(
        f"[profile {OPEN_PROFILE}]\nregion = us-east-1\nservices = mine\n"
        f"[services mine]\ns3 =\n  endpoint_url = {s3_server.endpoint}\n"
    )
    hidden = (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    )
    with (
        s3_server.environment(
            AWS_PROFILE=OPEN_PROFILE,
            AWS_CONFIG_FILE=str(folder / "config"),
            AWS_SHARED_CREDENTIALS_FILE=str(folder / "credentials"),
        ),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in hidden:
            patch.delenv(name)
        yield s3_server


def holds(data: bytes) -> bool:
    """Whether bytes hold the secret, as it is or as text of two bytes a character."""
    return CANARY.encode() in data or CANARY.encode("utf-16-le") in data


def test_a_build_leaves_no_secret_anywhere(profile, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    pickled: list[bytes] = []
    submit = ThreadExecutor.submit

    def spy(self, tasks):
        pickled.extend(
            cloudpickle.dumps((task.function, task.arguments, task.label, task.reads)) for task in tasks
        )
        submit(self, tasks)

    monkeypatch.setattr(ThreadExecutor, "submit", spy)
    root = profile.url("secrets")
    put_lake(f"{root}/lake")
    spec = project_file(tmp_path, f"{root}/lake", f"{root}/store")
    project = ff.Project(spec, scratch=tmp_path / "scratch")
    texts = [repr(project.plan()), repr(project), str(project.build().to_json())]
    assert len(pickled) > 10
    assert not any(map(holds, pickled))
    table = project.table("spend")
    texts += [repr(table), str(table.record), repr(project.store), repr(s3.account()), repr(s3.connect(root))]
    assert not holds(pickle.dumps(table))
    written = {
        path: storage.read_bytes(f"{root}/store/{path}") for path, _, _ in storage.walk(f"{root}/store")
    }
    assert {path.rpartition("/")[2] for path in written} >= {"run.json", "lineage.json"}
    assert [path for path, data in written.items() if holds(data)] == []
    on_disk = [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
    assert on_disk
    assert not any(holds(path.read_bytes()) for path in on_disk)
    assert not any(CANARY in text for text in texts)
    assert caplog.records
    assert CANARY not in caplog.text


def test_no_command_prints_a_secret(profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = profile.url("printed")
    put_lake(f"{root}/lake")
    project_file(tmp_path, f"{root}/lake", f"{root}/store")
    scratch = ("--scratch", str(tmp_path / "scratch"))
    for command in (
        ("plan", *scratch), ("build", *scratch), ("ls", "--json"), ("show", "spend", "--json"), ("history", "spend"),
        ("lineage", "spend", "--json"), ("doctor", "--json", *scratch),
    ):  # fmt: skip
        result = CliRunner().invoke(application, command)
        assert result.exit_code == 0, result.output
        assert CANARY not in result.output


def test_no_error_tells_a_secret(s3_server, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "PATIENCE", timedelta(seconds=0.2))
    monkeypatch.setattr(s3, "BRIEF", timedelta(seconds=0.1))
    attempts = {
        "wrong key": {"AWS_ACCESS_KEY_ID": "NOBODY"},
        "dead": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        "another protocol": {"AWS_ENDPOINT_URL": f"https://127.0.0.1:{s3_server.port}"},
    }
    for more in attempts.values():
        with s3_server.environment(**more):
            for ask in (
                lambda: storage.read_bytes(f"{bucket}/a"),
                lambda: storage.list_names(bucket),
                lambda: raw_files.list_files(f"{bucket}/*.csv"),
                lambda: storage.write_new(f"{bucket}/a", b""),
                lambda: ff.Project(project_file(tmp_path, bucket, bucket), scratch=tmp_path / "scratch").plan(
                    select=["footfall"]
                ),
            ):
                with pytest.raises((FeatureflowError, OSError)) as raised:
                    ask()
                shown = f"{raised.value!r} {raised.value} {raised.value.__cause__!r}"
                assert CANARY not in shown
                assert not holds(pickle.dumps(raised.value))


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:{}@bucket/a", "s3://AKIA:a/b+{}@bucket/a", "s3://{}@bucket/a", "https://me:{}@host/a.parquet",
        "s3://bucket/a?X-Amz-Signature={}", "s3://bucket/a?AWSAccessKeyId=a&Signature={}",
    ],
)  # fmt: skip
def test_urls_with_credentials_are_refused_with_their_place(url, tmp_path, monkeypatch):
    url = url.format(CANARY)
    assert has_credentials(url)
    monkeypatch.setenv("THE_LAKE", url)
    spec = tmp_path / "featureflow.yaml"
    spec.write_text(
        f'featureflow: 1\nproject: p\nstore: "{url}"\nsources:\n'
        f'  a: {{path: ["{url}", "${{THE_LAKE}}"], format: parquet, time: t}}\n'
        "features:\n  f: {source: a, keys: [k], aggregate: [{column: v, ops: [sum], windows: [1d]}]}\n"
        "datasets:\n  d:\n    spine: {source: a, keys: [k]}\n    features: [f]\n"
        f'    export: {{path: "{url}"}}\n'
    )
    with pytest.raises(SpecError) as raised:
        ff.Project(spec)
    places = [(problem.line, problem.column) for problem in raised.value.problems]
    second = 5, spec.read_text().splitlines()[4].index('"${THE') + 1
    assert places == [(3, 8), (5, 14), second, (12, 20)]
    assert all("carries credentials" in problem.message for problem in raised.value.problems)
    assert CANARY not in str(raised.value)
    result = CliRunner().invoke(application, ["validate", str(spec)])
    assert result.exit_code == 2
    assert CANARY not in result.output
    with pytest.raises(SourceError, match="carries credentials"):
        storage.exists(url)


def test_ordinary_urls_carry_no_credentials():
    for url in (
        "s3://bucket/day=1/me@work.parquet", "abfss://box@account.dfs.core.windows.net/a", "http://host:8080/a@b",
        "/data/a:b@c", "s3://bucket/12:30@x", "gs://bucket/a?generation=7", "tls://10.0.0.1:8786",
    ):  # fmt: skip
        assert not has_credentials(url), url


def test_readers_of_shards_work_in_forked_processes(s3, bucket, tmp_path):
    """A process that was forked from one that read S3 has none of its client's threads, and must not wait for them."""
    import subprocess
    import sys

    storage.write_atomic(f"{bucket}/forked", b"read me")
    code = (
        "import os, sys\nfrom featureflow.core import remote, storage\nurl = sys.argv[1]\n"
        "assert storage.read_bytes(url) == b'read me'\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    import faulthandler; faulthandler.dump_traceback_later(30, exit=True)\n"
        "    right = storage.read_bytes(url) == b'read me' and remote.fetch_ranges(url, '', [(0, 4)]) == [b'read']\n"
        "    right = right and not storage.write_new(url, b'again') and storage.size_of(url) == 7\n"
        "    os._exit(0 if right else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{bucket}/forked"], cwd=Path.cwd(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
