"""A sweep on Kubernetes: a KubeRay `RayJob` that Kueue admits, and what belongs to it.

Belongs here: sizes of worker groups, the objects, submitting and stopping them. Does not belong here: queues and
policies, which are there before any sweep (`k8s/`, `helm/duchenne`).
"""

from duchenne.clusters.kubernetes.manifests import manifests, own, sweep_id_of

__all__ = ["manifests", "own", "sweep_id_of"]
