"""The API server: a client by the kubeconfig, calls that are tried again, and refusals in one line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from tenacity import RetryError, Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError

RAY_GROUP = ("ray.io", "v1")
KUEUE_GROUP = ("kueue.x-k8s.io", "v1beta2")
TRIES = 5
WATCH_SECONDS = 20  # then it looks by itself: reasons of pods and queues change without the RayJob
TIMEOUT_SECONDS = (5, 30)  # to connect, to answer
FOLLOW_SECONDS = 120  # of silence in a log that is followed: the driver prints each 10 s
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"

Json = dict[str, Any]


class Refused(ClusterError):  # noqa: N818 - reads as the fact it states
    """The API server answered, and said no. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Calls of one cluster.

    Every call ends within its tries: throttling, server errors and lost connections are tried again, with growing
    pauses; what is left is a `ClusterError` of one line.

    Args:
        client: a `kubernetes.client.ApiClient`.
        cluster: where; for messages and the namespace.
        pause_seconds: the first pause between two tries.
    """

    def __init__(self, client: Any, cluster: KubernetesCluster, pause_seconds: float = 0.5) -> None:
        from kubernetes import client as kubernetes

        self._client = client
        self._custom: Any = kubernetes.CustomObjectsApi(client)
        self._core: Any = kubernetes.CoreV1Api(client)
        self._authorization: Any = kubernetes.AuthorizationV1Api(client)
        self._cluster = cluster
        self._pause = pause_seconds

    @classmethod
    def connect(cls, cluster: KubernetesCluster) -> Api:
        """A client by the kubeconfig's context, or by the pod's own account where there is no kubeconfig.

        Raises:
            ClusterError: no such context, no kubeconfig.
        """
        from kubernetes import client, config

        loading: Any = config  # has no types
        try:
            return cls(loading.new_client_from_config(context=cluster.context), cluster)
        except config.ConfigException as error:
            if cluster.context is None and IN_CLUSTER in os.environ:
                loading.load_incluster_config()
                return cls(client.ApiClient(), cluster)
            wanted = f"context {cluster.context!r}" if cluster.context else "a current context"
            raise ClusterError(
                f"the kubeconfig must have {wanted}, but {_first_line(error)}; see `kubectl config get-contexts`"
            ) from None

    @property
    def namespace(self) -> str:
        """Where the objects of sweeps are."""
        return self._cluster.namespace

    def serves(self, group: tuple[str, str]) -> bool:
        """Whether the API server knows a group of custom resources."""
        try:
            self._call("get", f"{group[0]}/{group[1]}", self._custom.get_api_resources, *group)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    def may(self, verb: str, group: str, resource: str) -> bool:
        """Whether this user may do that to a resource (`pods`, or `pods/log`) of the namespace."""
        plural, _, subresource = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": verb, "group": group, "resource": plural}
        body = {"spec": {"resourceAttributes": asked | ({"subresource": subresource} if subresource else {})}}
        review = self._call(
            "create", "selfsubjectaccessreviews", self._authorization.create_self_subject_access_review, body
        )
        return bool(review.status.allowed)

    def local_queue(self, name: str) -> Json:
        """A LocalQueue of the namespace."""
        return self._custom_call("get", self._custom.get_namespaced_custom_object, KUEUE_GROUP, "localqueues", name)

    def secret_exists(self, name: str) -> bool:
        """Whether a Secret is there. Its metadata alone are asked for, never its content."""
        return self._metadata(f"/api/v1/namespaces/{self.namespace}/secrets/{name}", "secrets")

    def namespace_exists(self) -> bool:
        """Whether the namespace is there."""
        return self._metadata(f"/api/v1/namespaces/{self.namespace}", "namespaces")

    def claim_exists(self, name: str) -> bool:
        """Whether a PersistentVolumeClaim is there."""
        return self._metadata(f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims/{name}", "claims")

    def ray_jobs(self) -> list[Json]:
        """The RayJobs of sweeps in the namespace."""
        found = self._call(
            "list",
            "rayjobs.ray.io",
            self._custom.list_namespaced_custom_object,
            *RAY_GROUP,
            self.namespace,
            "rayjobs",
            label_selector="app.kubernetes.io/managed-by=duchenne",
        )
        return list(found["items"])

    def ray_job(self, name: str) -> Json:
        """A RayJob of the namespace."""
        return self._custom_call("get", self._custom.get_namespaced_custom_object, RAY_GROUP, "rayjobs", name)

    def create_ray_job(self, body: Json) -> Json:
        """Creates a RayJob; returns it as the API server keeps it. One that an unanswered try had made is taken."""
        name = body["metadata"]["name"]
        created: Json = self._create(
            "rayjobs",
            lambda: self._custom.create_namespaced_custom_object(
                *RAY_GROUP, self.namespace, "rayjobs", body, _request_timeout=TIMEOUT_SECONDS
            ),
            lambda: self.ray_job(name),
        )
        return created

    def delete_ray_job(self, name: str) -> None:
        """Deletes a RayJob and, before it goes, what it owns."""
        self._custom_call(
            "delete",
            self._custom.delete_namespaced_custom_object,
            RAY_GROUP,
            "rayjobs",
            name,
            propagation_policy="Foreground",
        )

    def workloads(self) -> list[Json]:
        """Kueue's Workloads of the namespace."""
        found = self._call(
            "list",
            "workloads.kueue.x-k8s.io",
            self._custom.list_namespaced_custom_object,
            *KUEUE_GROUP,
            self.namespace,
            "workloads",
        )
        return list(found["items"])

    def pods(self, labels: str) -> list[Json]:
        """Pods of the namespace with these labels, as the API server wrote them."""
        found = self._call("list", "pods", self._core.list_namespaced_pod, self.namespace, label_selector=labels)
        return list(self._client.sanitize_for_serialization(found)["items"])

    def events(self, pod: str) -> list[Json]:
        """What the cluster noted about a pod."""
        found = self._call(
            "list",
            "events",
            self._core.list_namespaced_event,
            self.namespace,
            field_selector=f"involvedObject.kind=Pod,involvedObject.name={pod}",
        )
        items = self._client.sanitize_for_serialization(found)["items"]
        return [event for event in items if event["involvedObject"].get("name") == pod]

    def log_lines(self, pod: str, follow: bool) -> Iterator[str]:
        """The lines of a pod's log, decoded as they come; with `follow` until the pod ends.

        A connection that breaks, or that is silent for long, is made anew, and the lines that were seen are left out.
        """
        from urllib3.exceptions import HTTPError

        seen = fruitless = 0
        while True:
            before = seen
            try:
                for number, line in enumerate(self._log(pod, follow)):
                    if number >= seen:
                        seen = number + 1
                        yield line
                return
            except HTTPError as error:
                fruitless = 0 if seen > before else fruitless + 1
                if fruitless == TRIES:
                    raise ClusterError(
                        f"the log of pod {pod} must come, but breaks off ({_first_line(error)}); try again"
                    ) from None
            time.sleep(self._pause)

    def _log(self, pod: str, follow: bool) -> Iterator[str]:
        response = self._try(
            "get",
            "pods/log",
            lambda: self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                follow=follow,
                _preload_content=False,
                _request_timeout=(TIMEOUT_SECONDS[0], FOLLOW_SECONDS if follow else TIMEOUT_SECONDS[1]),
            ),
        )
        rest = b""
        for chunk in response.stream(decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def wait_for_change(self, name: str, version: str | None, seconds: int = WATCH_SECONDS) -> None:
        """Returns once a RayJob is no longer of that version, when the watch ends, or when it can't be had for now."""
        from kubernetes import watch
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        typeless: Any = watch
        watching = typeless.Watch()
        try:
            for event in watching.stream(
                self._custom.list_namespaced_custom_object,
                *RAY_GROUP,
                self.namespace,
                "rayjobs",
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=seconds,
                _request_timeout=(TIMEOUT_SECONDS[0], seconds + TIMEOUT_SECONDS[0]),
            ):
                if event is None:  # half a line, or no JSON
                    break
                metadata = event["object"].get("metadata", {})  # an error's object has none
                if metadata.get("name") == name and (
                    event["type"] == "DELETED" or metadata.get("resourceVersion") != version
                ):
                    return
        except (ApiException, HTTPError):
            time.sleep(self._pause)
        finally:
            watching.stop()

    def create_config_map(self, body: Json) -> None:
        """Creates a ConfigMap."""
        name = body["metadata"]["name"]
        self._create(
            "configmaps",
            lambda: self._core.create_namespaced_config_map(self.namespace, body, _request_timeout=TIMEOUT_SECONDS),
            lambda: self._call("get", "configmaps", self._core.read_namespaced_config_map, name, self.namespace),
        )

    def config_map(self, name: str) -> Json:
        """A ConfigMap, as the API server wrote it."""
        found = self._call("get", "configmaps", self._core.read_namespaced_config_map, name, self.namespace)
        content: Json = self._client.sanitize_for_serialization(found)
        return content

    def delete_config_map(self, name: str) -> None:
        """Deletes a ConfigMap."""
        self._call("delete", "configmaps", self._core.delete_namespaced_config_map, name, self.namespace)

    def _metadata(self, path: str, resource: str) -> bool:
        """Whether an object is there, by its metadata."""
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
        request = self._client.param_serialize("GET", path, header_params=headers, auth_settings=["BearerToken"])

        def ask() -> None:
            response = self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            response.read()
            if response.status >= 400:
                raise ApiException(status=response.status, reason=response.reason)

        try:
            self._try("get", resource, ask)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    def _create(self, resource: str, create: Callable[[], Any], read: Callable[[], Any]) -> Any:
        tried = 0

        def once() -> Any:
            nonlocal tried
            tried += 1
            return create()

        try:
            created = self._try("create", resource, once)
            return read() if created is None else created  # 202, accepted, says no more
        except Refused as refused:
            # A try whose answer was lost has made it: the name is new and ours alone.
            if refused.status == 409 and tried > 1:
                return read()
            raise

    def _custom_call(
        self, verb: str, call: Callable[..., Any], group: tuple[str, str], plural: str, name: str, **more: Any
    ) -> Json:
        result: Json = self._call(verb, f"{plural}.{group[0]}", call, *group, self.namespace, plural, name, **more)
        return result

    def _call(self, verb: str, resource: str, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        return self._try(verb, resource, lambda: call(*arguments, **more, _request_timeout=TIMEOUT_SECONDS))

    def _try(self, verb: str, resource: str, call: Callable[[], Any]) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        waits = wait_exponential(multiplier=self._pause, max=8) + wait_random(0, self._pause)
        try:
            for attempt in Retrying(retry=retry_if_exception(_may_pass), stop=stop_after_attempt(TRIES), wait=waits):
                with attempt:
                    return call()
        except RetryError as error:
            last = error.last_attempt.exception()
            if isinstance(last, ApiException):
                raise Refused(self._explained(verb, resource, last), int(last.status or 0)) from None
            raise ClusterError(
                f"the API server of {self._where} must answer, but did not in {TRIES} tries ({_first_line(last)}); "
                "check the network and `kubectl cluster-info`"
            ) from None
        except ApiException as error:
            raise Refused(self._explained(verb, resource, error), int(error.status or 0)) from None
        except HTTPError as error:
            raise ClusterError(f"the API server of {self._where} can't be reached: {_first_line(error)}") from None
        raise AssertionError("a retry ends with a result or an error")

    @property
    def _where(self) -> str:
        return f"context {self._cluster.context}" if self._cluster.context else "the current context"

    def _explained(self, verb: str, resource: str, error: Any) -> str:
        said = _said(error)
        match error.status:
            case 401:
                return f"the API server of {self._where} must know you, but does not ({said}); log in again"
            case 403:
                return (
                    f"`{verb}` on {resource} in namespace {self.namespace} must be allowed, but is not; "
                    "ask for the role duchenne-submitter (docs/kubernetes.md)"
                )
            case 404:
                return f"{resource} must be there to {verb}, but is not in namespace {self.namespace} ({said})"
            case 409:
                return f"a name must be new to {verb} {resource}, but is taken ({said}); try again"
            case 422:
                return f"{resource} must be valid to {verb}, but the API server refuses it: {said}"
            case status:
                return f"the API server of {self._where} failed to {verb} {resource} with {status} ({said}); try later"


def _may_pass(error: BaseException) -> bool:
    """Throttling, a server's fault, a lost connection: another try may work."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    if isinstance(error, ApiException):
        return error.status == 429 or int(error.status or 0) >= 500
    return isinstance(error, HTTPError)


def _said(error: Any) -> str:
    """The message of a Kubernetes Status, else the HTTP reason; one line."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason or "no reason given"
    return " ".join(str(message).split())[:300]


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
