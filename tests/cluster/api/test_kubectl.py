"""kubectl as a second client: it reads what `submit` made, and its deletion leaves nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kmock
import pytest

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.kubernetes.api import Api
from duchenne.clusters.kubernetes.submit import submit
from duchenne.spec import Sweep

JOBS = kmock.resource("ray.io", "v1", "rayjobs")
MAPS = kmock.resource("", "v1", "configmaps")


def test_it_reads_and_deletes_the_same_objects(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster, tmp_path: Path
) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl (Debian: kubernetes-client), which is not here")

    def kubectl(*words: str) -> str:
        command = ["kubectl", "--server", server.url, "--kubeconfig", "/dev/null", "--cache-dir", str(tmp_path)]
        done = subprocess.run([*command, "-n", "duchenne", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    sweep_id = submit(sweep, prod, api)
    assert json.loads(kubectl("get", "rayjobs.ray.io", sweep_id, "-o", "json")) == server.kept(JOBS)[sweep_id]
    path = f"/api/v1/namespaces/duchenne/configmaps/{sweep_id}"
    assert json.loads(kubectl("get", "--raw", path))["data"] == server.kept(MAPS)[sweep_id]["data"]
    kubectl("delete", "rayjobs.ray.io", sweep_id, "--wait=false")
    assert server.kept(JOBS) == server.kept(MAPS) == {}
