"""What is drawn is what is on record."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from duchenne.boards import rank
from duchenne.figures import (
    NoData,
    SweepData,
    burn_down,
    leaderboard,
    learning_curves,
    read_sweep,
    search,
    soft_order,
    soft_order_evolution,
    spend,
    task_f1,
)
from duchenne.figures.board import SHOWN_ENTRIES
from duchenne.figures.costs import Stretch, cumulative
from duchenne.figures.soft_orders import entropy, mean_soft_orders
from duchenne.figures.style import BLUE, spread
from duchenne.figures.trials import value_text
from duchenne_jobs.evaluation import task_f1 as f1_of

TASKS = ("AU1", "AU4", "AU12")


@pytest.fixture
def data(home: Any) -> SweepData:
    return read_sweep(home.store, home.sweep, home.path)


def line(axes: Axes, gid: str) -> Line2D:
    """The one line of that name."""
    (found,) = [item for item in axes.lines if item.get_gid() == gid]
    return found


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in (*figure.texts, *(t for axes in figure.axes for t in axes.texts)))


def test_learning_curves_are_means_over_folds_with_the_central_68_percent(home: Any, data: SweepData) -> None:
    figure = learning_curves(data)
    for axes, column in zip(figure.axes, (0, 1), strict=True):
        for trial, epochs in ((0, 4), (1, 4), (2, 2)):
            folds = np.array([[row[column] for row in home.curves[trial, place]] for place in range(4)])
            drawn = line(axes, f"trial-{trial}")
            np.testing.assert_array_equal(drawn.get_xdata(), np.arange(1, epochs + 1))
            np.testing.assert_allclose(drawn.get_ydata(), folds.mean(axis=0))
        (band,) = axes.collections
        corners = {tuple(corner) for corner in np.round(band.get_paths()[0].vertices, 9)}
        folds = np.array([[row[column] for row in home.curves[1, place]] for place in range(4)])
        for epoch in range(4):
            for bound in np.percentile(folds[:, epoch], (16, 84)):
                assert (epoch + 1.0, round(float(bound), 9)) in corners
    assert line(figure.axes[0], "trial-1").get_color() == BLUE
    assert "Trial 1, selected" in texts(figure)


def test_an_epoch_that_a_fold_has_not_reached_is_not_drawn(home: Any) -> None:
    key = home.key(0, "search", "monet", 0, 0, 0)
    home.store.record_result(key, 5, 1, {"f1_macro": 0.99, "train_loss": None})
    axes = learning_curves(read_sweep(home.store, home.sweep, home.path)).axes[0]
    assert line(axes, "trial-0").get_xdata()[-1] == 4


def test_the_soft_order_is_the_mean_of_the_last_epochs_with_its_tasks_named(home: Any, data: SweepData) -> None:
    figure = soft_order(data)
    axes = figure.axes[0]
    final = np.mean([stack[-1] for stack in home.matrices], axis=0)
    np.testing.assert_allclose(axes.images[0].get_array(), final)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(TASKS)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "3"]
    written = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}
    assert written == {(step, task): f"{value:.2f}" for (step, task), value in np.ndenumerate(final)}


def test_the_evolution_shows_epochs_and_mean_time_steps(home: Any, data: SweepData) -> None:
    figure = soft_order_evolution(data)
    means = np.mean(home.matrices, axis=0)
    pictures = [axes for axes in figure.axes if axes.images and axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in pictures] == [f"epoch {epoch}" for epoch in (1, 2, 3, 4)]
    for axes, matrix in zip(pictures, means, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), matrix)
    (below,) = [axes for axes in figure.axes if len(axes.lines) == 3]
    steps = np.array([1.0, 2.0, 3.0])
    for task, drawn in enumerate(below.lines):
        np.testing.assert_allclose(drawn.get_ydata(), means[:, :, task] @ steps)


def test_of_an_epoch_that_was_run_twice_the_last_line_counts_and_half_a_line_is_skipped(
    home: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = home.soft_order_file(home.key(1, "evaluation", "monet", 0, None, 0))
    other = np.full((3, 3), 1 / 3)
    cut = json.dumps({"epoch": 4, "soft_order": np.eye(3).tolist()})[:20]
    path.write_text(path.read_text() + cut + "\n" + json.dumps({"epoch": 4, "soft_order": other.tolist()}) + "\n")
    with caplog.at_level(logging.WARNING, logger="duchenne.figures"):
        orders = mean_soft_orders(read_sweep(home.store, home.sweep, home.path))
    stacks = np.array(home.matrices)
    stacks[0, -1] = other
    np.testing.assert_allclose(orders.means, stacks.mean(axis=0))
    assert any(":6: not a soft order" in message for message in caplog.messages)


def test_runs_of_different_lengths_end_with_their_own_last_epoch(home: Any) -> None:
    path = home.soft_order_file(home.key(1, "evaluation", "monet", 0, None, 0))
    with path.open("a") as file:
        file.write(json.dumps({"epoch": 5, "soft_order": np.eye(3).tolist()}) + "\n")
    orders = mean_soft_orders(read_sweep(home.store, home.sweep, home.path))
    lasts = [np.eye(3), *(stack[-1] for stack in home.matrices[1:])]
    assert orders.epochs == (1, 2, 3, 4)
    np.testing.assert_allclose(orders.final, np.mean(lasts, axis=0))


def test_soft_orders_that_do_not_fit_together_are_left_out(home: Any) -> None:
    path = home.soft_order_file(home.key(1, "evaluation", "monet", 1, None, 1))
    path.write_text(json.dumps({"epoch": 4, "soft_order": [[1.0, 0.0], [0.0, 1.0]]}) + "\n")
    with pytest.raises(NoData, match="must be square, alike"):
        soft_order(read_sweep(home.store, home.sweep, home.path))


def test_entropy_is_1_without_a_preference_and_0_for_one_order() -> None:
    assert entropy(np.full((5, 5), 0.2)) == pytest.approx(1.0)
    assert entropy(np.eye(5)) == pytest.approx(0.0)


def test_bars_are_f1_of_each_task_and_lines_its_interval(home: Any, data: SweepData) -> None:
    axes = task_f1(data).axes[0]
    assert [container.get_label() for container in axes.containers] == ["monet", "vmnc", "logistic_regression"]
    rows = {row.method: row for row in rank(home.store, "toy", root=home.path)}
    intervals = [item for item in axes.collections if isinstance(item, LineCollection)]
    for container, lines in zip(axes.containers, intervals, strict=True):
        method = container.get_label()
        files = home.predictions[method]
        expected = np.mean([f1_of(item.labels, item.probabilities) for item in files], axis=0)
        np.testing.assert_allclose([bar.get_height() for bar in container], expected)
        for bar, segment, task in zip(container, lines.get_segments(), rows[method].tasks, strict=True):
            middle = bar.get_x() + bar.get_width() / 2
            np.testing.assert_allclose(segment, [[middle, task.ci_low], [middle, task.ci_high]])
    assert [label.get_text() for label in axes.get_xticklabels()] == list(TASKS)


def test_of_many_methods_the_selected_one_and_the_best_others_are_shown(data: SweepData) -> None:
    template = next(row for row in data.board if row.method == "vmnc")
    more = [dataclasses.replace(template, method=f"other{n}", f1_mean=0.99 - n / 100) for n in range(5)]
    figure = task_f1(dataclasses.replace(data, board=(*data.board, *more)))
    shown = [container.get_label() for container in figure.axes[0].containers]
    assert shown == ["monet", "other0", "other1", "other2"]
    assert "Of 7 comparators, the 3 best by macro F1" in texts(figure)


def test_the_leaderboard_draws_every_entry_where_the_board_has_it(home: Any, data: SweepData) -> None:
    figure = leaderboard(data)
    axes = figure.axes[0]
    rows = rank(home.store, "toy", root=home.path)
    for place, row in enumerate(rows):
        dot = line(axes, f"entry-{row.entry}")
        assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([row.f1_mean], [place])
        assert any(list(item.get_xdata()) == [row.ci_low, row.ci_high] for item in axes.lines)
        ranks = str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low} to {row.rank_high}"
        for words in (ranks, f"{row.f1_mean:.3f}", f"{row.ci_low:.3f} to {row.ci_high:.3f}"):
            assert words in texts(figure)
    assert line(axes, f"entry-{home.sweep}.monet").get_color() == BLUE
    assert "MONET" in texts(figure)
    assert "M=6 k=2, 4 trials" in texts(figure)


def test_the_leaderboard_marks_what_it_cannot_verify_and_cuts_a_long_board(data: SweepData) -> None:
    own = data.board[0]
    unknown = {"ci_low": None, "ci_high": None, "rank_low": None, "rank_high": None, "group": None, "tasks": ()}
    missing = dataclasses.replace(own, entry="gone", method="mrnn", verified="missing", **unknown)
    published = dataclasses.replace(own, entry="paper", method="paper", verified="published", f1_mean=0.99, **unknown)
    rejected = dataclasses.replace(missing, entry="bad", verified="rejected", f1_mean=None)
    figure = leaderboard(dataclasses.replace(data, board=(published, *data.board, missing, rejected)))
    axes = figure.axes[0]
    assert line(axes, "entry-gone").get_markerfacecolor() == "#ffffff"
    assert line(axes, "entry-paper").get_marker() == "D"
    assert not any(item.get_gid() == "entry-bad" for item in axes.lines)
    assert "Not ranked" in texts(figure)
    assert "leads the entries ranked here" in texts(figure)
    many = tuple(dataclasses.replace(own, entry=f"e{n}", f1_mean=0.9 - n / 1000) for n in range(SHOWN_ENTRIES + 5))
    long = leaderboard(dataclasses.replace(data, board=many))
    assert sum(str(item.get_gid()).startswith("entry-") for item in long.axes[0].lines) == SHOWN_ENTRIES
    assert f"The {SHOWN_ENTRIES} best of {len(many)} entries" in texts(long)


def test_the_search_draws_values_and_a_running_best_of_trials_that_ran_whole(home: Any, data: SweepData) -> None:
    figure = search(data)
    top, *below = figure.axes
    for number, value in home.values.items():
        assert list(line(top, f"trial-{number}").get_ydata()) == [value]
        for axes in below:
            assert list(line(axes, f"trial-{number}").get_ydata()) == [value]
    best = line(top, "running-best")
    # Trial 2 has the highest value of all, but was stopped early: it does not count.
    np.testing.assert_allclose(best.get_ydata(), [home.values[0], home.values[1], home.values[1]])
    assert home.values[2] > best.get_ydata()[-1]
    assert line(top, "trial-2").get_markerfacecolor() == "#ffffff"
    assert [axes.get_title(loc="left") for axes in below] == [
        "model.orders.active",
        "training.learning_rate",
        "loss.smoothing",
    ]
    assert below[1].get_xscale() == "log"
    assert list(line(below[1], "trial-0").get_xdata()) == [0.002]
    assert [label.get_text() for label in below[2].get_xticklabels()] == ["none", "rhls 0.25"]
    assert "1 stopped early" in texts(figure)
    assert "1 failed" in texts(figure)


def test_a_loss_is_better_when_it_is_lower(make_home: Callable[..., Any]) -> None:
    home = make_home(search={"space": {"loss.dice": {"uniform": [0.0, 1.0]}}, "metric": "log_loss", "trials": 3})
    for number, value in enumerate((0.5, 0.3, 0.4)):
        home.store.record_trial(home.sweep, number, {"loss.dice": 0.5}, state="running")
        home.store.set_trial_state(home.sweep, number, "succeeded", value=value, rung=1)
    figure = search(read_sweep(home.store, home.sweep, home.path))
    assert list(line(figure.axes[0], "running-best").get_ydata()) == [0.5, 0.3, 0.3]
    assert "The best log-loss of 3 trials is 0.300, by trial 1" in texts(figure)


def test_spend_ends_at_what_was_spent_and_shows_the_limits_in_reach(home: Any, data: SweepData) -> None:
    figure = spend(data)
    workers, dollars, wall = figure.axes
    assert line(workers, "search").get_ydata()[-1] == pytest.approx(home.worker_seconds["search"])
    assert line(workers, "evaluation").get_ydata()[-1] == pytest.approx(sum(home.worker_seconds.values()))
    spent = home.store.ledger.totals(home.sweep)["spent"]
    assert line(dollars, "usd").get_ydata()[-1] == pytest.approx(spent.usd)
    assert list(line(dollars, "usd-limit").get_ydata()) == [1.0, 1.0]
    assert line(wall, "wall_seconds").get_ydata()[-1] == pytest.approx(spent.wall_seconds)
    assert "limit 5000, far above" in texts(figure)
    for axes, gid in ((workers, "search"), (dollars, "usd"), (wall, "wall_seconds")):
        assert (np.diff(line(axes, gid).get_ydata()) >= -1e-9).all()


def test_the_burn_down_ends_at_what_is_left_and_marks_the_cut(home: Any, data: SweepData) -> None:
    dollars, wall = burn_down(data).axes
    left, spent = line(dollars, "usd-left").get_ydata(), home.store.ledger.totals(home.sweep)["spent"]
    assert (left[0], left[-1]) == (pytest.approx(1.0), pytest.approx(1.0 - spent.usd))
    assert (np.diff(left) <= 1e-9).all()
    assert line(wall, "wall_seconds-left").get_ydata()[-1] == pytest.approx(5000.0 - spent.wall_seconds)
    assert not [item for item in dollars.lines if item.get_gid() == "search-cut"]
    cut = dataclasses.replace(data, search_cut=data.leases[0].opened_at)
    assert line(burn_down(cut).axes[0], "search-cut").get_xdata()[0] == pytest.approx(0.0)
    with pytest.raises(NoData, match="needs a limit"):
        burn_down(dataclasses.replace(data, leases=()))


def test_an_amount_is_spread_over_its_stretch_and_at_once_where_it_took_no_time() -> None:
    origin = datetime(2026, 1, 1, tzinfo=UTC)
    stretches = [
        Stretch(origin + timedelta(seconds=2), origin + timedelta(seconds=4), 10.0),
        Stretch(origin + timedelta(seconds=3), origin + timedelta(seconds=3), 1.0),
    ]
    seconds = np.array([0.0, 2.0, 2.5, 3.0, 4.0, 9.0])
    np.testing.assert_allclose(cumulative(stretches, origin, seconds), [0.0, 0.0, 2.5, 6.0, 11.0, 11.0])


def test_where_it_comes_from_stands_below_every_figure(home: Any, data: SweepData) -> None:
    for draw in (leaderboard, learning_curves, search, soft_order, soft_order_evolution, spend, burn_down, task_f1):
        words = texts(draw(data))
        assert home.sweep in words, draw.__name__
        assert "dataset 0123456789ab" in words
        assert "seeds 0, 1" in words


@given(
    wanted=st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted),
    gap=st.floats(0.001, 0.2),
)
@settings(max_examples=60, deadline=None)
def test_labels_keep_their_order_and_their_distance(wanted: list[float], gap: float) -> None:
    places = spread(np.array(wanted), gap)
    assert (np.diff(places) >= gap - 1e-9).all()
    assert places.mean() == pytest.approx(np.mean(wanted), abs=1e-9)
    if (np.diff(wanted) > gap + 1e-9).all():
        np.testing.assert_allclose(places, wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (0.00123456, "0.00123456"),
        (32, "32"),
        ("adam", "adam"),
        ({"name": "ls", "alpha": 0.1}, "ls 0.1"),
    ],
)
def test_searched_values_are_written_short(value: object, shown: str) -> None:
    assert value_text(value) == shown
