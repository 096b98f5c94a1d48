"""What runs on a worker: data, models, losses, training and evaluation of one fold job.

Belongs here: anything that touches a row, a tensor or a metric. Does not belong here: sweeps, budgets, databases,
clusters and people (package `duchenne`), or the recurrence's arithmetic (package `duchenne_kernels`).
"""
