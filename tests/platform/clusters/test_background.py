"""A driver in the background of this machine: a real one, and what is told of one that dies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from duchenne.clusters.background import LocalPort
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.limits import Limits
from duchenne.records import open_home
from duchenne.spec import load_sweep_text

TEXT = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: small, team: faces}
data: {uri: "builtin://toy?count=60&tasks=3&seed=0"}
folds: {count: 2, inner: 2}
seeds: 1
budget: {wall_seconds: 1}
"""


def test_a_real_driver_that_can_not_pay_for_one_trial(tmp_path: Path) -> None:
    port = LocalPort(tmp_path)
    sweep_id = port.submit(load_sweep_text(TEXT))
    *_, last = port.watch(sweep_id)
    assert (last.state, last.detail[:7]) == ("exhausted", "budget:")
    assert any(line.startswith(f"{sweep_id}: exhausted: budget:") for line in port.logs(sweep_id))
    with pytest.raises(ClusterError, match="is exhausted; nothing to do"):
        port.stop(sweep_id)
    assert port.cost(sweep_id)["budget"]["wall_seconds"] == 1


def test_a_driver_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "driver"
    program.write_text("#!/bin/sh\necho began\necho 'no such thing' >&2\nexec sleep 100\n")
    program.chmod(0o755)
    port = LocalPort(tmp_path, [str(program)])
    sweep_id = port.submit(load_sweep_text(TEXT))
    statuses = port.watch(sweep_id)
    assert next(statuses).state == "starting"
    process = json.loads((tmp_path / "submitted" / sweep_id / "process.json").read_text())
    follow = port.logs(sweep_id, follow=True)
    assert next(follow) == "began"
    os.kill(process["pid"], signal.SIGKILL)
    (last,) = statuses
    assert (last.state, last.detail) == ("failed", "no such thing")
    assert list(follow) == ["no such thing"]


def test_a_process_of_another_name_is_not_taken_for_the_driver(tmp_path: Path) -> None:
    """A pid is used again; the pair of pid and start is not."""
    port = LocalPort(tmp_path, ["/bin/false"])
    sweep_id = port.submit(load_sweep_text(TEXT))
    path = tmp_path / "submitted" / sweep_id / "process.json"
    path.write_text(json.dumps({"pid": os.getpid(), "started": "1", "ended_before": None}))
    assert [status.state for status in port.watch(sweep_id)] == ["failed"]


def test_a_sweep_of_the_terminal_has_no_log_here(tmp_path: Path) -> None:
    from duchenne.records import NewSweep

    new = NewSweep(
        name="small", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="builtin://toy"
    )
    with open_home(tmp_path) as store:
        store.create_sweep(new, "small-000000")
        for state in ("running", "succeeded"):
            store.set_sweep_state("small-000000", state, token=None)
    with pytest.raises(ClusterError, match="`duchenne run` printed to its terminal"):
        list(LocalPort(tmp_path).logs("small-000000"))
    with pytest.raises(ClusterError, match="succeeded; nothing to do"):
        LocalPort(tmp_path).resume("small-000000", Limits())
