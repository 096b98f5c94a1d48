"""The port on which a process is scraped: off unless DUCHENNE_METRICS_PORT is set, and on loopback unless told."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from duchenne.monitoring.errors import MonitoringError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from duchenne.pool.run import FoldPool

LOGGER = logging.getLogger("duchenne.monitoring")
PORT_VARIABLE = "DUCHENNE_METRICS_PORT"
HOST_VARIABLE = "DUCHENNE_METRICS_HOST"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """Where a process listens for scrapes."""

    host: str
    port: int


def metrics_address() -> Address | None:
    """What the environment asks for; None where it asks for nothing.

    Raises:
        MonitoringError: no port, or prometheus-client is not installed.
    """
    given = os.environ.get(PORT_VARIABLE, "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdecimal()) or not 1 <= int(given) <= 65535:
        raise MonitoringError(
            f"{PORT_VARIABLE} must be a port in 1..65535, but got {given!r:.40}; set it to 9464, or unset it"
        )
    if find_spec("prometheus_client") is None:
        raise MonitoringError(
            f"{PORT_VARIABLE} needs the package prometheus-client, but it is not installed; "
            "install duchenne[server], or unset it"
        )
    return Address(os.environ.get(HOST_VARIABLE, "").strip() or LOOPBACK, int(given))


class Endpoint(ExitStack):
    """`/metrics` over HTTP from a thread of this process, until it is closed.

    A port that is taken costs the metrics, never the sweep: it is told in the log.

    Args:
        address: where; None listens nowhere.
    """

    def __init__(self, address: Address | None, *collectors: Collector) -> None:
        super().__init__()
        if address is None:
            return
        from prometheus_client import CollectorRegistry, start_http_server

        registry = CollectorRegistry(auto_describe=False)
        for collector in collectors:
            registry.register(collector)
        try:
            server, thread = start_http_server(address.port, address.host, registry)
        except OSError as error:
            LOGGER.warning(
                "metrics: %s:%d can't be listened on (%s); this process goes on without",
                address.host,
                address.port,
                error.strerror or type(error).__name__,
            )
            return
        self.callback(thread.join, 10)
        self.callback(server.server_close)
        self.callback(server.shutdown)


def driver_endpoint(pool: FoldPool, gpus: float, sweep: str, team: str) -> Endpoint:
    """The metrics of a driver's pool, where the environment asks for them; else nothing at all."""
    address = metrics_address()
    if address is None:
        return Endpoint(None)
    from duchenne.monitoring.driver import PoolCollector

    return Endpoint(address, PoolCollector(pool, gpus, sweep, team))
