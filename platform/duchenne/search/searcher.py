"""What Ray Tune asks for trials: first those on record, in their order, then new ones, each recorded before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from duchenne.records import RecordStore, Trial
from duchenne.records.rows import FINISHED
from duchenne.search.driver_only import DriverOnly
from duchenne.search.proposals import Proposer, Values


@dataclass(frozen=True)
class Replay:
    """How far a trial that is on record got, so that the scheduler sees its rows again without a fold being run.

    Attributes:
        rungs: rows that it had reported.
        finished: whether it ended there.
    """

    rungs: int
    finished: bool


class RecordedSearcher(DriverOnly, Searcher):  # type: ignore[misc]
    """Feeds Tune from the records and a proposer.

    Args:
        store, sweep_id, token: where new trials are recorded, under the driver's lock.
        proposer: source of new trials.
        recorded: trials of an earlier driver that Tune must see again.
        first_new: number of the first trial that is not on record.
    """

    def __init__(
        self,
        store: RecordStore,
        sweep_id: str,
        token: str,
        proposer: Proposer,
        recorded: Sequence[Trial],
        first_new: int,
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._store = store
        self._sweep_id = sweep_id
        self._token = token
        self._proposer = proposer
        self._recorded = list(recorded)
        self._next = first_new
        self._values: dict[str, Values] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The configuration of Tune's next trial: `number`, `values` and `replay`."""
        if self._recorded:
            trial = self._recorded.pop(0)
            number, values = trial.number, trial.config
            replay = Replay(trial.rung, trial.state in FINISHED)
        else:
            number, self._next = self._next, self._next + 1
            values = self._proposer.propose(number)
            self._store.record_trial(self._sweep_id, number, values, token=self._token)
            replay = Replay(0, False)
        self._values[trial_id] = values
        return {"number": number, "values": values, "replay": replay}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the end of a trial on to the proposer."""
        values = self._values.pop(trial_id, None)
        if values is not None:
            self._proposer.learn(values, None if error or not result else result.get("score"))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the records are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the records are the truth."""
