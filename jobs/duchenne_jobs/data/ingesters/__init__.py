"""From a raw source to Arrow shards, one ingester a source. To add one, see docs/data.md.

Belongs here: where the frames and labels of a source lie, and in what order. Does not belong here: what is done to one
frame (`faces/`), and how rows become shards (`writer.py`).
"""

from duchenne_jobs.data.ingesters.registry import INGESTERS
from duchenne_jobs.data.ingesters.run import ingest
from duchenne_jobs.data.ingesters.source import Ingester, Source, Workshop

__all__ = ["INGESTERS", "Ingester", "Source", "Workshop", "ingest"]
