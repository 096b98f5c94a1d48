"""The leaderboard server: records over HTTP, for people and for programs.

Belongs here: who may see and do what, the REST API, sessions, uploads, and putting entries on boards. Does not belong
here: SQL (`duchenne.records`), statistics (`duchenne.boards`) or anything that runs a sweep.

Needs the extra `server`. Nothing outside this package imports it, except `duchenne serve`, inside its function.
"""
