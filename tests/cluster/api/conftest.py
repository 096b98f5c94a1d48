"""A stateful mock of the API server, over real HTTP."""

from __future__ import annotations

import asyncio
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp.web
import kmock
import pytest
from kubernetes import client

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.file import load_clusters_text
from duchenne.clusters.kubernetes.api import Api

JOBS = kmock.resource("ray.io", "v1", "rayjobs")
MAPS = kmock.resource("", "v1", "configmaps")
QUEUES = kmock.resource("kueue.x-k8s.io", "v1beta2", "localqueues")


class Emulator(kmock.KubernetesEmulator):
    """Adds what an API server gives an object, and the garbage collector that deletes what a deleted object owned."""

    versions = itertools.count(1)
    failing: tuple[str, str, int] | None = None  # method, part of the path, status: answered before anything is kept
    watches: list[str] = []  # what happens to the next watches: `cut`, or an answer's body  # noqa: RUF012

    allowed: Callable[[dict[str, str]], bool] = staticmethod(lambda _: True)  # what an access review asks

    async def _handle(self, request: kmock.Request) -> Any:
        if "/selfsubjectaccessreviews" in str(request.url):
            spec = request.data["spec"]
            verdict = {"allowed": self.allowed(spec["resourceAttributes"])}
            return aiohttp.web.json_response({"spec": spec, "status": verdict})
        if self.watches and "watch=" in str(request.url):
            return self._broken_watch(request, self.watches.pop(0))
        if self.failing and self.failing[0] == request.method and self.failing[1] in str(request.url):
            status = self.failing[2]
            return aiohttp.web.json_response({"kind": "Status", "message": f"said {status}"}, status=status)
        if request.resource is not None and request.action == kmock.action.CREATE:
            request.data.setdefault("metadata", {})["uid"] = str(uuid.uuid4())
        if request.resource is not None and request.action in (kmock.action.CREATE, kmock.action.UPDATE):
            request.data.setdefault("metadata", {})["resourceVersion"] = str(next(self.versions))
        before = {key: self._uid(key) for key in self.objects} if request.action == kmock.action.DELETE else {}
        response = await super()._handle(request)
        gone = {uid for key, uid in before.items() if uid and self.objects[key].deleted}
        for key in list(self.objects):
            stored = self.objects[key]
            if not stored.deleted and any(ref["uid"] in gone for ref in self._owners(stored)):
                stored.delete()
        return response

    def _broken_watch(self, request: kmock.Request, fault: str) -> aiohttp.web.Response:
        if fault == "cut":
            request._raw_request.transport.abort()
            return aiohttp.web.Response()
        return aiohttp.web.Response(text=fault, content_type="application/json")

    def _uid(self, key: Any) -> str | None:
        stored = self.objects[key]
        return None if stored.deleted else stored["metadata"].get("uid")

    def _owners(self, stored: Any) -> list[dict[str, Any]]:
        return list(stored["metadata"].get("ownerReferences", []))


class Server:
    """The mock in a thread of its own, since the client blocks."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        Emulator.watches = []
        async with Emulator() as self.mock, kmock.Server(self.mock) as server:
            self.url = str(server.url).rstrip("/")
            self._ready.set()
            await self._over.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def install(self, resource: kmock.resource, kind: str) -> None:
        """Make the server know a custom resource."""
        info = self.mock.resources[resource]
        info.kind, info.singular, info.namespaced, info.verbs = kind, kind.lower(), True, {"get", "create", "delete"}

    def kept(self, resource: kmock.resource) -> dict[str, Any]:
        """Name -> object, of those that are not deleted."""
        return {
            name: stored.raw
            for (kind, _, name), stored in self.mock.objects.items()
            if kind == resource and not stored.deleted
        }

    def patch(self, group: str, version: str, plural: str, name: str, body: dict[str, Any]) -> None:
        """Change an object of the namespace, as its controller would."""
        configuration = client.Configuration()
        configuration.host = self.url
        custom = client.CustomObjectsApi(client.ApiClient(configuration))
        custom.patch_namespaced_custom_object(group, version, "duchenne", plural, name, body)

    def asked(self, method: str, plural: str) -> int:
        """Requests of that method for that resource."""
        return sum(request.method == method and f"/{plural}" in str(request.url) for request in self.mock)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.install(JOBS, "RayJob")
    server.install(QUEUES, "LocalQueue")
    server.install(MAPS, "ConfigMap")
    server.mock.objects[QUEUES, "duchenne", "faces"] = {"metadata": {"name": "faces", "namespace": "duchenne"}}
    yield server
    server.close()


@pytest.fixture
def prod(clusters_text: str) -> KubernetesCluster:
    return load_clusters_text(clusters_text).kubernetes("prod")


@pytest.fixture
def api(server: Server, prod: KubernetesCluster) -> Api:
    configuration = client.Configuration()
    configuration.host, configuration.retries = server.url, 0
    return Api(client.ApiClient(configuration), prod, pause_seconds=0.001)
