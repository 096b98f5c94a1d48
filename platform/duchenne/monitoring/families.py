"""Metrics of the catalogue as prometheus-client's families: one value a call, one family a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family

from duchenne.monitoring.catalogue import Metric
from duchenne.pool.measures import Durations


class Families:
    """What one scrape is answered with. A metric without a value is left out: unknown, never 0."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def put(self, metric: Metric, value: float | None, *labels: str) -> None:
        """Add one series; None adds nothing."""
        if value is None:
            return
        family = self._families.get(metric.name)
        if family is None:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = self._families[metric.name] = kind(metric.family, metric.help, labels=metric.labels)
        family.add_metric(labels, value)  # type: ignore[attr-defined] # both kinds have it, their base has not

    def put_durations(self, metric: Metric, bounds: Sequence[float], value: Durations, *labels: str) -> None:
        """Add the series of one histogram."""
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = HistogramMetricFamily(
                metric.family, metric.help, labels=metric.labels
            )
        assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - a name has one kind
        names = [*(f"{float(bound)}" for bound in bounds), "+Inf"]
        buckets = list(zip(names, accumulate(value.counts), strict=True))
        family.add_metric(labels, buckets, sum_value=value.total)

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())
