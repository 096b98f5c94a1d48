"""What a search gets for its money: replayed over real learning curves, beside random search and Optuna's own pruners.

    python benchmarks/search_efficiency.py                 # three tables, 10 seeds
    python benchmarks/search_efficiency.py --seeds 3

The curves were recorded once (`benchmarks/search_table.py`, results/search_curves_*.json): the score of every
configuration of a grid on every inner fold after every epoch, and what an epoch cost. A search is replayed with the
code of a real one: proposer, judge, rungs, races. It pays for each epoch of each fold that it asks for, and is judged
by the whole cross-validation of the configuration that it would select. Trials run one after another.

- `random`: N independent draws, whole. What they cost is the measure of all others; what they reach is also compared
  with its expectation over all seeds, which the table tells exactly, and with N draws without repeats.
- `optuna tpe + sha`, `+ hyperband`: an Optuna study of its own, its TPE with its pruners, all folds side by side.
- ours: the parts one by one, and together.

Defaults were chosen on `toy` and `yeast` with other seeds than are printed here; `toy_wide` had no part in it.

Also prints what rounding up at a rung is worth, and what fold racing does where the truth is known: the share of fold
jobs that it saves, how often the truly best trial is dropped, and how often it is selected, with and without.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from paired import Interval, header, write
from search_replay import Purse, Spent, Table

from duchenne.search.judge import Judge, Report, waves
from duchenne.search.proposals import build_proposer, draw
from duchenne.search.racing import Scored
from duchenne.search.rung_costs import goals
from duchenne.spec import Fifo, Sweep, rungs
from duchenne.spec.search import Asha, Racing

RANDOM_TRIALS = 24
SHARE = 0.4  # of the cost of random search, within which its score is to be reached
RIVALS = {1: "optuna tpe + sha from 1", 3: "optuna tpe + sha from 3"}
"""By their first rung, in epochs."""


def independent(table: Table, seed: int, trials: int) -> Purse:
    """Random search as it is published: independent draws, whole trials, all folds."""
    purse = Purse(table, float("inf"))
    space = table.sweep(seed, trials=trials).search.space
    for number in range(trials):
        generator = np.random.default_rng([seed, number])
        place = table.place({path: draw(dimension, generator) for path, dimension in space.items()})
        purse.pay(place, table.scores.shape[1], table.epochs)
        purse.ended(place)
    return purse


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


def methods(table: Table) -> dict[str, Callable[[Table, int, float], Purse]]:
    """Everything that is compared, by name."""
    halving = {"name": "asha", "grace_epochs": 3, "reduction_factor": 3}
    # In cost the first rung is what so many epochs of the configuration in the middle cost.
    grace = 3 * float(np.median(table.epoch_seconds))
    in_cost = {"name": "asha", "rungs": "worker_seconds", "grace": grace, "reduction_factor": 3}
    rank = {"rule": "rank"}
    hyperband = functools.partial(
        optuna.pruners.HyperbandPruner, min_resource=3, max_resource=table.epochs, reduction_factor=3
    )
    return {
        **{name: functools.partial(peer, pruner=functools.partial(_sha, first)) for first, name in RIVALS.items()},
        "optuna tpe + hyperband": functools.partial(peer, pruner=hyperband),
        "random, no repeats": functools.partial(ours, algorithm="random"),
        "... + racing by rank": functools.partial(ours, algorithm="random", racing=rank),
        "tpe": functools.partial(ours, algorithm="tpe"),
        "tpe + asha": functools.partial(ours, algorithm="tpe", scheduler=halving),
        "tpe + asha in cost": functools.partial(ours, algorithm="tpe", scheduler=in_cost),
        "tpe + racing by test": functools.partial(ours, algorithm="tpe", racing={}),
        "tpe + racing by rank": functools.partial(ours, algorithm="tpe", racing=rank),
        "... + cheap first": functools.partial(ours, algorithm="tpe", racing=rank, cheap_first=6),
        "... + asha": functools.partial(ours, algorithm="tpe", racing=rank, scheduler=halving),
    }


def _sha(first: int) -> optuna.pruners.BasePruner:
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3)


def compared(table: Table, seeds: int) -> str:
    """The table of one data set."""
    plain = [independent(table, seed, RANDOM_TRIALS) for seed in range(seeds)]
    distinct = [ours(table, seed, float("inf"), RANDOM_TRIALS, algorithm="random") for seed in range(seeds)]
    whole = [purse.cost for purse in plain]
    wanted, harder = ([purse.score_at(purse.cost) for purse in purses] for purses in (plain, distinct))
    at_share = {"random": [purse.score_at(SHARE * cost) for purse, cost in zip(plain, whole, strict=True)]}
    for name, method in methods(table).items():
        purses = [method(table, seed, SHARE * cost) for seed, cost in enumerate(whole)]
        at_share[name] = [purse.score_at(SHARE * cost) for purse, cost in zip(purses, whole, strict=True)]
    wholes = sorted(table.whole(place) for place in range(len(table.scores)))
    expected = expected_best(wholes, RANDOM_TRIALS)
    lines = [
        f"{table.name}: {len(wholes)} configurations x {table.scores.shape[1]} folds x {table.epochs} epochs, "
        f"{table.metric} in points; best {wholes[-1]:.2f}, second {wholes[-2]:.2f}, median "
        f"{statistics.median(wholes):.2f}; an epoch of a fold takes {table.epoch_seconds.min():.3f} to "
        f"{table.epoch_seconds.max():.3f} s of CPU ({table.made})",
        f"random search, {RANDOM_TRIALS} whole trials: {statistics.fmean(wanted):.2f} points for "
        f"{statistics.fmean(whole):.0f} s ({expected:.2f} expected over all seeds); without repeats "
        f"{statistics.fmean(harder):.2f}",
        "",
        f"{'method':24s}{'at 40 %':>9s}  {'minus random, 100 %':24s}{'minus expected':24s}"
        f"{'minus no repeats, 100 %':26s}"
        + "".join(f"{f'minus {rival}':32s}" for rival in RIVALS.values())
        + "as good as random in",
    ]
    for name, found in at_share.items():
        line = f"{name:24s}{statistics.fmean(found):9.2f}  {_gain(found, wanted):24s}"
        line += f"{_gain(found, [expected] * seeds):24s}{_gain(found, harder):26s}"
        for rival in RIVALS.values():
            line += f"{'' if rival == name else _gain(found, at_share[rival]):32s}"
        reached = sum(one >= score - 1e-9 for one, score in zip(found, wanted, strict=True))
        lines.append(f"{line}{reached}/{seeds} seeds")
    return "\n".join(lines)


def expected_best(wholes: Sequence[float], draws: int) -> float:
    """Of so many independent draws from an ascending list: each entry is the best with a known probability."""
    shares = np.linspace(0.0, 1.0, len(wholes) + 1) ** draws
    return float(np.diff(shares) @ np.array(wholes))


def _gain(one: Sequence[float], other: Sequence[float]) -> str:
    """The paired difference and its interval."""
    gain = Interval.of([left - right for left, right in zip(one, other, strict=True)])
    return f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"


Rounding = Callable[[Sequence[float], float, int], bool]
"""Whether a score goes on, after these came before it, with that factor."""


def _better(scores: Sequence[float], score: float) -> int:
    return sum(other > score for other in scores)


ROUNDINGS: dict[str, Rounding] = {
    "best max(1, n // f)": lambda before, score, f: _better(before, score) < max(1, (len(before) + 1) // f),
    "best ceil(n / f), ours": lambda before, score, f: _better(before, score) < math.ceil((len(before) + 1) / f),
    "percentile of those before": lambda before, score, f: (
        not before or score >= float(np.percentile(before, 100 * (1 - 1 / f)))
    ),
}
"""The third is how Ray Tune's asynchronous rule compares."""


