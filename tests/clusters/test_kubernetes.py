"""The manifest for dask-kubernetes' operator. There is no Kubernetes here: what it does with it is not tested."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from featureflow.execute.clusters import opening as clusters
from featureflow.execute.clusters.classes import complete
from featureflow.execute.clusters.opening import Wish
from featureflow.execute.clusters.workers import WorkerSettings
from featureflow.spec.load import load_text

pytest.importorskip("dask_kubernetes", reason="pip install dask-kubernetes")
pytestmark = [pytest.mark.clusters, pytest.mark.filterwarnings("default")]

GOLDEN = Path(__file__).parents[1] / "golden" / "clusters" / "kubernetes.yaml"
SPEC = """
sources: {events: {path: "s3://lake/events/*.parquet", time: ts}}
targets:
  k8s:
    store: s3://lake/features
    cluster:
      class: dask_kubernetes.operator.KubeCluster
      name: features
      namespace: ml
      image: registry.example/featureflow:1.0
      env: {AWS_REGION: eu-central-1, POLARS_MAX_THREADS: "2"}
    workers: 8
    threads: 4
    memory: 16GiB
"""


def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What KubeCluster is called with."""
    called: dict[str, Any] = {}

    class Stop(Exception):
        pass

    def take(**keywords: Any) -> None:
        called.update(keywords)
        raise Stop

    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", _with(take))
    target = load_text(SPEC).project.targets["k8s"]
    wish = Wish("/scratch", target.workers, target.threads, 16 * 2**30)
    with pytest.raises(Exception, match="Stop"):
        clusters.start_cluster(target, wish, WorkerSettings("/scratch"), lambda _: None)
    return called


def _with(make: Any) -> Any:
    import dask_kubernetes.operator as real

    return SimpleNamespace(KubeCluster=make, make_cluster_spec=real.make_cluster_spec)


def test_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    called = asked(monkeypatch)
    manifest = called.pop("custom_cluster_spec")
    assert called == {"namespace": "ml"}
    text = yaml.safe_dump(manifest, sort_keys=False)
    if os.environ.get("FEATUREFLOW_REGENERATE"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_commands_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask has no dask-scheduler and dask-worker any more."""
    spec = asked(monkeypatch)["custom_cluster_spec"]["spec"]
    for role in ("scheduler", "worker"):
        command = spec[role]["spec"]["containers"][0]["args"]
        assert command[:2] == ["dask", role]


def test_a_manifest_of_ones_own_is_left_alone() -> None:
    wish = Wish("/scratch", workers=3)
    keywords, _ = complete("dask_kubernetes.operator.KubeCluster", {"custom_cluster_spec": "own.yaml"}, wish)
    assert keywords == {"custom_cluster_spec": "own.yaml"}
