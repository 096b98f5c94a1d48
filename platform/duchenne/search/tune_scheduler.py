"""Ray Tune's side of the decisions: asks the judge about every row, and keeps what it answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from duchenne.search.driver_only import DriverOnly
from duchenne.search.judge import Judge, Report, Verdict
from duchenne.search.racing import Scored

SubjectScores = Callable[[int, Mapping[str, Any], int], Mapping[str, float] | None]
"""(trial, its values, position of a fold) -> parts of its subjects at the last epoch; None where they are not known."""


class JudgedScheduler(DriverOnly, FIFOScheduler):  # type: ignore[misc]
    """Stops the trials that the judge stops.

    Args:
        subjects: None compares folds alone.
        finished: trials that ended on record: they are heard, and end where they ended.
        verdicts: filled by this scheduler, by trial number.
    """

    def __init__(
        self,
        judge: Judge,
        subjects: SubjectScores | None,
        finished: Collection[int],
        verdicts: dict[int, Verdict],
    ) -> None:
        super().__init__()
        self._judge = judge
        self._subjects = subjects
        self._finished = finished
        self._verdicts = verdicts
        self._heard: dict[int, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A row: go on or stop."""
        number = trial.config["number"]
        self._heard[number] = result["training_iteration"]
        verdict = self._judge.hear(self._report(trial.config, result))
        if not verdict.goes_on:
            self._verdicts[number] = verdict
        stops = not verdict.goes_on and number not in self._finished
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The last row of a trial that ended by itself comes this way only."""
        number = trial.config["number"]
        if "score" in result and self._heard.get(number) != result["training_iteration"]:
            self._judge.hear(self._report(trial.config, result))

    def _report(self, config: Mapping[str, Any], row: Mapping[str, Any]) -> Report:
        number, values = config["number"], config["values"]
        parts = self._subjects if row["last"] else None
        scores = tuple(
            Scored(value, parts(number, values, position) if parts else None)
            for position, value in enumerate(row["scores"])
        )
        return Report(number, row["rung"], scores, row["last"])
