"""What a network is told of its training rows, and where its output biases start (Tallec 2023, eq. 2.38)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from duchenne_jobs.models import Inputs, TrainingStatistics


def of(features: list[list[float]], labels: list[list[int]]) -> TrainingStatistics:
    return TrainingStatistics.of(torch.tensor(features), torch.tensor(labels, dtype=torch.int8))


def test_frequencies_are_of_known_labels() -> None:
    labels = [[1, 0, -1], [0, 0, -1], [-1, 0, -1], [1, 0, -1]]
    statistics = of([[0.0]] * 4, labels)
    # Task 0: 2 of 3 known. Task 1: never. Task 2: nothing is known, which says neither.
    assert statistics.frequency.tolist() == pytest.approx([2 / 3, 0.0, 0.5])
    # log(f / (1 - f)); half a positive of 4 rows for task 1.
    expected = torch.logit(torch.tensor([2 / 3, 0.125, 0.5]))
    torch.testing.assert_close(statistics.bias(), expected)


def test_features_are_standardised_by_mean_and_deviation() -> None:
    statistics = of([[1.0, 5.0], [3.0, 5.0]], [[0], [1]])
    assert statistics.feature_mean.tolist() == [2.0, 5.0]
    assert statistics.feature_scale.tolist() == [1.0, 1.0]  # a constant feature keeps its scale


@pytest.mark.parametrize("rows", [7, 1000, 2417])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 123.456])
def test_rounding_does_not_make_a_constant_feature_vary(rows: int, value: float) -> None:
    # torch gives these columns deviations of up to 1.5e-5, by which a held-out value would be blown up.
    statistics = TrainingStatistics.of(torch.full((rows, 1), value), torch.zeros(rows, 1, dtype=torch.int8))
    assert statistics.feature_scale.tolist() == [1.0]


def test_a_broken_row_leaves_the_others_their_statistics() -> None:
    statistics = of([[1.0], [float("nan")], [3.0], [float("inf")]], [[0], [1], [0], [0]])
    assert (statistics.feature_mean.item(), statistics.feature_scale.item()) == (2.0, 1.0)
    assert statistics.frequency.item() == 0.25  # its label is a label


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.filterwarnings("error")
def test_a_set_without_features_is_measured_without_a_warning(rows: int) -> None:
    statistics = TrainingStatistics.of(None, torch.ones(rows, 2, dtype=torch.int8))
    assert (statistics.feature_mean.shape, statistics.feature_scale.shape) == ((0,), (0,))
    assert statistics.frequency.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["vmnc", "vmns", "mrnn", "monet"])
def test_untrained_networks_predict_about_the_training_frequency(
    name: str, build: Any, inputs: Inputs, frequency: torch.Tensor
) -> None:
    network = build(name).eval()
    with torch.no_grad():
        mean = network.predict(inputs, torch.Generator().manual_seed(0)).mean(dim=0)
    assert (mean - frequency).abs().max().item() < 0.12
    blind = build(name, bias_initialisation=False).eval()
    with torch.no_grad():
        undecided = blind.predict(inputs, torch.Generator().manual_seed(0)).mean(dim=0)
    assert (undecided - frequency).abs().max().item() > 0.25


def test_with_a_silent_last_layer_the_prediction_is_the_frequency(
    build: Any, inputs: Inputs, frequency: torch.Tensor
) -> None:
    network = build("vmnc")
    with torch.no_grad():
        network.head[-1].weight.zero_()
        torch.testing.assert_close(network.predict(inputs), frequency.expand(len(inputs), -1))
    network = build("monet")
    with torch.no_grad():
        network.cells.weight_out.zero_()
        torch.testing.assert_close(network.predict(inputs), frequency.expand(len(inputs), -1))
