"""MRNN and MONET against torch's own GRU cell, written out (Tallec 2023, eq. 2.9 to 2.13 and 2.20 to 2.36)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import Inputs
from duchenne_kernels import order_marginals, sample_orders

PLAIN = TaskLoss(weights=None, dice=0.0)
LABELS = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
KNOWN = torch.ones(3, 2, dtype=torch.bool)


def written_out(network: Any, inputs: Inputs, labels: Tensor, order: list[int]) -> Tensor:
    """(B, T) logits of one order, teacher forced, one torch.nn.GRUCell a task."""
    cells, state = network.cells, network.encoder(inputs)
    previous = torch.zeros(len(inputs), 1)
    logits: dict[int, Tensor] = {}
    for task in order:
        of = 0 if cells.shared else task
        cell = nn.GRUCell(1, cells.hidden_size)
        with torch.no_grad():
            cell.weight_ih.copy_(cells.weight_ih[of][:, None])
            cell.weight_hh.copy_(cells.weight_hh[of])
            cell.bias_ih.copy_(cells.bias_ih[of])
            cell.bias_hh.copy_(cells.bias_hh[of])
        state = cell(previous, state)
        logits[task] = state @ cells.weight_out[of] + cells.bias_out[task]
        previous = labels[:, task : task + 1]
    return torch.stack([logits[task] for task in range(len(order))], dim=1)


def joint(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) p(y | x) as a product of the steps' probabilities (eq. 2.22)."""
    p = torch.sigmoid(logits)
    return torch.where(labels == 1, p, 1 - p).prod(dim=1)


def test_monet_loss_is_the_mixture_of_both_orders(build: Any, inputs: Inputs) -> None:
    network, x = build("monet", tasks=2, orders={"count": 2}), inputs[:3]
    assert network.selector.orders.tolist() == [[0, 1], [1, 0]]
    with torch.no_grad():
        network.selector.logits.copy_(torch.tensor([0.75, 0.25]).log())
        first = joint(written_out(network, x, LABELS, [0, 1]), LABELS)
        second = joint(written_out(network, x, LABELS, [1, 0]), LABELS)
        losses = network.example_losses(x, LABELS, LABELS, KNOWN, PLAIN)
    assert (first - second).abs().min() > 1e-4  # the orders do differ
    torch.testing.assert_close(losses, -(0.75 * first + 0.25 * second).log())


def test_monet_is_a_distribution_over_label_vectors(build: Any, inputs: Inputs) -> None:
    network, x = build("monet", tasks=2, orders={"count": 2}), inputs[:3]
    total = torch.zeros(3)
    with torch.no_grad():
        for code in range(4):
            y = torch.tensor([[float(code >> 1), float(code & 1)]]).expand(3, -1)
            total += torch.exp(-network.example_losses(x, y, y, KNOWN, PLAIN))
    torch.testing.assert_close(total, torch.ones(3))


def test_mrnn_is_one_cell_in_the_order_of_the_tasks(build: Any, inputs: Inputs) -> None:
    network, x = build("mrnn", tasks=2), inputs[:3]
    assert network.cells.weight_hh.shape == (1, 24, 8)
    with torch.no_grad():
        expected = -joint(written_out(network, x, LABELS, [0, 1]), LABELS).log()
        torch.testing.assert_close(network.example_losses(x, LABELS, LABELS, KNOWN, PLAIN), expected)


def test_smoothed_targets_are_scored_and_hard_labels_are_fed(build: Any, inputs: Inputs) -> None:
    network, x = build("mrnn", tasks=2), inputs[:3]
    targets = 0.9 * LABELS + 0.05
    with torch.no_grad():
        logits = written_out(network, x, LABELS, [0, 1])
        expected = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
        torch.testing.assert_close(network.example_losses(x, LABELS, targets, KNOWN, PLAIN), expected)


def test_weights_and_dice_enter_each_order_before_the_mixture(build: Any, inputs: Inputs) -> None:
    network, x = build("monet", tasks=2, orders={"count": 2}), inputs[:3]
    loss = TaskLoss(torch.tensor([1.5, 0.5]), dice=0.5)
    with torch.no_grad():
        network.selector.logits.copy_(torch.tensor([0.75, 0.25]).log())
        each = [loss(written_out(network, x, LABELS, order), LABELS, KNOWN) for order in ([0, 1], [1, 0])]
        expected = -(0.75 * torch.exp(-each[0]) + 0.25 * torch.exp(-each[1])).log()
        torch.testing.assert_close(network.example_losses(x, LABELS, LABELS, KNOWN, loss), expected)


@pytest.mark.parametrize("name", ["mrnn", "monet"])
def test_both_ways_to_a_plain_loss_agree(name: str, build: Any, inputs: Inputs) -> None:
    network, x = build(name, tasks=2), inputs[:3]
    known = torch.tensor([[True, False], [True, True], [False, False]])
    with torch.no_grad():
        one_op = network.example_losses(x, LABELS, LABELS, known, PLAIN)
        by_logits = network.example_losses(x, LABELS, LABELS, known, TaskLoss(torch.ones(2), dice=0.0))
    torch.testing.assert_close(one_op, by_logits)


