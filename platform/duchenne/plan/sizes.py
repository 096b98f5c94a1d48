"""How many rows and tasks a sweep trains on, as far as names and small files on this disk tell."""

from __future__ import annotations

from duchenne.plan.cost_model import Setting
from duchenne.spec.datasets import local_manifest
from duchenne.spec.sweep import Sweep
from duchenne_jobs.data.builtin import builtin_tasks, parse_builtin
from duchenne_jobs.data.yeast import YEAST_ROWS


def data_size(uri: str) -> tuple[int, int] | None:
    """(rows, tasks) of a dataset; None where its manifest is not on this disk."""
    builtin = parse_builtin(uri)
    if builtin is None:
        manifest = local_manifest(uri)
        return None if manifest is None else (manifest.row_count, len(manifest.tasks))
    name, options = builtin
    if name == "yeast":
        rows = YEAST_ROWS
    elif name == "faces":
        rows = int(options["subjects"]) * int(options["frames"])
    else:
        rows = int(options["count"])
    return rows, len(builtin_tasks(uri) or ())


def growth(sweep: Sweep) -> float:
    """Rows of an outer training set for one row of an inner one."""
    folds = sweep.folds
    if folds.method == "partition":
        return 1.0  # the validation subjects are trained on in neither phase
    if folds.method == "holdout":
        test, validation = folds.test or 0.0, folds.validation or 0.0
        return (1 - test) / (1 - test - validation)
    return folds.inner / (folds.inner - 1)


def setting_of(sweep: Sweep, phase: str, epochs: float, uri: str | None = None) -> Setting | None:
    """What a fold job of `sweep` trains on; None where nobody knows yet.

    Args:
        epochs: of the job.
        uri: where the data lies, for a sweep that ran; None takes what the file says.
    """
    size = data_size(uri or sweep.data.uri)
    if size is None:
        return None
    rows, tasks = size
    folds = sweep.folds
    # How large the owners' partitions are is not known before the rows are read: no more than all of them.
    tested = folds.test or 0.0 if folds.is_one_split else 1 / folds.count
    outer = rows * (1 - tested)
    return Setting(outer if phase == "evaluation" else outer / growth(sweep), tasks, folds.resources.gpu > 0, epochs)
