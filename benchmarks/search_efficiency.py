"""What a search gets for its money: replayed over real learning curves, beside random search and Optuna's own pruners.

    python benchmarks/search_efficiency.py                 # toy and yeast, 10 seeds
    python benchmarks/search_efficiency.py --seeds 3

The curves were recorded once (`benchmarks/search_table.py`, results/search_curves_*.json): the score of every
configuration of a grid on every inner fold after every epoch, and what an epoch cost. A search is replayed with the
code of a real one: proposer, judge, rungs, races. It pays for each epoch of each fold that it asks for, and is judged
by the whole cross-validation of the configuration that it would select. Trials run one after another.

- `random`: N trials, whole. What it costs is the measure of all others.
- `optuna tpe + sha`, `+ hyperband`: an Optuna study of its own, its TPE with its pruners, all folds side by side.
- ours: the parts one by one, and `all`: TPE, cheap first, rungs in seconds of CPU (dollars, at a fixed price), racing.

Also prints what fold racing does where the truth is known: the share of fold jobs that it saves, how often the truly
best trial is dropped, and how often it is selected, with and without.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from paired import Interval, header, write

from duchenne.search.judge import Judge, Report, waves
from duchenne.search.proposals import build_proposer
from duchenne.search.racing import Scored
from duchenne.search.rung_costs import goals
from duchenne.spec import Fifo, Sweep
from duchenne.spec.search import Racing
from duchenne_jobs.evaluation import METRICS

RESULTS = Path(__file__).parent / "results"
RANDOM_TRIALS = 24
SHARE = 0.4  # of the cost of random search, within which its score is to be reached
PEERS = ("optuna tpe + sha", "optuna tpe + hyperband")


class Spent(Exception):  # noqa: N818 - ends a replay
    """The budget does not pay for what was asked."""


@dataclass(frozen=True)
class Table:
    """Recorded curves; more score is better.

    Attributes:
        scores: (C, F, E) of C configurations, F folds, E epochs.
        epoch_seconds: (C,) of one fold.
    """

    name: str
    made: str
    space: Mapping[str, Sequence[Any]]
    base: Mapping[str, Any]
    metric: str
    folds: Mapping[str, int]
    scores: np.ndarray
    epoch_seconds: np.ndarray
    places: Mapping[str, int]

    @classmethod
    def read(cls, name: str) -> Table:
        """From results/search_curves_NAME.json."""
        text = json.loads((RESULTS / f"search_curves_{name}.json").read_text(encoding="utf-8"))
        sign = 1.0 if METRICS[text["metric"]] == "max" else -1.0
        return cls(
            name=name,
            made=text["made"],
            space=text["space"],
            base=text["base"],
            metric=text["metric"],
            folds=text["folds"],
            scores=sign * np.array([row["scores"] for row in text["rows"]]),
            epoch_seconds=np.array([row["epoch_seconds"] for row in text["rows"]]),
            places={_key(row["values"]): place for place, row in enumerate(text["rows"])},
        )

    @property
    def epochs(self) -> int:
        """E."""
        return int(self.scores.shape[2])

    def place(self, values: Mapping[str, Any]) -> int:
        """The row of a configuration."""
        return self.places[_key(values)]

    def whole(self, place: int) -> float:
        """The configuration's score by its whole cross-validation, in points."""
        return float(100 * self.scores[place, :, -1].mean())

    def sweep(self, seed: int, **search: Any) -> Sweep:
        """A sweep over the table's space."""
        space = {path: {"choice": list(values)} for path, values in self.space.items()}
        return Sweep.model_validate(
            {
                "apiVersion": "duchenne/v1",
                "kind": "Sweep",
                "metadata": {"name": "replay"},
                "data": {"uri": "builtin://yeast"},
                **self.base,
                "folds": dict(self.folds),
                "search": {"space": space, "metric": self.metric, "seed": seed, **search},
                "budget": {"wall_seconds": 1e6},
            }
        )


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps({path: values[path] for path in sorted(values)}, sort_keys=True)