@pytest.mark.parametrize("per", ["batch", "example"])
def test_order_dropout_mixes_the_active_orders_alone(per: str, build: Any, inputs: Inputs) -> None:
    network = build("monet", orders={"count": 6, "active": 2, "dropout_per": per}).train()
    x, known = inputs[:3], torch.ones(3, 3, dtype=torch.bool)
    labels = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    with torch.no_grad():
        network.selector.logits.copy_(torch.arange(6) / 3)
        orders = network.selector.orders.tolist()
        all_joints = torch.stack([joint(written_out(network, x, labels, order), labels) for order in orders], dim=1)
        torch.manual_seed(5)
        losses = network.example_losses(x, labels, labels, known, PLAIN)
        torch.manual_seed(5)
        active = network.selector.draw_active(3)
        assert active is not None
        active = active.expand(3, 2)
        weights = network.selector.logits.exp()[active]
        expected = (weights * all_joints.gather(1, active)).sum(dim=1) / weights.sum(dim=1)
    torch.testing.assert_close(losses, -expected.log())


def test_gradient_of_the_order_logits(build: Any, inputs: Inputs) -> None:
    """Tallec 2023, eq. 2.29: dL/du_m = pi_m (1 - exp(L - L^m))."""
    network, x = build("monet", tasks=2, orders={"count": 2}), inputs[:1]
    labels, known = LABELS[:1], KNOWN[:1]
    loss = network.example_losses(x, labels, labels, known, PLAIN)[0]
    (gradient,) = torch.autograd.grad(loss, network.selector.logits)
    with torch.no_grad():
        each = network.order_losses(network.encoder(x), labels, labels, known, PLAIN, network.selector.orders, None)[0]
        expected = 0.5 * (1 - torch.exp(loss - each))
    torch.testing.assert_close(gradient, expected)
    assert network.order_parameters()[0] is network.selector.logits


@pytest.mark.parametrize("name", ["mrnn", "monet"])
def test_predictions_are_the_mean_of_the_trajectories(name: str, build: Any, inputs: Inputs) -> None:
    network = build(name, trajectories=7).eval()
    with torch.no_grad():
        predicted = network.predict(inputs, torch.Generator().manual_seed(3))
        assert torch.equal(predicted, network.predict(inputs, torch.Generator().manual_seed(3)))
        assert not torch.equal(predicted, network.predict(inputs, torch.Generator().manual_seed(4)))
        generator = torch.Generator().manual_seed(3)
        orders = network.order if name == "mrnn" else network.selector.orders
        weights = torch.full((len(orders),), 1 / len(orders))
        orders = orders[torch.multinomial(weights, 7, replacement=True, generator=generator)]
        trajectories = sample_orders(network.encoder(inputs), orders, network.cells, generator=generator)
    assert trajectories.shape == (64, 7, 3)
    torch.testing.assert_close(predicted, trajectories.mean(dim=1))


def test_many_trajectories_approach_the_exact_marginals(build: Any, inputs: Inputs) -> None:
    network = build("monet", trajectories=4000).eval()
    with torch.no_grad():
        network.selector.logits.copy_(torch.tensor([0.5, 0.25, 0.125, 0.125]).log())
        network.cells.weight_ih.mul_(20)  # so that what was drawn matters to later steps
        sampled = network.predict(inputs[:4], torch.Generator().manual_seed(0))
        weights = network.selector.weights(network.encoder(inputs[:4]))
        exact = order_marginals(network.encoder(inputs[:4]), network.selector.orders, weights, network.cells)
    assert (sampled - exact).abs().max().item() < 0.02


def test_each_drawn_order_has_its_trajectories(build: Any, inputs: Inputs) -> None:
    """Algorithm 2: R orders from pi, L trajectories in each."""
    network = build("monet", trajectories=6, trajectories_per_order=3).eval()
    with torch.no_grad():
        predicted = network.predict(inputs, torch.Generator().manual_seed(3))
        generator = torch.Generator().manual_seed(3)
        picks = torch.multinomial(torch.full((4,), 0.25), 2, replacement=True, generator=generator)
        orders = network.selector.orders[torch.stack([picks[0]] * 3 + [picks[1]] * 3)]
        trajectories = sample_orders(network.encoder(inputs), orders, network.cells, generator=generator)
    torch.testing.assert_close(predicted, trajectories.mean(dim=1))


@pytest.mark.parametrize("name", ["mrnn", "monet", "xmonet", "groups"])
def test_exact_inference_sums_over_every_label_vector(name: str, build: Any, inputs: Inputs) -> None:
    """p(y^t = 1 | x) from p(y | x), which is exp of minus the loss of the plain mixture (eq. 2.23)."""
    orders: dict[str, Any] = {"count": 4}
    if name == "xmonet":
        orders |= {"selection": "xmonet"}
    if name == "groups":
        orders |= {"source": "all", "groups": [["task 2", "task 0"], ["task 1"]]}
    network = build("mrnn" if name == "mrnn" else "monet", orders=orders, inference="exact").eval()
    known = torch.ones(3, 3, dtype=torch.bool)
    marginals = torch.zeros(3, 3)
    with torch.no_grad():
        network.cells.weight_ih.mul_(20)
        for parameter in network.order_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        for code in range(8):
            y = torch.tensor([[float(code >> 2), float(code >> 1 & 1), float(code & 1)]]).expand(3, -1)
            p = torch.exp(-network.example_losses(inputs[:3], y, y, known, PLAIN))
            marginals += y * p[:, None]
        predicted = network.predict(inputs[:3])
    torch.testing.assert_close(predicted, marginals)


