"""Order sets that do not fit: the length of the training, or the tasks of the dataset.

The rules themselves stand in `duchenne_jobs.config.orders`; here they are asked of every trial that may be drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from duchenne.spec.errors import Fault, Path
from duchenne.spec.trials import overlaid, possible_trials
from duchenne_jobs.config import RunConfig
from duchenne_jobs.config.model import EXACT_TASKS, ORDER_NAMES, RECURRENT_NAMES
from duchenne_jobs.config.orders import OrderFault
from duchenne_jobs.data.builtin import builtin_tasks

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

_READ = ("model.name", "model.orders", "model.inference", "training.epochs")


def order_faults(sweep: Sweep) -> Iterator[Fault]:
    """Orders chosen after the last epoch, and sets that do not fit a builtin dataset."""
    yield from _faults(sweep, _epoch_faults)
    tasks = builtin_tasks(sweep.data.uri)
    if tasks is not None:
        yield from order_task_faults(sweep, tasks)


def order_task_faults(sweep: Sweep, tasks: tuple[str, ...]) -> Iterator[Fault]:
    """Order sets that do not fit these tasks. An order file is read when the network is built."""
    yield from _faults(sweep, lambda config: _task_faults(config, tasks))


def _epoch_faults(config: RunConfig) -> Iterator[OrderFault]:
    orders, epochs = config.model.orders, config.training.epochs
    if config.model.name not in ORDER_NAMES:
        return
    if orders.selection == "hard" and orders.warmup_epochs >= epochs:
        rule = f"selection hard chooses after warmup_epochs < training.epochs, and a trial has {epochs} epochs"
        yield OrderFault("warmup_epochs", rule, str(orders.warmup_epochs), "lower warmup_epochs or raise epochs")
    if orders.evolves and orders.evolution.first_epoch >= epochs:
        rule = f"evolution must begin before the last epoch, and a trial has {epochs} epochs"
        yield OrderFault("evolution.first_epoch", rule, str(orders.evolution.first_epoch), "lower it or raise epochs")


def _task_faults(config: RunConfig, tasks: tuple[str, ...]) -> Iterator[OrderFault]:
    if config.model.name in ORDER_NAMES:
        yield from config.model.orders.faults(tasks)
    if config.model.name in RECURRENT_NAMES and config.model.inference == "exact" and len(tasks) > EXACT_TASKS:
        rule = f"exact inference takes at most {EXACT_TASKS} tasks"
        yield OrderFault("inference", rule, f"{len(tasks)} tasks", "set `inference: sampled`")


def _faults(sweep: Sweep, rules: Callable[[RunConfig], Iterator[OrderFault]]) -> Iterator[Fault]:
    """Each fault once, at the place in the file that a trial or a comparator has its orders from."""
    seen: set[tuple[Path, OrderFault]] = set()
    for config, _ in possible_trials(sweep, _READ):
        own = list(rules(config))
        placed = [(_place(sweep, fault), fault) for fault in own]
        for position, comparator in enumerate(sweep.comparators):
            varied = overlaid(config, comparator.changes)
            if varied is not None:
                placed += [(("comparators", position), fault) for fault in rules(varied) if fault not in own]
        for place, fault in placed:
            if (place, fault) not in seen:
                yield Fault(place, fault.rule, fault.value, fault.hint)
            seen.add((place, fault))


def _place(sweep: Sweep, fault: OrderFault) -> Path:
    """Where in the file a field of the model is set: in the search space, or in the section itself."""
    path = "model.inference" if fault.field == "inference" else f"model.orders.{fault.field}"
    for drawn in sweep.search.space:
        if f"{path}.".startswith(f"{drawn}.") or drawn.startswith(f"{path}."):
            return ("search", "space", drawn)
    return tuple(path.split("."))