@dataclass
class Purse:
    """Pays for epochs, and remembers what the search would have selected at each cost.

    Attributes:
        trace: (cost, score of the configuration that would be selected), ascending in cost.
    """

    table: Table
    budget: float
    cost: float = 0.0
    jobs: int = 0
    trace: list[tuple[float, float]] = field(default_factory=list)
    _best: float = float("-inf")

    def pay(self, place: int, folds: int, epochs: int) -> None:
        """`epochs` more of `folds` folds.

        Raises:
            Spent: they are not in the budget.
        """
        price = float(self.table.epoch_seconds[place]) * folds * epochs
        if self.cost + price > self.budget:
            raise Spent
        self.cost += price

    def ended(self, place: int) -> None:
        """A trial ran all its epochs on all folds."""
        score = self.table.whole(place)
        if score > self._best:
            self._best = score
            self.trace.append((self.cost, score))

    def score_at(self, cost: float) -> float:
        """Of what would have been selected; the worst of the table before anything was."""
        found = [score for at, score in self.trace if at <= cost]
        return found[-1] if found else min(self.table.whole(place) for place in range(len(self.table.scores)))

    def cost_of(self, score: float) -> float | None:
        """At which a configuration as good was selected."""
        return next((at for at, found in self.trace if found >= score - 1e-9), None)


def ours(table: Table, seed: int, budget: float, trials: int | None = None, **search: Any) -> Purse:
    """A search of this project."""
    sweep = table.sweep(seed, trials=trials or 2000, **search)
    folds = table.scores.shape[1]
    proposer, purse = build_proposer(sweep, known=0), Purse(table, budget)
    judge = Judge(sweep.search.scheduler, folds, sweep.search.racing)
    try:
        for number in range(trials or 2000):
            values = proposer.propose(number)
            assert values is not None  # noqa: S101 - only a population waits
            proposer.learn(number, values, _trial(table, sweep, number, table.place(values), judge, purse))
    except Spent:
        pass
    return purse


def _trial(table: Table, sweep: Sweep, number: int, place: int, judge: Judge, purse: Purse) -> float:
    """Run a trial as far as the judge lets it; what the proposer hears of it."""
    goal = goals(sweep, number, table.epochs)
    reached = np.zeros(table.scores.shape[1], dtype=int)
    groups = waves(len(reached), sweep.search.racing)
    while True:
        known: list[Scored] = []
        for wave in groups:
            until: int | None = goal.rung.epoch if known else goal.begin()
            while until is not None:
                purse.pay(place, len(wave), until - int(reached[wave[0]]))
                reached[list(wave)] = until
                until = None if known else goal.further(float(table.epoch_seconds[place]))
            epoch = goal.rung.epoch
            known += [Scored(float(table.scores[place, fold, epoch - 1])) for fold in wave]
            last = epoch == table.epochs
            verdict = judge.hear(Report(number, goal.rung.number, known, last))
            if not verdict.goes_on:
                mean = statistics.fmean(score.value for score in known)
                return mean if verdict.estimate is None else verdict.estimate
        if last:
            purse.ended(place)
            return statistics.fmean(score.value for score in known)


def peer(table: Table, seed: int, budget: float, pruner: Callable[[], optuna.pruners.BasePruner]) -> Purse:
    """Optuna by itself: its TPE, told the mean over folds after every epoch, and one of its pruners."""
    sampler = optuna.samplers.TPESampler(seed=seed)
    # Hyperband deals trials to brackets by the study's name.
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner(), study_name=f"seed {seed}")
    purse = Purse(table, budget)
    folds = table.scores.shape[1]
    try:
        while True:
            trial = study.ask()
            values = {
                path: listed[trial.suggest_categorical(path, range(len(listed)))]
                for path, listed in table.space.items()
            }
            place = table.place(values)
            for epoch in range(table.epochs):
                purse.pay(place, folds, 1)
                trial.report(float(table.scores[place, :, epoch].mean()), epoch + 1)
                if epoch + 1 < table.epochs and trial.should_prune():
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    break
            else:
                study.tell(trial, float(table.scores[place, :, -1].mean()))
                purse.ended(place)
    except Spent:
        pass
    return purse


