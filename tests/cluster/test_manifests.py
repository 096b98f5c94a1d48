"""The objects of a sweep: valid by the schemas, within the budget, on the right nodes, gone with their owner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.cli.main import call
from duchenne.clusters.config import KubernetesCluster, SecretNames
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.file import load_clusters_text
from duchenne.clusters.kubernetes import manifests, own, sweep_id_of
from duchenne.clusters.kubernetes.manifests import deadline_seconds, notes
from duchenne.plan.rates import Rate, worker_rate
from duchenne.spec import Sweep, load_sweep, load_sweep_text

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path for path in (ROOT / "jobs/sweeps").rglob("*.yaml") if "\nkind: Sweep\n" in path.read_text())
Faults = Callable[[dict[str, Any]], list[str]]


@pytest.fixture
def prod(clusters_text: str) -> KubernetesCluster:
    return load_clusters_text(clusters_text).kubernetes("prod")


def pod_templates(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> pod template of a RayJob."""
    cluster = job["spec"]["rayClusterSpec"]
    workers = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {
        "head": cluster["headGroupSpec"]["template"],
        "submitter": job["spec"]["submitterPodTemplate"],
        **workers,
    }


def as_pods(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The templates as the pods that come of them."""
    for name, template in pod_templates(job).items():
        metadata = {"name": name, **template["metadata"]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("autoscaling", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_every_object_is_valid_and_names_no_unknown_field(
    sweep: Sweep, prod: KubernetesCluster, faults: Faults, autoscaling: bool, plain: bool
) -> None:
    place = KubernetesCluster() if plain else prod
    items = manifests(sweep, place.model_copy(update={"autoscaling": autoscaling}))
    assert [item["kind"] for item in items] == ["RayJob", "ConfigMap"]
    for item in [*items, own(items[1], {**items[0], "metadata": {**items[0]["metadata"], "uid": "1-2"}})]:
        assert faults(item) == []
    for pod in as_pods(items[0]):
        assert faults(pod) == []


def test_a_misspelt_field_would_be_found(sweep: Sweep, faults: Faults) -> None:
    job, config = manifests(sweep, KubernetesCluster())
    del job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    job["spec"]["ttlSecondsAfterFinish"] = 0
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["nodeSelektor"] = {}
    config["immutabel"] = True
    assert len(faults(job)) == 2
    assert len(faults(config)) == 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_config_map_holds_the_same_sweep(path: Path) -> None:
    sweep = load_sweep(path)
    if not sweep.data.uri.startswith("builtin://"):
        sweep = sweep.model_copy(update={"data": sweep.data.model_copy(update={"uri": "s3://bucket/faces"})})
    _, config = manifests(sweep, KubernetesCluster())
    assert load_sweep_text(config["data"]["sweep.yaml"]) == _as_recorded(sweep)


def _as_recorded(sweep: Sweep) -> Sweep:
    """The sweep with the node type itself, as pods see it, in place of a price file of this machine."""
    if sweep.prices.listed is None:
        return sweep
    return sweep.model_copy(update={"prices": sweep.prices.model_copy(update={"file": None, "node": None})})


MINIMAL = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: minimal}
data: {uri: "builtin://yeast"}
budget: {wall_seconds: 60}
"""


def test_prices_of_a_file_travel_with_the_spec(sweep: Sweep) -> None:
    node = {"cpu": 8, "gpu": 1, "memory_gib": 32, "on_demand_usd_per_hour": 1.5}
    text = MINIMAL + f"prices: {{listed: {json.dumps(node)}}}\n"
    _, config = manifests(load_sweep_text(text), KubernetesCluster())
    spec = yaml.safe_load(config["data"]["sweep.yaml"])
    assert "file" not in spec["prices"]
    assert load_sweep_text(config["data"]["sweep.yaml"]).prices.listed == load_sweep_text(text).prices.listed


def test_the_defaults_that_stop_the_bill(sweep: Sweep, prod: KubernetesCluster) -> None:
    job, _ = manifests(sweep, prod)
    spec = job["spec"]
    assert spec["suspend"] is True
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] == 0
    assert spec["backoffLimit"] == 3
    assert spec["submitterConfig"]["backoffLimit"] == 2
    assert spec["preRunningDeadlineSeconds"] == 1800
    assert spec["activeDeadlineSeconds"] == 3600 + 1800 + 300
    assert "deletionStrategy" not in spec  # does not go with Kueue
    assert "clusterSelector" not in spec  # Kueue would ignore the job
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "faces"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "duchenne-normal"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/max-exec-time-seconds"] == "5700"


