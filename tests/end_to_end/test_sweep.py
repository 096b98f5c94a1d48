"""One sweep from its file to the leaderboard, as a user runs it: real Ray, real training, real records."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from duchenne.cli.main import call
from duchenne.records import open_home
from duchenne_jobs.evaluation import read_predictions


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(command line, id, what `run` printed) of a sweep that ran to its end."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("end_to_end_conftest", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    helpers = module_from_spec(spec)
    sys.modules[spec.name] = helpers
    spec.loader.exec_module(helpers)
    folder = tmp_path_factory.mktemp("sweep")
    path = folder / "toy.yaml"
    path.write_text(helpers.TOY)
    command_line = helpers.CommandLine(folder / "home")
    done = command_line.run("run", str(path))
    assert done.returncode == 0, done.stderr
    return command_line, done.stdout.splitlines()[0].removeprefix("sweep: "), done


def test_run_prints_the_id_first_and_the_leaderboard_last(finished: Any) -> None:
    _, sweep_id, done = finished
    assert done.stdout.startswith(f"sweep: {sweep_id}\n")
    assert "leaderboard toy" in done.stdout
    assert f"{sweep_id}: succeeded" in done.stdout
    assert "figures: " in done.stdout


def test_progress_is_readable_in_a_file(finished: Any) -> None:
    _, _, done = finished
    lines = done.stderr.splitlines()
    assert any("searching, trials " in line for line in lines)
    assert all("best" in line and "cost" in line and "left" in line for line in lines), done.stderr
    assert "\x1b" not in done.stderr


def test_every_fold_job_ran_once_and_every_epoch_is_on_record_once(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    rows = command_line.json("results", sweep_id)
    keys = Counter(
        (row["trial"], row["phase"], row["method"], row["fold"], row["inner"], row["seed"], row["epoch"])
        for row in rows
    )
    assert set(keys.values()) == {1}
    search = {key[:6] for key in keys if key[1] == "search"}
    assert len(search) == 4 * 2 * 2
    evaluation = {key[:6] for key in keys if key[1] == "evaluation"}
    assert len(evaluation) == 2 * (2 + 2 + 1)  # folds x (monet's seeds, mrnn's seeds, the chain once)


def test_an_aggregated_trial_value_is_the_mean_of_its_inner_folds(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    rows = [row for row in command_line.json("results", sweep_id) if row["phase"] == "search"]
    trials = command_line.json("show", sweep_id)["trials"]
    for trial in trials:
        own = [row for row in rows if row["trial"] == trial["number"]]
        last = max(row["epoch"] for row in own)
        values = [row["metrics"]["accuracy"] for row in own if row["epoch"] == last]
        assert len(values) == 4
        assert trial["value"] == pytest.approx(sum(values) / 4)


def test_the_selected_trial_is_the_best_and_alone_is_evaluated(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    trials = [trial for trial in command_line.json("show", sweep_id)["trials"] if trial["state"] == "succeeded"]
    best = max(trials, key=lambda trial: trial["value"])["number"]
    rows = [row for row in command_line.json("results", sweep_id) if row["phase"] == "evaluation"]
    evaluated = {row["trial"] for row in rows if row["method"] == "monet"}
    assert evaluated == {best}


def test_test_subjects_never_trained_and_each_is_predicted_once_a_seed(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    with open_home(command_line.home) as store:
        jobs = [job for job in store.fold_jobs(sweep_id, phase="evaluation") if job.key.method == "monet"]
    for seed in (0, 1):
        seen = Counter()
        for job in jobs:
            if job.key.seed == seed:
                seen.update(read_predictions(command_line.home / job.predictions).subjects.tolist())
        assert len(seen) == 240
        assert set(seen.values()) == {1}


def test_the_leaderboard_has_the_contracts_fields_and_verified_numbers(finished: Any) -> None:
    command_line, _, _ = finished
    rows = command_line.json("leaderboard", "toy")
    assert {row["method"] for row in rows} == {"monet", "mrnn", "classifier_chain"}
    for row in rows:
        assert row["verified"] == "verified"
        assert row["ci_low"] <= row["f1_mean"] <= row["ci_high"]
        assert 1 <= row["rank_low"] <= row["rank_high"] <= 3
        assert row["cost_usd"] is None  # no price was given: unknown, not 0
    assert [row["f1_mean"] for row in rows] == sorted((row["f1_mean"] for row in rows), reverse=True)


def test_a_tampered_prediction_file_is_rejected(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    with open_home(command_line.home) as store:
        path = command_line.home / store.get_entry(f"{sweep_id}.mrnn").predictions[0].path
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        row = next(row for row in command_line.json("leaderboard", "toy") if row["method"] == "mrnn")
        assert row["verified"] == "rejected"
        assert row["f1_mean"] is None
    finally:
        path.write_bytes(content)


def test_cost_and_ls_agree_with_the_ledger(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    cost = command_line.json("cost", sweep_id)
    assert cost["budget"] == {"usd": None, "gpu_hours": None, "wall_seconds": 1200.0}
    assert 0 < cost["spent"]["wall_seconds"] <= 1200
    assert cost["reserved"]["wall_seconds"] == 0
    assert command_line.json("ls") == [
        {"id": sweep_id, "name": "toy", "team": "tests", "state": "succeeded", "trials": 4, "spent_usd": None}
    ]


def test_figures_are_drawn(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    names = {path.name for path in (command_line.home / "sweeps" / sweep_id / "figures").glob("*.png")}
    assert {"learning_curves.png", "soft_order.png", "soft_order_evolution.png", "task_f1.png"} <= names


def test_nothing_of_ray_is_left_behind(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    assert not (command_line.home / "sweeps" / sweep_id / "ray").exists()
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in listing.splitlines() if sweep_id in line]


def test_python_gives_the_same_as_the_command_line(finished: Any) -> None:
    import duchenne as package

    command_line, sweep_id, _ = finished
    frame = package.results(sweep_id, home=command_line.home)
    rows = command_line.json("results", sweep_id)
    assert len(frame) == len(rows)
    assert frame["accuracy"].tolist() == pytest.approx(
        [row["metrics"].get("accuracy", float("nan")) for row in rows], nan_ok=True
    )
    board = package.leaderboard("toy", home=command_line.home)
    assert board["entry"].tolist() == [row["entry"] for row in command_line.json("leaderboard", "toy")]
    assert package.sweeps(home=command_line.home)["id"].tolist() == [sweep_id]


def test_resuming_a_finished_sweep_changes_nothing(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    before = command_line.json("results", sweep_id)
    assert command_line.run("resume", sweep_id).returncode == 0
    assert command_line.json("results", sweep_id) == before


def test_the_tours_commands_work_on_it(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/tour.md types once its sweep has ended, with this one in its place."""
    command_line, sweep_id, _ = finished
    monkeypatch.setenv("DUCHENNE_HOME", str(command_line.home))
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/tour.md").read_text()
    typed = re.findall(r"^duchenne (.*?) *(?:#.*)?$", page, re.MULTILINE)
    names = {"quickstart-92a0": sweep_id, ".vmnc": ".mrnn", "leaderboard yeast": "leaderboard toy"}
    after = [line for line in typed if any(name in line for name in names)]
    assert {line.split()[0] for line in after} == {"show", "cost", "leaderboard", "compare", "figures", "results"}
    for line in after:
        for shown, here in names.items():
            line = line.replace(shown, here)
        assert call(line.split()) == 0, line
    assert (tmp_path / "figures/leaderboard.png").exists()