def methods(table: Table, first: int) -> dict[str, Callable[[Table, int, float], Purse]]:
    """Everything that is compared, by name; `first` is the first rung in epochs, for peers as for ours."""
    halving = {"name": "asha", "grace_epochs": first, "reduction_factor": 3}
    # In cost the first rung is what so many epochs of the configuration in the middle cost.
    grace = first * float(np.median(table.epoch_seconds))
    in_cost = {"name": "asha", "rungs": "worker_seconds", "grace": grace, "reduction_factor": 3}
    sha = functools.partial(optuna.pruners.SuccessiveHalvingPruner, min_resource=first, reduction_factor=3)
    hyperband = functools.partial(
        optuna.pruners.HyperbandPruner, min_resource=first, max_resource=table.epochs, reduction_factor=3
    )
    return {
        PEERS[0]: functools.partial(peer, pruner=sha),
        PEERS[1]: functools.partial(peer, pruner=hyperband),
        "random + racing": functools.partial(ours, algorithm="random", racing={}),
        "tpe": functools.partial(ours, algorithm="tpe"),
        "tpe + asha": functools.partial(ours, algorithm="tpe", scheduler=halving),
        "tpe + asha in cost": functools.partial(ours, algorithm="tpe", scheduler=in_cost),
        "tpe + racing": functools.partial(ours, algorithm="tpe", racing={}),
        "tpe + asha + racing": functools.partial(ours, algorithm="tpe", scheduler=halving, racing={}),
        "all": functools.partial(ours, algorithm="tpe", cheap_first=6, scheduler=in_cost, racing={}),
    }


def compared(table: Table, seeds: int, first: int) -> str:
    """The table of one data set."""
    baseline = [ours(table, seed, float("inf"), RANDOM_TRIALS, algorithm="random") for seed in range(seeds)]
    whole = [purse.cost for purse in baseline]
    wanted = [purse.score_at(cost) for purse, cost in zip(baseline, whole, strict=True)]
    runs = {
        name: [method(table, seed, SHARE * whole[seed]) for seed in range(seeds)]
        for name, method in methods(table, first).items()
    }
    runs["random"] = baseline
    at_share = {
        name: [purse.score_at(SHARE * cost) for purse, cost in zip(purses, whole, strict=True)]
        for name, purses in runs.items()
    }
    wholes = [table.whole(place) for place in range(len(table.scores))]
    lines = [
        f"{table.name}: {len(wholes)} configurations x {table.scores.shape[1]} folds x {table.epochs} epochs, "
        f"{table.metric} in points; best {max(wholes):.2f}, median {statistics.median(wholes):.2f}; an epoch of a fold "
        f"takes {table.epoch_seconds.min():.3f} to {table.epoch_seconds.max():.3f} s of CPU ({table.made})",
        f"random, {RANDOM_TRIALS} whole trials: {statistics.fmean(wanted):.2f} points, {statistics.fmean(whole):.0f} "
        f"s; first rung of all: epoch {first}",
        "",
        f"{'method':24s}{'at 40 %':>9s}  {'minus random at 100 %':26s}"
        + "".join(f"{f'minus {rival}':30s}" for rival in PEERS)
        + "random's score for (median)",
    ]
    for name, purses in runs.items():
        line = f"{name:24s}{statistics.fmean(at_share[name]):9.2f}  {_gain(at_share[name], wanted):26s}"
        for rival in PEERS:
            line += f"{'' if rival == name else _gain(at_share[name], at_share[rival]):30s}"
        shares = [
            float("inf") if (cost := purse.cost_of(score)) is None or cost > SHARE * total else cost / total
            for purse, score, total in zip(purses, wanted, whole, strict=True)
        ]
        middle, reached = statistics.median(shares), sum(share <= SHARE for share in shares)
        shown = "more" if middle > SHARE else f"{100 * middle:.0f} %"
        lines.append(f"{line}{shown:>5s} ({reached}/{seeds} within 40 %)")
    return "\n".join(lines)


