"""Who drives a sweep: a lock with an expiry, and a name by which a dead driver on this machine can be told.

A driver that was killed leaves its lock behind. It falls free at its expiry; on the same machine, `holder_is_gone` lets
a new driver take it at once.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import update

from duchenne.records.database import Database, find_sweep, lock_sweep
from duchenne.records.errors import LockHeldError
from duchenne.records.models import SweepRow
from duchenne.records.rows import Lock


def holder_name() -> str:
    """This process, told apart from any other: host, pid, the pid's start and its pid namespace (where known)."""
    return ":".join((socket.gethostname(), str(os.getpid()), *_identity(os.getpid())))


def holder_is_gone(holder: str) -> bool:
    """True only where it is certain that the process of that name, on this very machine, no longer runs."""
    parts = holder.split(":")
    if len(parts) != 4 or parts[0] != socket.gethostname() or not parts[1].isdigit():
        return False
    pid, start, namespace = int(parts[1]), parts[2], parts[3]
    if not namespace or namespace != _identity(os.getpid())[1]:
        return False
    return _identity(pid)[0] != start


def _identity(pid: int) -> tuple[str, str]:
    """(start in clock ticks since boot, pid namespace): a pid is used again, this pair is not. Empty where unknown."""
    try:
        # The command's name, field 2, may hold spaces and brackets: count from its end. Field 22 is the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        start = "" if fields[0] == "Z" else fields[19]
        return start, str(Path(f"/proc/{os.getpid()}/ns/pid").stat().st_ino)
    except (OSError, IndexError):
        return "", _namespace()


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


class LockRecords:
    """Part of `RecordStore`: the lock of a sweep."""

    database: Database

    def acquire_lock(
        self, sweep: str, holder: str, ttl_seconds: float = 60.0, is_gone: Callable[[str], bool] = holder_is_gone
    ) -> Lock:
        """Take the sweep for `ttl_seconds`; renew well before they are over.

        `is_gone(holder)` is asked about a lock that has not expired; True takes it over. Of two that try, one wins.

        Raises:
            LockHeldError: another driver holds it; names who, since when and until when.
            NotFoundError: no such sweep.
        """
        with self.database.read() as session:
            seen = find_sweep(session, sweep)
            abandoned = seen.lock_token if seen.lock_holder is not None and is_gone(seen.lock_holder) else None
        token = secrets.token_hex(16)
        with self.database.write() as session:
            row = lock_sweep(session, sweep)
            now = self.database.now(session)
            ends = row.lock_expires_at
            if row.lock_token not in (None, abandoned) and ends is not None and ends > now:
                raise LockHeldError(sweep, row.lock_holder or "an unnamed driver", row.lock_since or now, ends)
            expires = now + timedelta(seconds=ttl_seconds)
            row.lock_token, row.lock_holder, row.lock_since, row.lock_expires_at = token, holder, now, expires
            return Lock(sweep=sweep, token=token, holder=holder, since=now, expires_at=expires)

    def renew_lock(self, lock: Lock, ttl_seconds: float = 60.0) -> Lock:
        """Hold on for `ttl_seconds` from now. A lock that ran out and that nobody took is still this driver's.

        Raises:
            LockLostError: someone else holds the sweep now, or it was released.
        """
        with self.database.write() as session:
            row = lock_sweep(session, lock.sweep, lock.token)
            row.lock_expires_at = self.database.now(session) + timedelta(seconds=ttl_seconds)
            return Lock(
                sweep=lock.sweep, token=lock.token, holder=lock.holder, since=lock.since, expires_at=row.lock_expires_at
            )

    def release_lock(self, lock: Lock) -> bool:
        """Let go. False where the lock was no longer this driver's; then nothing changes."""
        statement = (
            update(SweepRow)
            .where(SweepRow.id == lock.sweep, SweepRow.lock_token == lock.token)
            .values(lock_token=None, lock_holder=None, lock_since=None, lock_expires_at=None)
        )
        with self.database.write() as session:
            return session.connection().execute(statement).rowcount == 1
