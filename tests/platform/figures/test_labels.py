"""Histograms, calibration, every metric of a task and the curves over a searched number: what is drawn is what is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from duchenne.figures import NoData, calibration, prediction_histograms, read_sweep, task_metrics, validation_by_value
from duchenne.figures.curves import value_curves
from duchenne.figures.labels import class_shares, rarest_tasks
from duchenne.figures.source import SweepData
from duchenne.figures.style import FAINT, method_colours, method_name
from duchenne_jobs.evaluation import concatenate, reliability


@pytest.fixture
def data(home: Any) -> SweepData:
    return read_sweep(home.store, home.sweep, home.path)


def drawn(axes: Axes, gid: str) -> Any:
    (found,) = [artist for artist in axes.get_children() if artist.get_gid() == gid]
    return found


def test_a_histogram_shows_the_share_of_each_class(home: Any, data: SweepData) -> None:
    figure = prediction_histograms(data)
    rows = concatenate(home.predictions["monet"])
    tasks = rarest_tasks(rows)
    frequency = (rows.labels == 1).mean(axis=0)
    assert [float(frequency[task]) for task in tasks] == sorted(frequency)
    assert len(figure.axes) == 3 * 3  # methods x tasks
    for axes, task in zip(figure.axes[:3], tasks, strict=True):
        positive, negative = class_shares(rows, task)
        own = rows.probabilities[rows.labels[:, task] == 1, task]
        assert positive.sum() == pytest.approx(1.0)
        assert positive[18] == pytest.approx(np.mean(own > 0.89))  # of 20 bins: 0.9 to 0.95
        bars = [patch.get_height() for patch in axes.patches if patch.get_height() != 0]
        assert sorted(bars) == pytest.approx(sorted([*positive[positive > 0], *-negative[negative > 0]]))


def test_the_diagram_shows_the_bins_of_every_method(home: Any, data: SweepData) -> None:
    diagram, _, errors = calibration(data).axes
    for method, files in home.predictions.items():
        rows = concatenate(files)
        bins = reliability(rows.labels.reshape(-1, 1), rows.probabilities.reshape(-1, 1))
        filled = bins.rows[0] > 0
        line = drawn(diagram, f"reliability-{method}")
        np.testing.assert_allclose(line.get_xdata(), bins.mean_predicted[0][filled])
        np.testing.assert_allclose(line.get_ydata(), bins.frequency[0][filled])
        pooled = []
        for seed in (0, 1):
            own = concatenate(files[seed::2])
            pooled.append(reliability(own.labels, own.probabilities).calibration_error.mean())
        assert drawn(errors, f"error-{method}").get_xdata()[0] == pytest.approx(np.mean(pooled))


def test_every_metric_of_every_task_is_a_mark_with_its_interval(data: SweepData) -> None:
    figure = task_metrics(data)
    report = data.report("monet", ["f1", "auc", "accuracy", "log_loss", "calibration_error"])
    for axes, found in zip(figure.axes, report.metrics.values(), strict=True):
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        expected = [*found.pooled, found.pooled_macro, *found.mean_of_folds, found.mean_of_folds_macro]
        assert marks == pytest.approx([estimate.value for estimate in expected])
        assert len(axes.collections) == len(expected)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][-1] == "mean"


@pytest.fixture
def listed(make_home: Callable[..., Any]) -> Any:
    """A search over listed learning rates, of which two trials ran whole, one was stopped and one failed."""
    space = {
        "model.orders.active": {"choice": [None, 2]},
        "training.learning_rate": {"grid": [0.002, 0.004, 0.001, 0.009]},
        "loss.smoothing": {"choice": [{"name": "none"}, {"name": "rhls", "beta": 0.25}]},
    }
    scheduler = {"name": "asha", "grace_epochs": 2, "reduction_factor": 2}
    home = make_home(search={"space": space, "trials": 1, "scheduler": scheduler})
    home.search()
    return home


def test_a_listed_number_is_a_curve_with_one_standard_error(listed: Any) -> None:
    data = read_sweep(listed.store, listed.sweep, listed.path)
    found, others = value_curves(data)
    ends = [np.array([listed.curves[trial, place][-1][0] for place in range(4)]) for trial in (0, 1)]
    (rate,) = found  # `active` and `beta` have one value each in whole trials
    assert (rate.name, rate.values.tolist(), others) == ("learning rate", [0.002, 0.004], {})
    np.testing.assert_allclose(rate.scores, ends)
    np.testing.assert_allclose(rate.standard_error, [end.std(ddof=1) / 2 for end in ends])
    (axes,) = validation_by_value(data).axes
    np.testing.assert_allclose(drawn(axes, "values-learning rate").get_ydata(), rate.mean)


def test_a_number_inside_a_section_is_a_curve_beside_the_values_that_have_none(make_home: Callable[..., Any]) -> None:
    smoothings = [{"name": "rhls", "beta": 0.5}, {"name": "rhls", "beta": 0.25}, {"name": "none"}]
    home = make_home(search={"space": {"loss.smoothing": {"grid": smoothings}}, "algorithm": "grid"})
    for number, smoothing in enumerate(smoothings):
        home.store.record_trial(home.sweep, number, {"loss.smoothing": smoothing}, state="running")
        home._train(number, 4)
        home.store.set_trial_state(home.sweep, number, "succeeded", value=0.5, rung=2)
    data = read_sweep(home.store, home.sweep, home.path)
    (curve,), others = value_curves(data)
    assert (curve.name, curve.values.tolist()) == ("rhls: beta", [0.25, 0.5])
    ends = [np.array([home.curves[trial, place][-1][0] for place in range(4)]) for trial in range(3)]
    np.testing.assert_allclose(curve.scores, [ends[1], ends[0]])
    assert list(others) == ["none"]
    np.testing.assert_allclose(others["none"], ends[2])
    (axes,) = validation_by_value(data).axes
    assert [text.get_text() for text in axes.texts] == ["none"]


def test_numbers_drawn_at_random_have_no_curve(data: SweepData) -> None:
    with pytest.raises(NoData, match="differ in a listed number"):
        validation_by_value(data)


@pytest.mark.parametrize("draw", [prediction_histograms, calibration, task_metrics])
def test_predictions_that_changed_are_not_drawn(draw: Callable[..., Any], home: Any) -> None:
    for file in (home.path / "sweeps" / home.sweep / "predictions").iterdir():
        file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(NoData, match="predictions"):
        draw(read_sweep(home.store, home.sweep, home.path))


def test_variants_have_colours_of_their_own() -> None:
    colours = method_colours(["monet", "baseline", "vals", "mrnn"])
    assert len(set(colours.values())) == 4
    assert FAINT not in colours.values()
    assert [method_name(name) for name in ("monet_mtts", "chain_ensemble", "vals")] == [
        "MONET MTTS",
        "Chain ensemble",
        "vals",
    ]