def _gain(one: Sequence[float], other: Sequence[float]) -> str:
    """The paired difference and its interval."""
    gain = Interval.of([left - right for left, right in zip(one, other, strict=True)])
    return f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"


def raced(seeds: int) -> str:
    """Fold racing where the truth is known."""
    variants = {
        "pocock (default)": Racing(),
        "pocock, min_folds 1": Racing(min_folds=1),
        "obrien_fleming": Racing(spending="obrien_fleming"),
    }
    lines = [
        f"fold racing, truth known: {seeds} sweeps of 24 trials x 9 folds, alpha 0.05, unequal variances; spread over "
        "trials / of a trial on a fold",
        f"{'spread / noise':>16s}{'':>22s}{'folds saved':>13s}{'best dropped':>14s}{'best selected':>15s}"
        f"{'all folds':>11s}",
    ]
    for spread, noise in ((0.02, 0.008), (0.01, 0.008), (0.02, 0.004), (0.0, 0.008)):
        for name, racing in variants.items():
            found = [_race(seed, spread, noise, racing) for seed in range(seeds)]
            saved, dropped, hit, hit_whole = (100 * statistics.fmean(column) for column in zip(*found, strict=True))
            setting = f"{spread:g} / {noise:g}"
            lines.append(f"{setting:>16s}{name:>22s}{saved:11.1f} %{dropped:12.1f} %{hit:13.1f} %{hit_whole:9.1f} %")
    return "\n".join(lines)


def _race(seed: int, spread: float, noise: float, racing: Racing) -> tuple[float, bool, bool, bool]:
    generator = np.random.default_rng(seed)
    trials, folds = 24, 9
    truth = generator.normal(0.0, spread, trials) if spread else np.zeros(trials)
    own_noise = noise * np.exp(generator.normal(0.0, 0.5, trials))
    scores = (
        truth[:, None] + generator.normal(0, 0.02, folds) + own_noise[:, None] * generator.normal(size=(trials, folds))
    )
    judge, jobs, left = Judge(Fifo(), folds, racing), 0, []
    for trial in range(trials):
        for count in range(1, folds + 1):
            jobs += 1
            report = Report(trial, 1, [Scored(float(score)) for score in scores[trial, :count]], True)
            if not judge.hear(report).goes_on:
                break
        else:
            left.append(trial)
    best = int(truth.argmax()) if spread else 0
    selected = max(left, key=lambda trial: float(scores[trial].mean()))
    return 1 - jobs / scores.size, best not in left, selected == best, int(scores.mean(axis=1).argmax()) == best


def main() -> None:
    """Print, and write down, everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--races", type=int, default=300, help="simulated sweeps a line of the racing table")
    parser.add_argument("--first", nargs="+", type=int, default=[1, 3], help="first rungs in epochs")
    parser.add_argument("--tables", nargs="+", default=["toy", "yeast"])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/search_efficiency_DATE.txt")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    tables = [Table.read(name) for name in arguments.tables]
    report = "\n\n".join(
        [
            header(
                "Search efficiency: replayed over recorded learning curves",
                "score: whole cross-validation of the selected configuration; cost: seconds of CPU of its epochs",
                arguments.seeds,
            ),
            *(compared(table, arguments.seeds, first) for table in tables for first in arguments.first),
            raced(arguments.races),
        ]
    )
    print(report)
    if arguments.write:
        print(write("search_efficiency", report))


if __name__ == "__main__":
    main()