def test_two_sweeps_are_compared_by_what_differs(finished: Any) -> None:
    command_line, sweep_id, _ = finished
    comparison = command_line.json("compare", sweep_id, f"{sweep_id}.mrnn")
    assert comparison["config"]["model.name"] == ["monet", "mrnn"]
    rows = {row["method"]: row["f1_mean"] for row in command_line.json("leaderboard", "toy")}
    assert comparison["difference"] == pytest.approx(rows["monet"] - rows["mrnn"])


def test_optuna_median_stopping_a_loss_and_selection_per_fold(duchenne: Any, toy: Path) -> None:
    text = toy.read_text()
    text = text.replace("{grid: [2, 6]}", "{choice: [2, 6]}").replace(
        "{grid: [0.003, 0.01]}", "{loguniform: [1.0e-3, 0.1]}"
    )
    text = text.replace("algorithm: grid", "algorithm: optuna\n  trials: 6")
    text = text.replace(
        "{name: asha, grace_epochs: 1, reduction_factor: 2}", "{name: median_stopping, grace_epochs: 1}"
    )
    text = text.replace("metric: accuracy", "metric: log_loss").replace("inner: 2}", "inner: 2, selection: per_fold}")
    toy.write_text(text)
    done = duchenne.run("run", str(toy))
    assert done.returncode == 0, done.stderr
    sweep_id = done.stdout.splitlines()[0].removeprefix("sweep: ")
    trials = duchenne.json("show", sweep_id)["trials"]
    assert len(trials) == 6
    assert len({trial["config"]["training.learning_rate"] for trial in trials}) == 6
    rows = duchenne.json("results", sweep_id)
    for fold in (0, 1):
        means: dict[int, float] = {}
        for trial in trials:
            if trial["state"] == "succeeded":
                own = [
                    r for r in rows if r["trial"] == trial["number"] and r["phase"] == "search" and r["fold"] == fold
                ]
                last = [r["metrics"]["log_loss"] for r in own if r["epoch"] == 4]
                means[trial["number"]] = sum(last) / len(last)
        chosen = {
            r["trial"] for r in rows if r["phase"] == "evaluation" and r["method"] == "monet" and r["fold"] == fold
        }
        assert chosen == {min(means, key=lambda number: means[number])}
    assert not list((duchenne.home / "sweeps" / sweep_id / "checkpoints").glob("search-*"))
