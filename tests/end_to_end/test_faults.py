"""What a sweep survives: kills, bad rows, a stop, an empty purse. Real processes are killed; nothing is simulated."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duchenne.records import open_home

SLOW_TRAINING = "training: {epochs: 60, batch_size: 8, learning_rate: 0.003}"
FAST_TRAINING = "training: {epochs: 4, batch_size: 64, learning_rate: 0.01}"


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s: {condition}")


def id_in(log: Path) -> str:
    match = wait_for(lambda: re.search(r"^sweep: (\S+)", log.read_text(), re.MULTILINE))
    return str(match.group(1))


def result_keys(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    names = ("trial", "phase", "method", "fold", "inner", "seed", "epoch")
    keyed = {tuple(row[name] for name in names): row for row in rows}
    assert len(keyed) == len(rows), "a result is on record twice"
    return keyed


def with_data(sweep: Path, place: Path) -> str:
    return re.sub(r"^data: .*", f"data: {{uri: {json.dumps(str(place))}}}", sweep.read_text(), flags=re.MULTILINE)


def pool_workers(sweep_id: str, home: Path) -> list[int]:
    """Pids of the workers that hold a fold job, from the attempts on record."""
    with open_home(home) as store:
        open_attempts = [attempt for attempt in store.attempts(sweep_id) if attempt.ended_at is None]
    return [int(match.group(1)) for a in open_attempts if (match := re.search(r"pid(\d+)", a.worker))]


def test_a_killed_driver_resumes_and_nothing_on_record_runs_twice(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    toy.write_text(toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING))
    log = tmp_path / "run.log"
    driver = duchenne.start("run", str(toy), log=log)
    sweep_id = id_in(log)
    with open_home(duchenne.home) as store:
        wait_for(lambda: len(store.results(sweep_id)) > 150)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = result_keys(duchenne.json("results", sweep_id))
    assert duchenne.json("ls")[0]["state"] == "running"

    toy_fast = duchenne.run("resume", sweep_id, timeout=280)
    assert toy_fast.returncode == 0, toy_fast.stderr
    after = result_keys(duchenne.json("results", sweep_id))
    assert {key: after[key] for key in before} == before
    assert duchenne.json("ls")[0]["state"] == "succeeded"
    with open_home(duchenne.home) as store:
        for attempt in store.attempts(sweep_id):
            assert attempt.ended_at is not None
        # Epochs of a job go on where they were: over its attempts each epoch was run and filed once.
        for job in store.fold_jobs(sweep_id, phase="search", state="succeeded"):
            epochs = [
                key[6]
                for key in after
                if key[:2] == (job.key.trial, "search") and key[3:5] == (job.key.fold, job.key.inner)
            ]
            assert epochs == list(range(1, 61))


def test_a_killed_worker_costs_one_retry(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    toy.write_text(toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING).replace("[0.003, 0.01]", "[0.003]"))
    log = tmp_path / "run.log"
    driver = duchenne.start("run", str(toy), log=log)
    sweep_id = id_in(log)
    victim = wait_for(lambda: pool_workers(sweep_id, duchenne.home))[0]
    os.kill(victim, signal.SIGKILL)
    assert driver.wait(timeout=280) == 0, log.read_text()
    result_keys(duchenne.json("results", sweep_id))
    with open_home(duchenne.home) as store:
        outcomes = [attempt.outcome for attempt in store.attempts(sweep_id)]
    assert outcomes.count("interrupted") >= 1
    assert "failed" not in outcomes


def test_rows_that_break_the_loss_fail_their_trial_with_a_message_and_the_sweep_goes_on(
    duchenne: Any, toy: Path, tmp_path: Path
) -> None:
    text = toy.read_text().replace(
        "training.learning_rate: {grid: [0.003, 0.01]}", "training.learning_rate: {grid: [0.003, 1.0e+30]}"
    )
    toy.write_text(text)
    done = duchenne.run("run", str(toy))
    assert done.returncode == 0, done.stderr
    sweep_id = done.stdout.splitlines()[0].removeprefix("sweep: ")
    shown = duchenne.json("show", sweep_id)
    states = {trial["number"]: trial["state"] for trial in shown["trials"]}
    failed = [trial for trial in shown["trials"] if trial["state"] == "failed"]
    assert len(failed) == 2, states
    for trial in failed:
        assert re.match(
            rf"trial {trial['number']}, search of monet, fold \d, inner fold \d, seed 0: epoch \d+: ", trial["error"]
        )
        assert "finite" in trial["error"]
        assert "learning_rate" in trial["error"]
        assert "row-" in trial["error"] or "predictions" in trial["error"]
    assert duchenne.json("leaderboard", "toy")


def test_a_stop_reaches_the_folds_and_the_sweep_can_go_on(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    text = toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING.replace("60", "400"))
    # Room for an evaluation of 400 epochs: without it the search ends before it is stopped.
    toy.write_text(text.replace("wall_seconds: 1200", "wall_seconds: 7200"))
    log = tmp_path / "run.log"
    driver = duchenne.start("run", str(toy), log=log)
    sweep_id = id_in(log)
    with open_home(duchenne.home) as store:
        wait_for(lambda: store.results(sweep_id))
    asked = duchenne.run("stop", sweep_id[:8])
    assert asked.returncode == 0
    assert "stopping" in asked.stdout
    assert driver.wait(timeout=60) == 1
    assert f"{sweep_id}: stopped: a stop was asked for" in log.read_text()
    assert f"duchenne resume {sweep_id}" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert duchenne.json("ls")[0]["state"] == "stopped"


def test_two_drivers_of_one_sweep_one_wins(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    toy.write_text(toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING.replace("60", "400")))
    log = tmp_path / "run.log"
    driver = duchenne.start("run", str(toy), log=log)
    sweep_id = id_in(log)
    with open_home(duchenne.home) as store:
        wait_for(lambda: store.get_sweep(sweep_id).state == "running")
    second = duchenne.run("resume", sweep_id)
    assert second.returncode != 0
    assert len(second.stderr.splitlines()) == 1
    assert str(driver.pid) in second.stderr
    duchenne.run("stop", sweep_id)
    driver.wait(timeout=60)


def test_a_budget_that_is_used_up_ends_the_sweep_as_exhausted(duchenne: Any, toy: Path) -> None:
    text = toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING.replace("60", "4000"))
    toy.write_text(text.replace("budget: {wall_seconds: 1200}", "budget: {usd: 0.05}\nprices: {cpu_hour_usd: 3.6}"))
    done = duchenne.run("run", str(toy))
    assert done.returncode == 3, done.stderr
    sweep_id = done.stdout.splitlines()[0].removeprefix("sweep: ")
    cost = duchenne.json("cost", sweep_id)
    assert 0 < cost["spent"]["usd"] <= 0.05
    assert cost["reserved"]["usd"] == 0
    assert f"{sweep_id}: exhausted: budget: " in done.stdout
    assert "Traceback" not in done.stderr
    more = duchenne.run("resume", sweep_id, "--usd", "0.08")
    assert more.returncode == 3, more.stderr
    after = duchenne.json("cost", sweep_id)
    assert after["budget"]["usd"] == 0.08
    assert cost["spent"]["usd"] < after["spent"]["usd"] <= 0.08


def test_a_shard_that_changed_is_refused_before_training(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    place = tmp_path / "data"
    assert duchenne.run("data", "ingest", "toy", str(place), "--count", "60", "--tasks", "3").returncode == 0
    shard = next(place.glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    toy.write_text(with_data(toy, place))
    done = duchenne.run("run", str(toy))
    assert done.returncode == 2
    assert shard.name in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert duchenne.json("ls") == []


def test_rows_with_nan_features_are_named(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    from duchenne_jobs.data import DatasetWriter, Description, toy_dataset

    features, labels = toy_dataset(count=60, tasks=3, seed=0)
    features[7, 0] = np.nan
    place = tmp_path / "nan"
    description = Description(
        name="nan",
        tasks=("task1", "task2", "task3"),
        columns=("subject", "labels", "features"),
        feature_names=("x1", "x2"),
        licence="none",
        consent="none",
    )
    with DatasetWriter(place, description) as writer:
        writer.write_rows(
            [
                {"subject": f"row-{index:02d}", "labels": labels[index].tolist(), "features": features[index].tolist()}
                for index in range(60)
            ]
        )
    toy.write_text(with_data(toy, place))
    done = duchenne.run("run", str(toy))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "epoch 1: " in done.stdout
    assert "row-" in done.stdout


@pytest.mark.skipif(not Path("/proc/mounts").exists() or os.geteuid() != 0, reason="needs root to mount a small tmpfs")
def test_a_full_disk_ends_with_a_clear_line_and_loses_nothing(duchenne: Any, toy: Path) -> None:
    duchenne.home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(duchenne.home)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let us mount a tmpfs: {mounted.stderr.strip()}")
    try:
        toy.write_text(toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING))
        done = duchenne.run("run", str(toy), timeout=280)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        words = (done.stdout + done.stderr).lower()
        assert "no space left" in words or "full" in words
    finally:
        subprocess.run(["umount", "--lazy", str(duchenne.home)], check=False)


def test_a_locked_database_ends_with_a_clear_line_and_loses_nothing(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    toy.write_text(toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING.replace("60", "4000")))
    log = tmp_path / "run.log"
    driver = duchenne.start("run", str(toy), log=log)
    sweep_id = id_in(log)
    with open_home(duchenne.home) as store:
        wait_for(lambda: store.results(sweep_id))
    intruder = sqlite3.connect(duchenne.home / "records.sqlite", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    before = intruder.execute("SELECT count(*) FROM result").fetchone()[0]
    try:
        assert driver.wait(timeout=200) == 1
    finally:
        intruder.execute("ROLLBACK")
        intruder.close()
    text = log.read_text()
    assert "Traceback" not in text
    last = [line for line in text.splitlines() if line.startswith("error: ")][-1]
    assert "locked" in last or "busy" in last
    assert str(duchenne.home / "records.sqlite") in last
    assert len(duchenne.json("results", sweep_id)) == before


def test_a_sweep_runs_from_a_plain_script(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import duchenne\n"
        f"end = duchenne.run({str(toy)!r}, home={str(duchenne.home)!r}, progress=False)\n"
        "print(end.state, end.board, len(duchenne.results(end.id, home=" + repr(str(duchenne.home)) + ")) > 0)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "succeeded toy True"


def test_ctrl_c_stops_the_sweep_and_says_how_to_go_on(duchenne: Any, toy: Path, tmp_path: Path) -> None:
    text = toy.read_text().replace(FAST_TRAINING, SLOW_TRAINING.replace("60", "4000"))
    toy.write_text(text.replace("wall_seconds: 1200", "wall_seconds: 72000"))
    log = tmp_path / "run.log"
    driver = duchenne.start("run", str(toy), log=log)
    sweep_id = id_in(log)
    with open_home(duchenne.home) as store:
        wait_for(lambda: store.results(sweep_id))
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 1
    text = log.read_text()
    assert "Traceback" not in text
    assert f"{sweep_id}: stopped: interrupted from the keyboard" in text
    assert f"duchenne resume {sweep_id}" in text
    assert duchenne.json("ls")[0]["state"] == "stopped"
