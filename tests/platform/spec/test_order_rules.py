"""Refusals of order sets: what the file shows by itself, and what its dataset's tasks show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duchenne.spec import SpecError, load_sweep, load_sweep_text
from duchenne.spec.orders import order_task_faults
from duchenne_jobs.data import materialise

HEAD = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {{name: a}}
data: {{uri: "{uri}"}}
budget: {{wall_seconds: 60}}
"""
TOY = HEAD.format(uri="builtin://toy?count=30&tasks=3")
LISTED = "model: {orders: {source: listed, listed: "


def refusal(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_sweep_text(TOY + text, "S.yaml")
    return [line.removeprefix("S.yaml:") for line in str(caught.value).splitlines()]


REFUSED = {
    "k > M": (
        "model: {orders: {count: 3, active: 7}}",
        "6: model.orders: `active` <= `count` must hold, got active=7 and count=3, lower active or raise count",
    ),
    "k > T!": (
        "model: {orders: {count: 24, active: 7}}",
        "6: model.orders.active: active <= M must hold, and the set has 6 orders, got 7, lower active or take more "
        "orders",
    ),
    "k > T! in the search space": (
        "search: {space: {model.orders.active: {choice: [1, 9]}}, trials: 2}",
        "6: search.space.model.orders.active: active <= M must hold, and the set has 6 orders, got 9, lower active or "
        "take more orders",
    ),
    "k > M of one order": (
        "model: {orders: {source: identity, active: 2}}",
        "6: model.orders: `active` <= the number of orders must hold, got active=2 and orders=1, lower active or give "
        "more orders",
    ),
    "a group partition that misses a task": (
        "model: {orders: {groups: [[task1], [task2]]}}",
        "6: model.orders.groups: must hold each task of the data once (task1, task2, task3), got no task3, name them "
        "all",
    ),
    "a task in two blocks": (
        "model: {orders: {source: blocks, blocks: [[task1, task2], [task1, task3]]}}",
        "6: model.orders: `blocks` must hold each task once, got task1 twice, list every task in one of them",
    ),
    "an order that repeats a task": (
        LISTED + "[[task1, task2, task2]]}}",
        "6: model.orders: each order of `listed` must be a permutation of the same names, got task2 twice in order 0, "
        "name each once",
    ),
    "an order that leaves a task out": (
        LISTED + "[[task2, task1]]}}",
        "6: model.orders.listed: each order must be a permutation of task1, task2, task3, got no task3 in order 0, "
        "name each once",
    ),
    "the same order twice": (
        LISTED + "[[task2, task1, task3], [task2, task1, task3]]}}",
        "6: model.orders: the orders of `listed` must be distinct, got task2 task1 task3 twice, remove the repetition",
    ),
    "evolution of all orders": (
        "model: {orders: {count: 6, evolution: {neighbours: adjacent}}}",
        "6: model.orders.evolution: evolution needs orders outside the set, got M = T! = 6, lower count or set "
        "`neighbours: none`",
    ),
    "evolution that begins too late": (
        "model: {orders: {count: 5, evolution: {neighbours: adjacent, first_epoch: 30}}}",
        "6: model.orders.evolution.first_epoch: evolution must begin before the last epoch, and a trial has 30 epochs, "
        "got 30, lower it or raise epochs",
    ),
    "evolution of a mixture that does not learn": (
        "model: {orders: {count: 5, selection: uniform, evolution: {neighbours: adjacent}}}",
        "6: model.orders: `evolution` needs a learned mixture, got selection=uniform, set `selection: soft` or "
        "`neighbours: none`",
    ),
    "hard selection without exploration": (
        "model: {orders: {selection: hard}}",
        "6: model.orders: selection hard explores in `warmup_epochs` >= 1 epochs, got 0, set warmup_epochs or another "
        "selection",
    ),
    "hard selection that never chooses": (
        "model: {orders: {selection: hard, warmup_epochs: 30}}",
        "6: model.orders.warmup_epochs: selection hard chooses after warmup_epochs < training.epochs, and a trial has "
        "30 epochs, got 30, lower warmup_epochs or raise epochs",
    ),
    "a field of another source": (
        "model: {orders: {blocks: [[task1]]}}",
        "6: model.orders: `blocks` belongs to source blocks, got source=random, set `source: blocks` or remove blocks",
    ),
    "a source without its field": (
        "model: {orders: {source: file}}",
        "6: model.orders: source file needs `file`, got none, add `file:`",
    ),
    "a comparator": (
        "model: {orders: {count: 6, active: 6}}\ncomparators: [{name: one, change: {model.orders.groups: [[task1]]}}]",
        "7: comparators[0]: must hold each task of the data once (task1, task2, task3), got no task2, task3, name them "
        "all",
    ),
}


@pytest.mark.parametrize(("text", "line"), REFUSED.values(), ids=REFUSED)
def test_refusals(text: str, line: str) -> None:
    assert refusal(text) == [line]


def test_exact_inference_of_too_many_tasks() -> None:
    text = HEAD.format(uri="builtin://toy?count=30&tasks=17") + "model: {name: mrnn, inference: exact}"
    with pytest.raises(SpecError, match=r"6: model\.inference: exact inference takes at most 16 tasks, got 17 tasks"):
        load_sweep_text(text, "S.yaml")


ACCEPTED = [
    "model: {orders: {count: 24, active: 6}}",
    LISTED + "[[task2, task1, task3]]}}",
    "model: {orders: {groups: [[task1, task3], [task2]], source: all, active: 2}}",
    "model: {orders: {source: blocks, blocks: [[task1, task3], [task2]], count: 4, active: 4}}",
    "model: {orders: {source: file, file: not-there-yet.txt}}",
    "model: {orders: {selection: xmonet, xmonet_layers: 1}, inference: exact}",
    "model: {orders: {count: 5, evolution: {neighbours: insertion}}}",
    "comparators: [{name: uniform, change: {model.orders.selection: uniform}}]",
    "search: {space: {model.orders.listed: {grid: [[[task1, task2, task3]], [[task3, task2, task1]]]}}, "
    "algorithm: grid}\nmodel: {orders: {source: listed, listed: [[task1, task2, task3]]}}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_fits_is_accepted(text: str) -> None:
    load_sweep_text(TOY + text, "S.yaml")


def test_a_manifest_on_this_disk_names_the_tasks(tmp_path: Path) -> None:
    uri = materialise("builtin://toy?count=30&tasks=3", tmp_path)
    assert json.loads((Path(uri) / "manifest.json").read_text())["tasks"] == ["task1", "task2", "task3"]
    file = tmp_path / "S.yaml"
    file.write_text(HEAD.format(uri=uri) + "model: {orders: {count: 24, active: 7}}")
    with pytest.raises(SpecError, match=r"6: model\.orders\.active: active <= M must hold, and the set has 6 orders"):
        load_sweep(file)


def test_tasks_that_nobody_knows_yet_are_asked_of_the_dataset() -> None:
    text = HEAD.format(uri="s3://faces/disfa") + "model: {orders: {groups: [[AU1, AU2], [AU25]]}}"
    sweep = load_sweep_text(text, "S.yaml")
    assert list(order_task_faults(sweep, ("AU1", "AU2", "AU25"))) == []
    (fault,) = order_task_faults(sweep, ("AU1", "AU2", "AU25", "AU26"))
    assert fault.located == (
        "model.orders.groups: must hold each task of the data once (AU1, AU2, AU25, AU26), got no AU26, name them all"
    )
