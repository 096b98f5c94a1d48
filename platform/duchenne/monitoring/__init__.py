"""Monitoring: metrics for Prometheus, dashboards for Grafana, and the rules that page somebody.

Belongs here: what metrics are called and what they say, who serves them, what is drawn and alerted from them. Does not
belong here: counting (`duchenne.pool.measures`, `duchenne_jobs.data.tallies`) and reading the records
(`duchenne.records.gauges`). `docs/metrics.md` has every name.

Nothing is imported here: prometheus-client and Grafana's packages come with `duchenne[server]`, and a sweep that nobody
scrapes needs neither.
"""