def rounded(table: Table, grids: int = 400, size: int = 8) -> str:
    """What a small grid loses to early stopping, by how a rung rounds."""
    lines = [
        f"{table.name}, asha on small grids: {grids} grids of {size} configurations, in random order; points below the "
        "best of the grid / cost, of that of all epochs",
        f"{'factor, first rung':>20s}" + "".join(f"{name:>30s}" for name in ROUNDINGS),
    ]
    for factor, first in itertools.product((2, 3), (1, 3)):
        stops = rungs(Asha(grace_epochs=first, reduction_factor=factor), table.epochs)
        line = f"{f'{factor}, epoch {first}':>20s}"
        for rule in ROUNDINGS.values():
            found = [_halved(table, seed, size, stops, factor, rule) for seed in range(grids)]
            lost, cost = (statistics.fmean(column) for column in zip(*found, strict=True))
            line += f"{f'{lost:.2f} / {100 * cost:.0f} %':>30s}"
        lines.append(line)
    return "\n".join(lines)


def _halved(
    table: Table, seed: int, size: int, stops: Sequence[int], factor: int, rule: Rounding
) -> tuple[float, float]:
    """(points lost, share of the cost) of one small grid."""
    grid = [int(place) for place in np.random.default_rng(seed).permutation(len(table.scores))[:size]]
    heard: dict[int, list[float]] = {stop: [] for stop in stops}
    whole, spent = [], 0.0
    for place in grid:
        for stop in stops:
            score = float(table.scores[place, :, stop - 1].mean())
            goes_on = rule(heard[stop], score, factor)
            heard[stop].append(score)
            if stop == table.epochs:
                whole.append(table.whole(place))
            if not goes_on:
                break
        spent += stop * float(table.epoch_seconds[place])
    total = table.epochs * float(table.epoch_seconds[grid].sum())
    return max(table.whole(place) for place in grid) - max(whole), spent / total


def raced(seeds: int) -> str:
    """Fold racing where the truth is known."""
    variants = {
        "pocock (default)": Racing(),
        "pocock, min_folds 1": Racing(min_folds=1),
        "obrien_fleming": Racing(spending="obrien_fleming"),
        "rank": Racing(rule="rank"),
        "rank, factor 2": Racing(rule="rank", reduction_factor=2),
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
        for wave in waves(folds, racing):
            jobs += len(wave)
            report = Report(trial, 1, [Scored(float(score)) for score in scores[trial, : wave.stop]], True)
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
    parser.add_argument("--tables", nargs="+", default=["toy", "yeast", "toy_wide"])
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
            *(compared(table, arguments.seeds) for table in tables),
            *(rounded(table) for table in tables),
            raced(arguments.races),
        ]
    )
    print(report)
    if arguments.write:
        print(write("search_efficiency", report))


if __name__ == "__main__":
    main()