def test_exact_inference_of_many_tasks_is_refused(build: Any) -> None:
    with pytest.raises(ValueError, match=r"model\.inference: exact marginals take at most 16 tasks, but got 17"):
        build("mrnn", tasks=17, inference="exact")


def test_xmonet_mixes_by_the_row(build: Any, inputs: Inputs) -> None:
    """Tallec 2023, eq. 2.42, with two orders written out."""
    network, x = build("monet", tasks=2, orders={"count": 2, "selection": "xmonet"}), inputs[:3]
    with torch.no_grad():
        for parameter in network.order_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        pi = network.selector.head(network.encoder(x)).softmax(dim=1)
        first = joint(written_out(network, x, LABELS, [0, 1]), LABELS)
        second = joint(written_out(network, x, LABELS, [1, 0]), LABELS)
        losses = network.example_losses(x, LABELS, LABELS, KNOWN, PLAIN)
    assert torch.equal(network.row_orders(x), torch.tensor([[0, 1], [1, 0]])[pi.argmax(dim=1)])
    assert build("monet").row_orders(x) is None
    assert (pi[0] - pi[1]).abs().max() > 1e-3  # rows do differ
    torch.testing.assert_close(losses, -(pi[:, 0] * first + pi[:, 1] * second).log())


def test_xmonet_draws_the_orders_of_each_row_by_its_own_mixture(build: Any, inputs: Inputs) -> None:
    network = build("monet", trajectories=3000, orders={"count": 4, "selection": "xmonet"}).eval()
    with torch.no_grad():
        network.cells.weight_ih.mul_(20)
        for parameter in network.order_parameters():
            parameter.copy_(3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        sampled = network.predict(inputs[:4], torch.Generator().manual_seed(0))
        hidden = network.encoder(inputs[:4])
        exact = order_marginals(hidden, network.selector.orders, network.selector.weights(hidden), network.cells)
        repeated = network.predict(inputs[:4], torch.Generator().manual_seed(0))
    assert torch.equal(sampled, repeated)
    assert (sampled - exact).abs().max().item() < 0.03


def test_groups_are_independent_inside_and_conditioned_on_those_before(build: Any, inputs: Inputs) -> None:
    """Tallec 2023, eq. 2.44, groups {0, 2} and {1}, with torch.nn.GRUCell written out."""
    groups = [["task 0", "task 2"], ["task 1"]]
    network = build("monet", orders={"source": "all", "groups": groups})
    x, y = inputs[:3], torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    cells = network.cells
    assert network.selector.orders.tolist() == [[0, 1], [1, 0]]

    def step(group: int, fed: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        cell = nn.GRUCell(2, 8)
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, name).copy_(getattr(cells, name)[group])
        state = cell(fed, state)
        return state, state @ cells.weight_out[group].T + cells.bias_out[group]

    nothing = torch.zeros(3, 2)
    pair, alone = y[:, [0, 2]], torch.cat([y[:, 1:2], torch.zeros(3, 1)], dim=1)
    with torch.no_grad():
        network.selector.logits.copy_(torch.tensor([0.75, 0.25]).log())
        state, of_pair = step(0, nothing, network.encoder(x))
        _, of_one = step(1, pair, state)
        first = joint(of_pair, pair) * joint(of_one[:, :1], y[:, 1:2])
        state, of_one = step(1, nothing, network.encoder(x))
        _, of_pair = step(0, alone, state)
        second = joint(of_one[:, :1], y[:, 1:2]) * joint(of_pair, pair)
        losses = network.example_losses(x, y, y, torch.ones(3, 3, dtype=torch.bool), PLAIN)
    torch.testing.assert_close(losses, -(0.75 * first + 0.25 * second).log())


def test_biases_of_groups_start_at_the_frequencies_of_their_tasks(build: Any, frequency: Tensor) -> None:
    """Tallec 2023, eq. 2.38."""
    network = build("monet", orders={"source": "all", "groups": [["task 2", "task 0"], ["task 1"]]})
    bias = network.cells.bias_out
    torch.testing.assert_close(torch.stack([bias[0, 1], bias[1, 0], bias[0, 0]]), torch.logit(frequency))


def test_monet_offers_its_orders(build: Any) -> None:
    summary = build("monet").order_summary()
    torch.testing.assert_close(summary.soft_order.sum(dim=0), torch.ones(3))
    assert summary.best_weight == pytest.approx(0.25)
    assert build("mrnn").order_summary() is None
    assert build("mrnn").order_parameters() == []
