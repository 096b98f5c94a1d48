"""Dashboards as code: each module has one `dashboard()`; `duchenne grafana export` writes them as JSON into the chart.

Belongs here: what is drawn. Does not belong here: what is measured (`duchenne.monitoring.catalogue`) and how it gets
to a Grafana (`duchenne.monitoring.grafana`).
"""

from __future__ import annotations

import json
from typing import Any


def dashboards() -> dict[str, dict[str, Any]]:
    """File name without suffix -> the dashboard as Grafana takes it."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    from duchenne.monitoring.dashboards import overview, pool, server, sweep

    built = [module.dashboard().build() for module in (overview, sweep, pool, server)]
    documents = [_without_nulls(json.loads(JSONEncoder(sort_keys=True).encode(one))) for one in built]
    for document in documents:
        for number, panel in enumerate(document["panels"], start=1):
            panel["id"] = number
    return {document["uid"]: document for document in documents}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
