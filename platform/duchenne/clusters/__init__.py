"""Where a sweep runs, and how it gets there.

Belongs here: the clusters file, sizing, the objects of a cluster, embedded Ray. Does not belong here: what runs there
(pool), what it may cost (budget), what is printed (cli). Importing this package loads neither torch, Ray nor the
Kubernetes client.
"""
