"""What Ray Tune asks for trials: first those on record, in their order, then new ones, each recorded before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from duchenne.records import Trial
from duchenne.records.port import RunRecords
from duchenne.search.driver_only import DriverOnly
from duchenne.search.judge import Verdict
from duchenne.search.proposals import Proposer, Values
from duchenne.search.rung_costs import Rung


@dataclass(frozen=True)
class Replay:
    """How far a trial that is on record got, so that the scheduler sees its rows again without a fold being run.

    Attributes:
        rows: rows that it had reported.
        finished: whether it ended there.
        rungs: the rungs among them, where they are not known beforehand.
        parent: the trial whose checkpoints it goes on from.
    """

    rows: int = 0
    finished: bool = False
    rungs: tuple[Rung, ...] = ()
    parent: int | None = None


class RecordedSearcher(DriverOnly, Searcher):  # type: ignore[misc]
    """Feeds Tune from the records and a proposer.

    Args:
        store, sweep_id, token: where new trials are recorded, under the driver's lock.
        proposer: source of new trials.
        recorded: trials of an earlier driver that Tune must see again.
        first_new: number of the first trial that is not on record.
        verdicts: what became of trials, by number.
    """

    def __init__(
        self,
        store: RunRecords,
        sweep_id: str,
        token: str,
        proposer: Proposer,
        recorded: Sequence[tuple[Trial, Replay]],
        first_new: int,
        verdicts: Mapping[int, Verdict],
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._store = store
        self._sweep_id = sweep_id
        self._token = token
        self._proposer = proposer
        self._recorded = list(recorded)
        self._next = first_new
        self._verdicts = verdicts
        self._asked: dict[str, tuple[int, Values]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of Tune's next trial: `number`, `values` and `replay`; None while there is none yet."""
        if self._recorded:
            trial, replay = self._recorded.pop(0)
            number, values = trial.number, trial.config
        else:
            number = self._next
            proposed = self._proposer.propose(number)
            if proposed is None:
                return None
            self._next, values = number + 1, proposed
            self._store.record_trial(self._sweep_id, number, values, token=self._token)
            replay = Replay(parent=self._proposer.parent(number))
        self._asked[trial_id] = number, values
        return {"number": number, "values": values, "replay": replay}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the end of a trial on to the proposer."""
        asked = self._asked.pop(trial_id, None)
        if asked is None:
            return
        number, values = asked
        verdict = self._verdicts.get(number)
        if error or not result:
            score = None
        elif verdict is not None and verdict.estimate is not None and not result.get("complete"):
            score = verdict.estimate
        else:
            score = result.get("score")
        self._proposer.learn(number, values, score)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the records are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the records are the truth."""