def test_a_sweep_without_a_queue_goes_to_that_of_its_team(sweep: Sweep) -> None:
    job, _ = manifests(sweep, KubernetesCluster())
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "faces"


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        ("{wall_seconds: 100}", 100),
        ("{gpu_hours: 2}", 2 * 3600),  # one fold worker with one GPU, all the time
        ("{usd: 1}", 10 * 3600),  # the head takes an eighth of a node of 0.8 dollars an hour
        ("{usd: 1, wall_seconds: 100.5}", 101),
        ("{usd: 100000}", 7 * 24 * 3600),
    ],
)
def test_the_deadline_follows_from_the_budget(prod: KubernetesCluster, budget: str, seconds: int) -> None:
    resources = "folds: {count: 3, inner: 2, resources: {cpu: 4, gpu: 1}}\n"
    text = MINIMAL.replace("{wall_seconds: 60}", budget) + resources
    assert deadline_seconds(load_sweep_text(text), prod) == seconds + 1800 + 300


def test_workers_go_to_spot_nodes_and_the_head_does_not(sweep: Sweep, prod: KubernetesCluster) -> None:
    job, _ = manifests(sweep, prod)
    templates = pod_templates(job)
    assert set(templates) == {"head", "submitter", "a100-spot"}
    for steady in ("head", "submitter"):
        assert templates[steady]["spec"]["nodeSelector"] == {"pool": "cpu"}
        assert {"key": "spot", "operator": "Exists", "effect": "NoSchedule"} not in templates[steady]["spec"][
            "tolerations"
        ]
    worker = templates["a100-spot"]
    assert worker["metadata"]["labels"]["duchenne.dev/capacity"] == "spot"
    assert worker["spec"]["nodeSelector"] == {"pool": "a100-spot"}
    assert worker["spec"]["runtimeClassName"] == "nvidia"
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in worker["spec"]["tolerations"]
    limits = worker["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert limits["cpu"] == "4000m"
    assert limits["memory"] == f"{int(340 * 0.9 * 1024 / 4)}Mi"  # four such pods share a node
    with pytest.raises(ClusterError, match="no node pool has a GPU on demand"):
        manifests(sweep, prod.model_copy(update={"allow_spot": False}))


@pytest.mark.parametrize("autoscaling", [True, False])
def test_workers_start_from_none_where_the_cluster_scales(
    sweep: Sweep, prod: KubernetesCluster, autoscaling: bool
) -> None:
    job, _ = manifests(sweep, prod.model_copy(update={"autoscaling": autoscaling}))
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == ((0, 0, 8) if autoscaling else (8, 8, 8))
    assert cluster["enableInTreeAutoscaling"] is autoscaling
    assert ("autoscalerOptions" in cluster) is autoscaling
    assert ("kueue.x-k8s.io/elastic-job" in job["metadata"]["annotations"]) is autoscaling
    # Only the autoscaler talks to the API server.
    tokens = {name: pod["spec"]["automountServiceAccountToken"] for name, pod in pod_templates(job).items()}
    assert tokens == {"head": autoscaling, "submitter": False, "a100-spot": False}


def test_fold_workers_that_share_a_gpu_share_a_pod(prod: KubernetesCluster) -> None:
    text = MINIMAL + "folds: {count: 3, inner: 2, resources: {cpu: 2, gpu: 0.25}}\n"
    job, _ = manifests(load_sweep_text(text), prod)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["cpu"], limits["nvidia.com/gpu"], group["maxReplicas"]) == ("8000m", "1", 2)
    sizes = {item["name"]: item.get("value") for item in pod_templates(job)["head"]["spec"]["containers"][0]["env"]}
    assert (sizes["DUCHENNE_CLUSTER_CPUS"], sizes["DUCHENNE_CLUSTER_GPUS"]) == ("16", "2")


def test_fold_workers_that_share_a_core_share_a_pod(prod: KubernetesCluster) -> None:
    text = MINIMAL + "folds: {count: 3, inner: 2, resources: {cpu: 0.5}}\n"
    job, _ = manifests(load_sweep_text(text), prod)
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["cpu"], group["rayStartParams"]["num-cpus"], group["maxReplicas"]) == ("1000m", "1", 4)


