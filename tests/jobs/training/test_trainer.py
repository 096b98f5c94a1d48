"""One network on the rows of one fold: resuming, warm-up, prediction, and the loss that is no number."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import Inputs
from duchenne_jobs.training import JobFailed, JobStopped
from duchenne_jobs.training.checkpoint import load_checkpoint, save_checkpoint
from duchenne_jobs.training.split import Rows
from duchenne_jobs.training.trainer import Trainer, derive_seed, order_record

Make = Callable[..., Trainer]
MODELS = ("vmnc", "vmns", "mrnn", "monet")
EVERYTHING = {"loss": {"smoothing": {"name": "rhls"}, "task_weights": "inverse_frequency", "dice": 0.5}}
EVOLUTION: dict[str, Any] = {
    "model": {
        "orders": {
            "count": 4,
            "evolution": {"neighbours": "any", "every": 1, "first_epoch": 1, "last_epoch": 4, "parents": 2},
        }
    }
}
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in MODELS},
    "monet, per example, all losses": {
        "name": "monet",
        "model": {"orders": {"count": 6, "active": 2, "dropout_per": "example", "warmup_epochs": 1}},
        **EVERYTHING,
    },
    "monet, order evolution": {"name": "monet", **EVOLUTION},
    "monet, hard selection": {
        "name": "monet",
        "model": {"orders": {"count": 6, "selection": "hard", "warmup_epochs": 2}},
    },
    "monet, hard selection, chosen before the restore": {
        "name": "monet",
        "model": {"orders": {"count": 6, "selection": "hard", "warmup_epochs": 1, "active": 4}},
    },
    "monet, uniform": {"name": "monet", "model": {"orders": {"count": 6, "selection": "uniform"}}},
    "xmonet, order dropout, exact": {
        "name": "monet",
        "model": {"inference": "exact", "orders": {"count": 6, "selection": "xmonet", "active": 3, "warmup_epochs": 1}},
    },
    "xmonet, groups, trajectories of each row": {
        "name": "monet",
        "model": {"orders": {"source": "all", "selection": "xmonet", "groups": [["a", "c"], ["b"]]}},
    },
    "vmnc, adam, clipped, all losses": {
        "name": "vmnc",
        "training": {"optimizer": "adam", "gradient_clip": 0.5},
        **EVERYTHING,
    },
}


def never() -> None:
    """A scheduler that lets the job run."""


def run(trainer: Trainer, epochs: int) -> list[float]:
    return [trainer.run_epoch(never) for _ in range(epochs)]


def same(one: Any, two: Any) -> bool:
    """Bit-equality of nested states."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_two_epochs_a_restore_and_two_more_equal_four(
    variant: dict[str, Any], trainer: Make, rows: Rows, tmp_path: Path
) -> None:
    straight = trainer(**variant)
    losses = run(straight, 4)

    first = trainer(**variant)
    resumed_losses = run(first, 2)
    save_checkpoint(tmp_path / "c.pt", first.state())
    second = trainer(**variant, seed=0)
    torch.randn(17)  # the global generator has been used by others in the meantime
    state = load_checkpoint(tmp_path / "c.pt")
    assert state is not None
    second.restore(state)
    resumed_losses += run(second, 2)

    assert resumed_losses == losses
    assert same(second.state(), straight.state())
    assert torch.equal(second.predict(rows), straight.predict(rows))


@pytest.mark.parametrize("name", MODELS)
def test_training_learns(name: str, trainer: Make) -> None:
    encoder = {"layers": 1, "width": 16}
    subject = trainer(
        name, model={"encoder": encoder, "orders": {"count": 6}}, training={"decay": 1.0, "learning_rate": 3e-2}
    )
    losses = run(subject, 20)  # 60 steps on labels that a line separates
    assert losses[-1] < 0.5 * losses[0]


def test_the_seed_decides(trainer: Make) -> None:
    assert run(trainer("monet", seed=1), 1) == run(trainer("monet", seed=1), 1)
    assert run(trainer("monet", seed=1), 1) != run(trainer("monet", seed=2), 1)


