"""What the records say of a sweep on Kubernetes, where `DUCHENNE_RECORDS_URL` lets this machine read them."""

from __future__ import annotations

import getpass
import os
import time

from duchenne.clusters.errors import ClusterError
from duchenne.clusters.port import ENDED, Json
from duchenne.records import NotFoundError, Sweep, open_store
from duchenne.records.store import URL_VARIABLE

LOCK_PATIENCE_SECONDS = 75.0  # a driver that was killed holds its sweep for a minute more
POLL_SECONDS = 1.0


def recorded(sweep_id: str) -> Sweep | None:
    """The sweep on record; None without the variable, or where the driver has not begun.

    Raises:
        duchenne.records.RecordsError: the records can't be read.
    """
    url = os.environ.get(URL_VARIABLE)
    if not url:
        return None
    with open_store(url) as store:
        try:
            return store.get_sweep(sweep_id)
        except NotFoundError:
            return None


def end_recorded(sweep_id: str, seconds: float = LOCK_PATIENCE_SECONDS) -> bool:
    """Have the records say that a sweep is stopped, once its driver has; False where they know none that goes on.

    A driver that could not say so itself is out of the way when its lock has run out.

    Raises:
        ClusterError: a driver holds it longer than that: it runs somewhere else.
        duchenne.records.RecordsError: the records can't be read or written.
    """
    record = recorded(sweep_id)
    if record is None or record.state in ENDED:
        return False
    deadline, actor = time.monotonic() + seconds, getpass.getuser()
    with open_store(os.environ[URL_VARIABLE]) as store:
        store.request_stop(sweep_id, actor=actor)
        while (record := store.end_undriven(sweep_id, actor=actor)).state not in ENDED:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{sweep_id} must have no driver once its objects are gone, but {record.lock_holder} holds it on "
                    "record; end that one"
                )
            time.sleep(POLL_SECONDS)
    return True


def balance(sweep_id: str) -> Json | None:
    """The balance of its ledger; None like `recorded`."""
    if recorded(sweep_id) is None:
        return None
    with open_store(os.environ[URL_VARIABLE]) as store:
        return dict(store.ledger.balance(sweep_id))
