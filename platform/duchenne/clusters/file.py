"""The clusters file to models, or to every error in it at once, each with its line."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path as FilePath

from pydantic import ValidationError

from duchenne.clusters.config import CLUSTER_TYPES, Cluster, KubernetesCluster, LocalCluster
from duchenne.clusters.errors import ClusterError
from duchenne.spec.errors import WHOLE_DOCUMENT, Fault, Path, Problem, SpecError, dotted
from duchenne.spec.located import located, read_text
from duchenne.spec.messages import broken_rules, show
from duchenne.spec.reading import read_yaml
from duchenne.spec.sections import SLUG_PATTERN

DEFAULT_FILE = "~/.config/duchenne/clusters.yaml"
LOCAL = "local"
_KNOWN = ("clusters", "default")


@dataclass(frozen=True)
class Clusters:
    """The clusters of a file, by name. `local` is always there.

    Attributes:
        source: the file, for messages.
        by_name: the clusters, in the file's order.
        default: the one taken where none is named; None where the file names none.
    """

    source: str
    by_name: dict[str, Cluster]
    default: str | None = None

    def get(self, name: str) -> Cluster:
        """The cluster of that name.

        Raises:
            ClusterError: no such cluster; names those that there are.
        """
        if name in self.by_name:
            return self.by_name[name]
        if name == LOCAL:
            return LocalCluster()
        near = difflib.get_close_matches(name, self.by_name, n=1)
        known = ", ".join(self.by_name) or f"none; write {self.source}"
        hint = f"did you mean {near[0]}?" if near else f"its clusters are {known}"
        raise ClusterError(f"a cluster must be in {self.source}, but there is no {name!r}; {hint}")

    def chosen(self, name: str | None) -> str:
        """The name that a verb means: the given one, else the default, else the only one, else `local`."""
        only = next(iter(self.by_name)) if len(self.by_name) == 1 else LOCAL
        return name or self.default or only

    def kubernetes(self, name: str | None) -> KubernetesCluster:
        """The named cluster, else the default, else the only one of its type.

        Raises:
            ClusterError: no such cluster, one of another type, or several to choose from.
        """
        own = [known for known, cluster in self.by_name.items() if isinstance(cluster, KubernetesCluster)]
        chosen = name or self.default or (own[0] if len(own) == 1 else None)
        if chosen is None:
            raise ClusterError(
                f"one kubernetes cluster must be chosen, but {self.source} has {', '.join(own) or 'none'}; "
                "name it with --cluster"
            )
        cluster = self.get(chosen)
        if not isinstance(cluster, KubernetesCluster):
            raise ClusterError(
                f"a cluster of type kubernetes has objects, but {chosen} is of type {cluster.type}; name another"
            )
        return cluster


def load_clusters(path: FilePath | None = None) -> Clusters:
    """The clusters of a file. The default file need not exist; a file that is named must.

    Raises:
        SpecError: every problem of the file, each with its line.
    """
    source = (path or FilePath(DEFAULT_FILE)).expanduser()
    if path is None and not source.exists():
        return Clusters(str(source), {})
    return load_clusters_text(read_text(source), str(source))


def load_clusters_text(text: str, name: str = "clusters.yaml") -> Clusters:
    """Like `load_clusters`, for text that is there already; `name` stands for the file in messages."""
    document = read_yaml(text)
    problems = [Problem(line, dotted(f.path), f.rule, f.value, f.hint) for line, f in document.faults]
    root = document.root
    if problems or root is None or not isinstance(root.value, dict):
        rule, hint = "must be a mapping", "write `clusters:` and below it one cluster a name"
        raise SpecError(name, problems or [Problem(root.line if root else 1, WHOLE_DOCUMENT, rule, None, hint)])
    data = {key: node.plain() for key, node in root.value.items()}
    by_name, faults = _validated(data)
    default = data.get("default")
    if default is not None and default != LOCAL and default not in by_name and not faults:
        faults.append(Fault(("default",), "must name a cluster of this file", show(default), "write one of them"))
    if faults:
        raise SpecError(name, [located(fault, root) for fault in faults])
    return Clusters(name, by_name, str(default) if default is not None else None)


def _validated(data: dict[str, object]) -> tuple[dict[str, Cluster], list[Fault]]:
    faults = [
        Fault((key,), "unknown field", key, f"known fields here: {', '.join(_KNOWN)}")
        for key in data
        if key not in _KNOWN
    ]
    listed = data.get("clusters")
    if not isinstance(listed, dict):
        hint = "write `clusters:` and below it one cluster a name"
        return {}, [*faults, Fault(("clusters",), "must be a mapping", show(listed), hint)]
    clusters: dict[str, Cluster] = {}
    for name, section in listed.items():
        result = _cluster(str(name), section)
        if isinstance(result, list):
            faults += result
        else:
            clusters[str(name)] = result
    return clusters, faults


def _cluster(name: str, section: object) -> Cluster | list[Fault]:
    at: Path = ("clusters", name)
    if re.fullmatch(SLUG_PATTERN, name) is None:
        return [Fault(at, "a name must be lower-case letters, digits and hyphens", name, "rename it")]
    if not isinstance(section, dict):
        return [Fault(at, "must be a mapping", show(section), "write `type: kubernetes` and its fields below it")]
    kind = section.get("type")
    if kind not in CLUSTER_TYPES:
        near = difflib.get_close_matches(str(kind), CLUSTER_TYPES, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "write `type: kubernetes`, for instance"
        seen = None if kind is None else show(kind)
        return [Fault((*at, "type"), f"must be one of {', '.join(CLUSTER_TYPES)}", seen, hint)]
    model = CLUSTER_TYPES[str(kind)]
    try:
        return model.model_validate_json(json.dumps(section), strict=True)
    except ValidationError as error:
        return [
            Fault((*at, *fault.path), fault.rule, fault.value, fault.hint.replace("docs/spec.md", "docs/kubernetes.md"))
            for fault in broken_rules(error, model, section)
        ]
