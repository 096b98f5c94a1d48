"""Gets one message to one webhook within a deadline: attempts with a backoff, no redirect to strangers, no secret told.

The standard library's `http.client` on purpose: httpx and urllib3 write the whole address into their logs, and its path
may be the secret.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from duchenne.notifications.messages import DELIVERY_HEADER, EVENT_HEADER, SIGNATURE_HEADER, signature_of

if TYPE_CHECKING:
    from duchenne.notifications.webhooks import Webhook

MAX_REDIRECTS: Final = 3
_PASSING_STATUS: Final = frozenset({408, 425, 429})
_KEPT_METHOD: Final = frozenset({307, 308})
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Patience:
    """Seconds that a delivery may take.

    Attributes:
        deadline: all attempts together.
        attempt: one of them, however slowly the other side talks.
        first_wait, longest_wait: bounds of the wait between attempts, which doubles and is drawn at random below.
    """

    deadline: float = 30.0
    attempt: float = 8.0
    first_wait: float = 0.5
    longest_wait: float = 8.0


class DeliveryError(Exception):
    """An attempt failed; the message holds no secret. `passing`: another may succeed."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True)
class Parcel:
    """A message on its way. `delivery` is the same at each attempt, so that a receiver can drop a second copy."""

    event: str
    delivery: str
    body: bytes


def deliver(webhook: Webhook, parcel: Parcel, patience: Patience = Patience()) -> int:
    """Post the message until the webhook answers 2xx; the number of attempts.

    Raises:
        DeliveryError: it never did, or said that it never will.
    """
    end = time.monotonic() + patience.deadline
    retrying = Retrying(
        stop=stop_before_delay(patience.deadline),
        wait=wait_random_exponential(multiplier=patience.first_wait, max=patience.longest_wait),
        retry=retry_if_exception(lambda error: isinstance(error, DeliveryError) and error.passing),
        reraise=True,
    )
    last = DeliveryError("no answer in time", passing=True)

    def attempt() -> None:
        nonlocal last
        if time.monotonic() >= end:
            raise last  # what was wrong before says more than that time is up
        try:
            _attempt(webhook, parcel, patience.attempt, end)
        except DeliveryError as error:
            last = error
            raise

    retrying(attempt)
    return int(retrying.statistics["attempt_number"])


def _attempt(webhook: Webhook, parcel: Parcel, longest: float, end: float) -> None:
    """One attempt, over redirects within the webhook's own host."""
    address = urlsplit(webhook.url.get_secret_value())
    end = min(end, time.monotonic() + longest)
    for _ in range(MAX_REDIRECTS + 1):
        status, location = _post(webhook, address, parcel, end)
        if 200 <= status < 300:
            return
        if status in _KEPT_METHOD and location:
            address = _redirected(address, location)
        elif 300 <= status < 400:
            raise DeliveryError(f"answered {status}, which drops the message; write its final address", passing=False)
        else:
            raise DeliveryError(f"answered {status}", passing=status >= 500 or status in _PASSING_STATUS)
    raise DeliveryError(f"more than {MAX_REDIRECTS} redirects", passing=False)


def _redirected(address: SplitResult, location: str) -> SplitResult:
    try:
        target = urlsplit(urljoin(address.geturl(), location))
        same = _origin(target) == _origin(address)
    except ValueError:
        same = False
    if not same:
        raise DeliveryError(
            "redirects to another host or scheme, which would get the message; write its final address", passing=False
        )
    return target


def _origin(address: SplitResult) -> tuple[str, str | None, int | None]:
    return address.scheme, address.hostname, address.port or _PORTS.get(address.scheme)


def _post(webhook: Webhook, address: SplitResult, parcel: Parcel, end: float) -> tuple[int, str | None]:
    """(status, Location) of one request. The body of the answer is not read."""
    left = end - time.monotonic()
    if left <= 0:
        raise DeliveryError("no answer in time", passing=True)
    connection = _connection(address, left)
    # A timeout of the socket begins anew with each byte: this one does not.
    guard = threading.Timer(left, _hang_up, [connection])
    guard.daemon = True
    guard.start()
    try:
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        connection.request("POST", target, parcel.body, _headers(webhook, parcel))
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location")
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryError(_reason(error, late=time.monotonic() >= end), passing=True) from None
    finally:
        guard.cancel()
        connection.close()


def _connection(address: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host, port = address.hostname or "", address.port
    if address.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _hang_up(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):  # not connected yet, or closed meanwhile
        connection.sock.shutdown(socket.SHUT_RDWR)


def _headers(webhook: Webhook, parcel: Parcel) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "duchenne",
        EVENT_HEADER: parcel.event,
        DELIVERY_HEADER: parcel.delivery,
    }
    if webhook.secret is not None:
        headers[SIGNATURE_HEADER] = signature_of(webhook.secret.get_secret_value(), int(time.time()), parcel.body)
    return headers


def _reason(error: Exception, *, late: bool) -> str:
    """Why, in words that can't hold the address: the system's own for an errno, else the name of the error.

    `late`: the connection was hung up by us, which shows as whatever was being read.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
        return error.strerror
    return "no answer in time" if late or isinstance(error, TimeoutError) else type(error).__name__
