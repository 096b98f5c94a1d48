"""The control plane: sweep files, plans, search, fold pool, records, leaderboards and the command line.

Belongs here: what decides, schedules, records and shows. Does not belong here: anything that touches a row or a tensor
(package `duchenne_jobs`).
"""