@pytest.mark.parametrize("autoscaling", [True, False])
def test_pools_may_stand_in_for_each_other_but_do_not_add_up(sweep: Sweep, autoscaling: bool) -> None:
    pools = [{"name": name, "cpu": 12, "memory_gib": 64, "gpu": 3, "max_nodes": 1} for name in ("a", "b", "c", "d")]
    cluster = {"node_pools": pools, "max_workers": 8, "autoscaling": autoscaling}
    job, _ = manifests(sweep, cluster)
    groups = [(group["groupName"], group["maxReplicas"]) for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert groups == ([("a", 3), ("b", 3), ("c", 3), ("d", 3)] if autoscaling else [("a", 3), ("b", 3), ("c", 2)])


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ("{cpu: 64, gpu: 1}", "needs 64 CPU and 1 GPU .* largest node, of a100-spot, has 48 and 4; lower"),
        ("{cpu: 1, gpu: 8}", "needs 1 CPU and 8 GPU"),
        ("{cpu: 32}", "largest node, of cpu, has 16 and 0"),
    ],
)
def test_more_than_the_largest_node_is_one_line(prod: KubernetesCluster, resources: str, message: str) -> None:
    text = MINIMAL + f"folds: {{count: 3, inner: 2, resources: {resources}}}\n"
    with pytest.raises(ClusterError, match=message) as caught:
        manifests(load_sweep_text(text), prod)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["faces", "file:///data/faces", "/data/faces"])
def test_data_of_this_machine_is_refused(uri: str) -> None:
    sweep = load_sweep_text(MINIMAL.replace("builtin://yeast", uri))
    with pytest.raises(ClusterError, match=r"data\.uri: pods read s3://"):
        manifests(sweep, KubernetesCluster())


def test_a_folder_of_the_storage_is_read() -> None:
    sweep = load_sweep_text(MINIMAL.replace("builtin://yeast", "/var/lib/duchenne/faces"))
    assert manifests(sweep, KubernetesCluster())


