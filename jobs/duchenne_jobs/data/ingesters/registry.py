"""Every ingester under the name that `duchenne data ingest` calls it by."""

from __future__ import annotations

from duchenne_jobs.data.ingesters.bp4d import bp4d
from duchenne_jobs.data.ingesters.celeba import celeba
from duchenne_jobs.data.ingesters.disfa import disfa
from duchenne_jobs.data.ingesters.rafdb import rafdb
from duchenne_jobs.data.ingesters.source import Ingester
from duchenne_jobs.data.ingesters.tabular import toy, yeast

INGESTERS: dict[str, Ingester] = {
    "bp4d": bp4d,
    "celeba": celeba,
    "disfa": disfa,
    "rafdb": rafdb,
    "toy": toy,
    "yeast": yeast,
}
