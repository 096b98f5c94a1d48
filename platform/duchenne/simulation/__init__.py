"""Plays a sweep on a virtual clock: the queue, the leases, the search and the selection are those of a real one.

Belongs here: what a cluster is made of (nodes, prices, failures, durations, learning curves), the clock, records in
memory, and the report of what came out. Does not belong here: any decision of a sweep; those are made by
`duchenne.pool`, `duchenne.search`, `duchenne.plan` and `duchenne.records`, whose code runs here unchanged.
"""