def test_secrets_are_references_and_every_pod_authenticates(sweep: Sweep, prod: KubernetesCluster) -> None:
    job, _ = manifests(sweep, prod)
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "duchenne-ray-token"}
    for template in pod_templates(job).values():
        variables = {item["name"]: item for item in template["spec"]["containers"][0]["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == "duchenne-ray-token"
        assert variables["DUCHENNE_RECORDS_URL"]["valueFrom"]["secretKeyRef"]["name"] == "duchenne-records"
        assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "duchenne-s3"


def test_labels_say_whose_sweep_it_is_and_whose_cost(sweep: Sweep, prod: KubernetesCluster) -> None:
    job, config = manifests(sweep, prod, sweep_id="small-0123ab")
    for labelled in [job, config, *pod_templates(job).values()]:
        labels = labelled["metadata"]["labels"]
        assert labels["duchenne.dev/sweep"] == "small-0123ab"
        assert labels["duchenne.dev/team"] == labels["duchenne.dev/cost-center"] == "faces"
    prices = {name: pod["metadata"].get("annotations", {}) for name, pod in pod_templates(job).items()}
    assert prices["head"]["duchenne.dev/node-usd-per-hour"] == "0.8"
    assert prices["a100-spot"]["duchenne.dev/node-usd-per-hour"] == "6"


def test_what_the_job_owns_refers_to_it(sweep: Sweep) -> None:
    job, config = manifests(sweep, KubernetesCluster())
    created = {**job, "metadata": {**job["metadata"], "uid": "77e0"}}
    (reference,) = own(config, created)["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["name"], reference["uid"]) == ("RayJob", job["metadata"]["name"], "77e0")
    assert "ownerReferences" not in config["metadata"]
    assert config["metadata"]["annotations"]["duchenne.dev/owner"] == f"RayJob/{job['metadata']['name']}"


@given(st.integers(1, 64), st.sampled_from([0, 0.25, 0.5, 1, 2, 4]), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_pods_fit_their_nodes_and_hold_no_more_workers_than_allowed(cpu: int, gpu: float, most: int) -> None:
    pools = [
        {"name": "small", "cpu": 8, "memory_gib": 32, "max_nodes": 3},
        {"name": "large", "cpu": 64, "memory_gib": 256, "gpu": 4, "max_nodes": 2},
    ]
    text = MINIMAL + f"folds: {{count: 3, inner: 2, resources: {{cpu: {cpu}, gpu: {gpu}}}}}\n"
    cluster = {"node_pools": pools, "max_workers": most, "head": {"cpu": 2, "memory_gib": 4}}
    try:
        job, _ = manifests(load_sweep_text(text), cluster)
    except ClusterError:
        assert cpu * (1 / gpu if 0 < gpu < 1 else 1) > (64 if gpu else 8)
        return
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        pool = next(pool for pool in pools if pool["name"] == group["groupName"])
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        on_a_node = -(-group["maxReplicas"] // int(str(pool["max_nodes"])))
        assert on_a_node * int(limits["cpu"].removesuffix("m")) <= int(str(pool["cpu"])) * 1000
        assert on_a_node * int(limits["memory"].removesuffix("Mi")) <= int(str(pool["memory_gib"])) * 1024
        assert on_a_node * int(limits.get("nvidia.com/gpu", 0)) <= int(str(pool.get("gpu", 0)))
        assert 1 <= group["maxReplicas"] <= most


def test_notes_name_what_would_be_lost(sweep: Sweep, prod: KubernetesCluster) -> None:
    assert notes(sweep, prod) == []
    found = notes(sweep, KubernetesCluster())
    assert [note.split(":")[0] for note in found] == ["storage", "secrets.records", "image", "secrets.storage"]


def test_the_verb_prints_the_objects(
    tmp_path: Path, clusters_text: str, sweep: Sweep, prod: KubernetesCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(MINIMAL)
    (tmp_path / "c.yaml").write_text(clusters_text)
    command = ["manifests", str(tmp_path / "s.yaml"), "--cluster-file", str(tmp_path / "c.yaml")]
    assert call([*command, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == manifests(load_sweep_text(MINIMAL), prod)
    assert call(command) == 0
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == json.loads(printed.out)
    assert call([*command, "--cluster", "lab", "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert job["entrypoint"] == "duchenne run sweep.yaml --id minimal-000000 --supervised"
    assert load_sweep_text(job["files"]["sweep.yaml"]) == load_sweep_text(MINIMAL)


def test_limits_of_the_team_travel_and_those_of_others_stay(tmp_path: Path, sweep: Sweep) -> None:
    (tmp_path / "teams.yaml").write_text("faces: {usd_per_month: 100}\nvideo: {usd_per_month: 1}\n")
    job, config = manifests(sweep, KubernetesCluster(), home=tmp_path)
    assert yaml.safe_load(config["data"]["teams.yaml"]) == {"faces": {"usd_per_month": 100}}
    variables = {item["name"]: item.get("value") for item in pod_templates(job)["head"]["spec"]["containers"][0]["env"]}
    assert variables["DUCHENNE_TEAMS_FILE"] == "/etc/duchenne/teams.yaml"
    job, config = manifests(sweep, KubernetesCluster())
    assert set(config["data"]) == {"sweep.yaml"}


def test_prices_of_the_submitters_file_travel(tmp_path: Path) -> None:
    node = "{cpu: 8, gpu: 1, memory_gib: 32, on_demand_usd_per_hour: 1.5, spot_usd_per_hour: 0.5}"
    (tmp_path / "prices.yaml").write_text(f"nodes:\n  small: {node}\n")
    text = MINIMAL + f"prices: {{file: {tmp_path / 'prices.yaml'}, node: small, spot: true}}\n"
    _, config = manifests(load_sweep_text(text), KubernetesCluster())
    (tmp_path / "prices.yaml").unlink()
    assert worker_rate(load_sweep_text(config["data"]["sweep.yaml"])) == Rate(0.5 / 8 / 3600, 1.0)


def test_a_registry_that_asks_for_a_secret_gets_its_name(sweep: Sweep, faults: Faults) -> None:
    job, _ = manifests(sweep, KubernetesCluster(secrets=SecretNames(image_pull="registry")))
    assert faults(job) == []
    for template in pod_templates(job).values():
        assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_an_id_follows_from_the_spec_and_fits_kuberay() -> None:
    long_name = load_sweep_text(MINIMAL.replace("minimal", "a" * 40))
    assert sweep_id_of(long_name) == sweep_id_of(load_sweep_text(MINIMAL.replace("minimal", "a" * 40)))
    assert len(sweep_id_of(long_name)) == 47
    assert sweep_id_of(long_name) != sweep_id_of(load_sweep_text(MINIMAL.replace("minimal", "b" * 40)))
