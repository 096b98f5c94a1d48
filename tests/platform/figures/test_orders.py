"""Figures of the order search: what is drawn is what is on record, and what it says is so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from duchenne.figures import (
    NoData,
    order_counts,
    order_distance_evolution,
    order_finding,
    read_sweep,
    single_orders,
    soft_order,
)
from duchenne.figures.order_search import finds, finds_couple, squared_distance

EYE = np.eye(3)
ROLLED = EYE[[1, 2, 0]]


def line(figure: Figure, gid: str) -> Any:
    (found,) = [item for axes in figure.axes for item in axes.lines if item.get_gid() == gid]
    return found


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in (*figure.texts, *(t for axes in figure.axes for t in axes.texts)))


def read(home: Any) -> Any:
    return read_sweep(home.store, home.sweep, home.path)


def write_orders(home: Any, fold: int, seed: int, way: list[np.ndarray], best: tuple[int, ...]) -> None:
    path = home.soft_order_file(home.key(1, "evaluation", "monet", fold, None, seed))
    lines = [
        {"epoch": epoch, "soft_order": matrix.tolist(), "best_order": list(best), "best_weight": 0.6}
        for epoch, matrix in enumerate(way, start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def searched(home: Any) -> Any:
    """Four runs of MONET: three end at the identity, one at the order (1, 2, 0)."""
    for fold in (0, 1):
        for seed in (0, 1):
            end, best = (ROLLED, (1, 2, 0)) if (fold, seed) == (1, 1) else (EYE, (0, 1, 2))
            write_orders(home, fold, seed, [np.full((3, 3), 1 / 3), (end + 1 / 3) / 2, end], best)
    return home


def test_squared_distance_by_hand() -> None:
    assert squared_distance(EYE, (0, 1, 2)) == 0
    assert squared_distance(EYE, (1, 0, 2)) == 4  # two rows differ, in two entries each
    assert squared_distance(np.full((3, 3), 1 / 3), (0, 1, 2)) == pytest.approx(3 * (4 / 9) + 6 * (1 / 9))
    assert squared_distance(ROLLED, (1, 2, 0)) == 0


def test_the_runs_that_found_the_identity_are_counted(searched: Any) -> None:
    data = read(searched)
    assert finds(data) == {"monet": (3, 4)}
    assert finds(data, (1, 2, 0)) == {"monet": (1, 4)}


def test_each_run_is_a_line_of_its_distances(searched: Any) -> None:
    figure = order_distance_evolution(read(searched))
    drawn = line(figure, "fold-1-seed-1")
    assert list(drawn.get_xdata()) == [1, 2, 3]
    middle = squared_distance((ROLLED + 1 / 3) / 2, (0, 1, 2))
    np.testing.assert_allclose(drawn.get_ydata(), [2.0, middle, 6.0])
    assert line(figure, "fold-0-seed-0").get_ydata()[-1] == 0
    assert line(figure, "fold-0-seed-0").get_color() != drawn.get_color()
    assert "in 3 of 4 runs" in texts(figure)


def test_runs_that_kept_no_best_order_count_as_not_found(home: Any) -> None:
    assert finds(read(home)) == {"monet": (0, 4)}
    assert len(order_distance_evolution(read(home)).axes[0].lines) == 4


def test_without_orders_there_is_nothing_to_draw(make_home: Callable[..., Any]) -> None:
    plain = make_home()
    plain.evaluate(methods=("vmnc",))
    for draw in (order_distance_evolution, order_counts, single_orders):
        with pytest.raises(NoData):
            draw(read(plain))


def test_a_couple_is_found_if_most_rows_of_each_half_choose_its_order() -> None:
    one, two = (0, 1, 2), (1, 0, 2)
    chosen = np.array([one, one, two, two, two, one, two])
    above = np.array([True, True, True, False, False, False, False])
    assert finds_couple(chosen, above, one, two)
    assert not finds_couple(chosen, above, two, one)
    assert not finds_couple(chosen, above, one, one)
    # Both orders in use, in both halves alike: nothing was found.
    assert not finds_couple(np.array([one, two, one, two]), np.array([True, True, False, False]), one, two)


def test_the_matrix_of_couples_is_symmetric_and_leaves_out_what_was_not_run() -> None:
    one, two = (0, 1), (1, 0)
    figure = order_finding({(one, one): 0.9, (one, two): 0.2}, "4 sweeps")
    matrix = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_array_equal(matrix, [[0.9, 0.2], [0.2, np.nan]])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["01", "10"]
    assert "4 sweeps" in texts(figure)
    assert "0.90 where both halves have one order and 0.20 where they have two" in texts(figure)
    with pytest.raises(NoData):
        order_finding({}, "")


def searched_over(make_home: Callable[..., Any], space: dict[str, Any], configs: list[dict[str, Any]]) -> Any:
    """A search whose trial n reached 0.5 + n / 10 on one inner fold, and 0.02 more on the other."""
    home = make_home(
        model={"name": "monet", "orders": {"source": "listed", "listed": [["task1", "task2", "task3"]]}}
        if "model.orders.listed" in space
        else {"name": "monet", "orders": {"count": 4}},
        training={"epochs": 2},
        search={"space": space, "metric": "accuracy", "algorithm": "grid"},
        comparators=[],
    )
    for number, config in enumerate(configs):
        home.store.record_trial(home.sweep, number, config, state="running")
        for inner in range(2):
            key = home.key(number, "search", "monet", 0, inner, 0)
            begun = home.begin(key)
            for epoch in (1, 2):
                value = 0.5 + number / 10 + 0.02 * inner + (epoch - 2) * 0.3
                home.store.record_result(key, epoch, 1, {"accuracy": value, "train_loss": 1.0})
            home.end(key, begun, 1.0, 2)
        home.store.set_trial_state(home.sweep, number, "succeeded", value=0.5 + number / 10 + 0.01, rung=1)
    return home


def test_settings_of_m_and_k_are_two_curves(make_home: Callable[..., Any]) -> None:
    configs = [
        {"model.orders.count": count, "model.orders.active": active}
        for count, active in ((4, None), (5, None), (4, 2), (5, 2), (5, 3))
    ]
    space = {"model.orders.count": {"grid": [4, 5]}, "model.orders.active": {"grid": [None, 2, 3]}}
    figure = order_counts(read(searched_over(make_home, space, configs)))
    red, green = line(figure, "orders"), line(figure, "active")
    assert list(red.get_xdata()) == [4, 5]
    np.testing.assert_allclose(red.get_ydata(orig=False), [0.51, 0.61])
    assert list(green.get_xdata()) == [2, 3, 5]
    np.testing.assert_allclose(green.get_ydata(orig=False), [0.81, 0.91, 0.61])
    assert "M = 5, k = 3: accuracy 0.910" in texts(figure)


def test_single_orders_stand_at_their_distance(make_home: Callable[..., Any]) -> None:
    orders = [["task1", "task2", "task3"], ["task2", "task1", "task3"], ["task2", "task3", "task1"]]
    space = {"model.orders.listed": {"grid": [[order] for order in orders]}}
    home = searched_over(make_home, space, [{"model.orders.listed": [order]} for order in orders])
    figure = single_orders(read(home))
    for number, distance in enumerate((0, 4, 6)):
        dot = line(figure, f"trial-{number}")
        assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([distance], [pytest.approx(0.51 + number / 10)])
    assert "squared distance of 6 from the identity: accuracy 0.710" in texts(figure)


def test_columns_of_groups_are_named_by_their_tasks(make_home: Callable[..., Any]) -> None:
    groups = [["AU1", "AU4"], ["AU12"]]
    home = make_home(data={"uri": "s3://faces/three"}, model={"name": "monet", "orders": {"groups": groups}})
    home.evaluate(methods=("monet",))
    for fold in (0, 1):
        for seed in (0, 1):
            write_orders(home, fold, seed, [np.eye(2)], (0, 1))
    axes = soft_order(read(home)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["AU1+AU4", "AU12"]
