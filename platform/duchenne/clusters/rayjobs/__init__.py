"""A Ray cluster that runs already, through Ray Jobs.

Belongs here: what a job is told and carries, and what became of it. Does not belong here: starting Ray (`local`), and
what the driver does there.
"""