def test_each_epoch_visits_every_row_once_in_an_order_of_its_own(trainer: Make, monkeypatch: Any) -> None:
    subject = trainer("vmnc")
    seen: list[list[int]] = []
    losses = subject._losses
    monkeypatch.setattr(
        subject,
        "_losses",
        lambda epoch, step, indices, inputs: (
            seen.append(indices.tolist()),
            losses(epoch, step, indices, inputs),
        )[1],
    )
    run(subject, 2)
    assert [len(batch) for batch in seen] == [16, 16, 8] * 2
    epochs = [[row for batch in batches for row in batch] for batches in (seen[:3], seen[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]


def test_a_step_follows_the_gradient_of_the_mean_loss_of_its_rows(trainer: Make, rows: Rows) -> None:
    without_dropout = {"model": {"encoder": {"layers": 1, "width": 8}}}
    subject, twin = trainer("vmnc", **without_dropout), trainer("vmnc", **without_dropout)
    labels, mask = rows.labels.clamp(min=0).float(), rows.labels >= 0
    losses = twin.network.example_losses(rows.inputs, labels, labels, mask, TaskLoss(None, 0.0))
    mean = losses.mean()
    expected = torch.autograd.grad(mean, list(twin.network.parameters()))
    total = subject._step(1, 0, torch.arange(40), iter([rows.inputs]), lambda: None)
    assert total.item() / 40 == pytest.approx(mean.item())
    for parameter, gradient in zip(subject.network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_warm_up_freezes_the_order_logits_for_exactly_n_epochs(warmup: int, trainer: Make) -> None:
    subject = trainer("monet", model={"orders": {"count": 6, "warmup_epochs": warmup}})
    logits = subject.network.order_parameters()[0]
    for _ in range(warmup):
        run(subject, 1)
        assert logits.tolist() == [0.0] * 6
    run(subject, 1)
    assert all(value != 0.0 for value in logits.tolist())


def test_the_learning_rate_of_the_order_logits_is_constant_and_their_own(trainer: Make) -> None:
    subject = trainer("monet", model={"orders": {"count": 6, "learning_rate": 0.3}}, training={"decay": 0.5})
    run(subject, 2)
    state = subject.state()
    assert state["order_optimizer"]["param_groups"][0]["lr"] == 0.3
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-2 / 4)
    # Adam's first step moves each by its learning rate, whatever the gradient; AdamW's weight decay leaves them alone.
    fresh = trainer("monet", model={"orders": {"count": 6, "learning_rate": 0.3}}, training={"batch_size": 40})
    run(fresh, 1)
    assert fresh.network.order_parameters()[0].abs().tolist() == pytest.approx([0.3] * 6, rel=1e-2)


def test_predictions_follow_from_seed_and_epoch(trainer: Make, rows: Rows) -> None:
    subject = trainer("monet")
    run(subject, 1)
    before = subject.state()["network"]["selector.logits"].clone()
    predicted = subject.predict(rows)
    assert predicted.shape == (40, 3)
    assert torch.equal(predicted, subject.predict(rows))
    assert torch.equal(before, subject.state()["network"]["selector.logits"])
    run(subject, 1)  # a prediction does not disturb the next epoch
    undisturbed = trainer("monet")
    run(undisturbed, 2)
    assert same(subject.state(), undisturbed.state())


def test_unknown_labels_teach_nothing(trainer: Make, rows: Rows) -> None:
    blank = replace(rows, labels=torch.full_like(rows.labels, -1))
    subject = trainer("mrnn", data=blank, training={"weight_decay": 0.0}, **EVERYTHING)
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    assert run(subject, 1) == [0.0]
    assert same(dict(subject.network.state_dict()), before)


def test_a_task_without_known_labels_leaves_the_others_their_weights(trainer: Make, rows: Rows) -> None:
    labels = rows.labels.clone()
    labels[:, 0] = -1
    subject = trainer("vmnc", data=replace(rows, labels=labels), **EVERYTHING)
    assert subject._loss.weights is not None
    assert bool((subject._loss.weights > 0.5).all())


def broken_row(rows: Rows, value: float, row: int) -> Rows:
    features = rows.inputs.features.clone()
    features[row, 2] = value
    return replace(rows, inputs=Inputs(features=features))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_no_number_is_named(name: str, value: float, trainer: Make, rows: Rows) -> None:
    subject = trainer(name, data=broken_row(rows, value, row=13))
    with pytest.raises(JobFailed) as caught:
        run(subject, 1)
    batch = 8 if "batch's 8 rows" in str(caught.value) else 16  # the last batch of 40 rows is short
    assert str(caught.value) == (
        f"epoch 1: the loss of each row must be finite, but it is not for 1 of the batch's {batch} rows (S13/T1/13); "
        "lower training.learning_rate, set training.gradient_clip or look at these rows"
    )
    assert subject.epoch == 0


def test_a_row_of_a_table_goes_by_its_subject(trainer: Make, rows: Rows) -> None:
    with pytest.raises(JobFailed, match=r"rows \(S30\); lower"):
        run(trainer("vmnc", data=broken_row(rows, float("nan"), row=30)), 1)


@pytest.mark.parametrize("name", MODELS)
def test_an_absurd_learning_rate_names_the_epoch_and_some_rows(name: str, trainer: Make) -> None:
    subject = trainer(name, training={"learning_rate": 1e30})
    with pytest.raises(JobFailed, match=r"^epoch 1: .* not for \d+ of the batch's \d+ rows \(S.*\); lower training"):
        run(subject, 1)


def test_a_stop_leaves_the_epoch_uncounted(trainer: Make) -> None:
    subject = trainer("vmnc")
    run(subject, 1)

    def stop() -> None:
        raise JobStopped

    with pytest.raises(JobStopped):
        subject.run_epoch(stop)
    assert subject.epoch == 1


def test_states_hold_nothing_but_tensors_numbers_and_containers(trainer: Make) -> None:
    for name in MODELS:
        subject = trainer(name)
        run(subject, 1)
        buffer = io.BytesIO()
        torch.save(subject.state(), buffer)
        buffer.seek(0)
        assert same(torch.load(buffer, weights_only=True), subject.state())


def test_what_is_recorded_of_the_orders_is_plain_json(trainer: Make) -> None:
    record = order_record(trainer("monet").network)
    assert record is not None
    assert json.loads(json.dumps(record)) == record
    assert [round(sum(row), 4) for row in record["soft_order"]] == [1.0] * 3
    assert sorted(record["best_order"]) == [0, 1, 2]
    assert order_record(trainer("mrnn").network) is None


def test_evolution_forgets_what_the_optimiser_knew_of_the_orders_that_left(trainer: Make) -> None:
    subject = trainer("monet", **EVOLUTION)
    before = subject.network.order_parameters()[0]
    orders = subject.network.state_dict()["selector.orders"].clone()
    run(subject, 1)
    left = (subject.network.state_dict()["selector.orders"] != orders).any(dim=1)
    (moments,) = subject.state()["order_optimizer"]["state"].values()
    assert 0 < int(left.sum()) < len(before)
    assert bool((moments["exp_avg_sq"][left] == 0).all())
    assert bool((moments["exp_avg_sq"][~left] > 0).all())


def test_an_order_set_that_does_not_fit_the_tasks_fails_the_job(trainer: Make) -> None:
    with pytest.raises(JobFailed, match=r"model\.orders\.active: active <= M must hold, and the set has 6 orders"):
        trainer("monet", model={"orders": {"count": 24, "active": 7}})


def test_derived_seeds_are_pinned() -> None:
    # What was published with a seed must come out again: the derivation is part of the format.
    assert derive_seed(0, "epoch", 1) == 123735704575244949
    assert len({derive_seed(s, what, e) for s in range(9) for what in ("epoch", "predict") for e in range(9)}) == 162
    assert 0 <= derive_seed("x") < 2**63
