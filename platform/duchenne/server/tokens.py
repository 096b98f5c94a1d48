"""API tokens: `dch_ID_SECRET`. The id finds one row, argon2 checks the secret, and a hit is remembered for a while.

Only the hashing is remembered: whether a token is revoked or has run out is read from its row at every request.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from duchenne.records import RecordStore
from duchenne.records.board_rows import Token

PATTERN = re.compile(r"dch_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_HASHER = PasswordHasher(time_cost=3, memory_cost=12 * 1024, parallelism=1)  # OWASP's smallest: 12 MiB, 3 passes
_REMEMBERED = 10_000


class BadToken(Exception):  # noqa: N818 - reads as the fact it states
    """The token opens nothing; the message says why, to whoever holds it."""


@dataclass(frozen=True)
class NewToken:
    """A token as it is made. `text` is shown once; the records keep `id` and `secret_hash`."""

    id: str
    text: str
    secret_hash: str


def make_token() -> NewToken:
    """A token of 256 random bits."""
    identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return NewToken(identifier, f"dch_{identifier}_{secret}", _HASHER.hash(secret))


def live(found: tuple[Token, str, datetime] | None) -> Token:
    """The token, if it is neither revoked nor expired.

    Raises:
        BadToken: it is, or there is none.
    """
    if found is None:
        raise BadToken("a token must be one of this server's, but this one is not; create another")
    token, _, now = found
    if token.revoked_at is not None:
        raise BadToken(f"a token must not be revoked, but {token.id} was, at {token.revoked_at:%Y-%m-%d %H:%M} UTC")
    if token.expires_at is not None and token.expires_at <= now:
        raise BadToken(f"a token must not have run out, but {token.id} did, at {token.expires_at:%Y-%m-%d %H:%M} UTC")
    return token


class TokenChecker:
    """Checks tokens of one store; threads share it."""

    def __init__(self, store: RecordStore, cache_seconds: float) -> None:
        self._store, self._seconds = store, cache_seconds
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()
        # Hashing takes memory on purpose: forty threads of it at once would take it all.
        self._hashing = threading.BoundedSemaphore(2)

    def is_known(self, text: str) -> bool:
        """Whether this token was checked a moment ago."""
        with self._lock:
            return self._known.get(_key(text), 0.0) > time.monotonic()

    def check(self, text: str) -> Token:
        """The token behind its text.

        Raises:
            BadToken: see its message.
        """
        parts = PATTERN.fullmatch(text)
        if parts is None:
            raise BadToken("a token looks like dch_ID_SECRET, but this one does not; copy all of it")
        found = self._store.find_token(parts[1])
        if found is None or (not self.is_known(text) and not self._matches(found[1], parts[2])):
            raise BadToken("a token must be one of this server's, but this one is not; create another")
        token = live(found)
        self._remember(text)
        return token

    def _matches(self, secret_hash: str, secret: str) -> bool:
        with self._hashing:
            try:
                return _HASHER.verify(secret_hash, secret)
            except (Argon2Error, InvalidHashError):
                return False

    def _remember(self, text: str) -> None:
        with self._lock:
            if self._known.get(_key(text), 0.0) <= time.monotonic():
                self._known[_key(text)] = time.monotonic() + self._seconds
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
