"""The command line: one verb a function, grouped by what a person is about to do.

Belongs here: arguments, tables, progress bars, exit codes. Does not belong here: anything that another package could
want to call. A verb imports what it needs when it runs, so that `duchenne --help` and `validate` answer at once.
"""
