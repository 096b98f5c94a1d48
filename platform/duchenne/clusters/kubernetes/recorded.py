"""What the records say of a sweep on Kubernetes, where `DUCHENNE_RECORDS_URL` lets this machine read them."""

from __future__ import annotations

import os

from duchenne.clusters.port import Json
from duchenne.records import NotFoundError, Sweep, open_store
from duchenne.records.store import URL_VARIABLE


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


def balance(sweep_id: str) -> Json | None:
    """The balance of its ledger; None like `recorded`."""
    if recorded(sweep_id) is None:
        return None
    with open_store(os.environ[URL_VARIABLE]) as store:
        return dict(store.ledger.balance(sweep_id))
