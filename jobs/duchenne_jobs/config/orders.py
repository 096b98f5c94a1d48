"""Which orders MONET holds and how it chooses among them (Tallec 2023, 2.4 and 2.6)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.base import Config, PositiveFloat, PositiveInt

Names = tuple[str, ...]


class OrderFault(NamedTuple):
    """A rule that an order set breaks on the tasks of a dataset: the field below `model.orders`, and three phrases."""

    field: str
    rule: str
    value: str
    hint: str

    def __str__(self) -> str:
        return f"model.orders.{self.field}: {self.rule}, but got {self.value}; {self.hint}"


class EvolutionConfig(Config):
    """Order evolution: orders whose weight stays low give way to neighbours of the good ones (ours, no equation).

    It makes a small set a search: M orders are a lottery among T!, and neighbours of a good order tend to be good.
    """

    neighbours: Literal["none", "adjacent", "any", "insertion"] = Field(
        "none",
        description="What replaces an order: a good one with two `adjacent` tasks swapped, or `any` two, or with one "
        "task put elsewhere (`insertion`); `none`: no evolution.",
    )
    every: PositiveInt = Field(5, description="Epochs between two replacements.")
    first_epoch: PositiveInt = Field(
        15, description="Epoch at whose end the first replacement may be made; it may lie in the warm-up."
    )
    last_epoch: PositiveInt = Field(120, description="Epoch after which the set stays as it is.")
    replaced: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.25, description="Share of the M orders that a replacement may take out."
    )
    parents: PositiveInt = Field(
        4, description="Orders of the lowest training losses: they stay, and their neighbours come."
    )

    @model_validator(mode="after")
    def _first_before_last(self) -> Self:
        if self.first_epoch > self.last_epoch:
            raise ValueError(
                f"`first_epoch` <= `last_epoch` must hold, but got first_epoch={self.first_epoch} and "
                f"last_epoch={self.last_epoch}; swap or change them"
            )
        return self


class OrdersConfig(Config):
    """MONET's order set and how it chooses among the orders (Tallec 2023, 2.4 and 2.6)."""

    count: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        32,
        description="M: distinct orders to draw (`source: random` or `blocks`); all that there are where M is larger.",
    )
    active: PositiveInt | None = Field(
        None, description="k: orders kept a training step by order dropout (eq. 2.34); null keeps all M."
    )
    dropout_per: Literal["batch", "example"] = Field(
        "batch", description="Draw one subset of k orders a batch, or one for each example."
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        0, description="Epochs in which the mixture stays uniform (2.4.3); those that `selection: hard` explores."
    )
    learning_rate: PositiveFloat = Field(5e-3, description="Adam's learning rate of the mixture, constant.")
    source: Literal["random", "all", "identity", "listed", "file", "blocks"] = Field(
        "random",
        description="`random`: M distinct orders drawn by `seed`; `all`: T! orders; `identity`: the order of the tasks "
        "alone; `listed`: those of `listed`; `file`: those of `file`; `blocks`: drawn so that the tasks of a block of "
        "`blocks` follow each other (2.6.2).",
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of a drawn order set.")
    listed: tuple[Names, ...] = Field(
        (),
        description="Orders for `source: listed`, each a list of all task names, first to be predicted first; with "
        "`groups`, of group names (its tasks joined by +).",
    )
    file: str | None = Field(
        None,
        description="Path or s3:// URL for `source: file`: a text file with one order a line, names between spaces or "
        "commas; # begins a comment.",
    )
    blocks: tuple[Names, ...] = Field(
        (), description="Partition of the tasks for `source: blocks`, for instance [[AU1, AU2, AU4], [AU12, AU25]]."
    )
    groups: tuple[Names, ...] = Field(
        (),
        description="Partition of the tasks into groups with one cell each (eq. 2.43, 2.44): the orders permute "
        "groups, and the tasks of a group are independent given those before; empty: one cell a task.",
    )
    selection: Literal["soft", "uniform", "hard", "xmonet"] = Field(
        "soft",
        description="How the mixture pi over the orders is chosen. `soft`: learned logits (eq. 2.21); `uniform`: 1/M "
        "throughout; `hard`: after the warm-up one order, drawn by training performance (Vinyals et al. 2016); "
        "`xmonet`: a head on the encoder, pi(x) (eq. 2.42).",
    )
    xmonet_layers: Annotated[int, Field(ge=1, le=16)] = Field(
        2, description="Dense layers of the head of `selection: xmonet`, the output layer included."
    )
    evolution: EvolutionConfig = Field(
        default_factory=EvolutionConfig, description="Order evolution, for `selection: soft`."
    )

    @property
    def evolves(self) -> bool:
        """Whether orders are replaced in training."""
        return self.evolution.neighbours != "none"

    @model_validator(mode="after")
    def _active_within_count(self) -> Self:
        drawn = self.source in ("random", "blocks")
        count = {"identity": 1, "listed": len(self.listed)}.get(self.source, self.count if drawn else None)
        if self.active is not None and count is not None and self.active > count:
            what = "count" if drawn else "orders"
            raise ValueError(
                f"`active` <= {'`count`' if drawn else 'the number of orders'} must hold, but got active={self.active} "
                f"and {what}={count}; lower active or {'raise count' if drawn else 'give more orders'}"
            )
        return self

    @model_validator(mode="after")
    def _fields_fit_the_source(self) -> Self:
        for field in ("listed", "file", "blocks"):
            given = bool(getattr(self, field))
            if given and self.source != field:
                raise ValueError(
                    f"`{field}` belongs to source {field}, but got source={self.source}; set `source: {field}` or "
                    f"remove {field}"
                )
            if not given and self.source == field:
                raise ValueError(f"source {field} needs `{field}`, but got none; add `{field}:`")
        if self.groups and self.blocks:
            raise ValueError("`groups` and `blocks` exclude each other, but got both; keep one of them")
        return self

    @model_validator(mode="after")
    def _partitions_name_a_task_once(self) -> Self:
        for field in ("blocks", "groups"):
            parts: tuple[Names, ...] = getattr(self, field)
            fault = _repeated([name for part in parts for name in part]) or ("an empty one" * (not all(parts)))
            if fault:
                raise ValueError(f"`{field}` must hold each task once, but got {fault}; list every task in one of them")
        return self

    @model_validator(mode="after")
    def _listed_orders_are_permutations(self) -> Self:
        for position, order in enumerate(self.listed):
            fault = _not_a_permutation(order, self.listed[0])
            if fault:
                raise ValueError(
                    f"each order of `listed` must be a permutation of the same names, but got {fault} in order "
                    f"{position}; name each once"
                )
        if len(set(self.listed)) < len(self.listed):
            twice = _repeated([" ".join(order) for order in self.listed])
            raise ValueError(f"the orders of `listed` must be distinct, but got {twice}; remove the repetition")
        return self

    @model_validator(mode="after")
    def _selection_has_its_epochs(self) -> Self:
        if self.selection == "hard" and self.warmup_epochs == 0:
            raise ValueError(
                "selection hard explores in `warmup_epochs` >= 1 epochs, but got 0; set warmup_epochs or another "
                "selection"
            )
        if self.evolves and self.selection != "soft":
            raise ValueError(
                f"`evolution` needs a learned mixture, but got selection={self.selection}; "
                "set `selection: soft` or `neighbours: none`"
            )
        if self.evolves and self.source == "all":
            raise ValueError(
                "`evolution` needs orders outside the set, but got source=all; set `source: random` or "
                "`neighbours: none`"
            )
        return self

    def step_names(self, tasks: Names) -> Names:
        """What an order permutes: the tasks, or the groups under their names (`AU1+AU2`)."""
        return tuple("+".join(group) for group in self.groups) if self.groups else tasks

    def size(self, tasks: Names) -> int | None:
        """M on these tasks; None where only the file knows it.

        With blocks there are G! prod_g T_g! orders to draw from (Tallec 2023, 2.6.2 prints G!(T_G)^G).
        """
        every = math.factorial(len(self.step_names(tasks)))
        match self.source:
            case "identity":
                return 1
            case "listed":
                return len(self.listed)
            case "file":
                return None
            case "all":
                return every
            case "random":
                return min(self.count, every)
            case "blocks":
                inside = math.prod(math.factorial(len(block)) for block in self.blocks)
                return min(self.count, math.factorial(len(self.blocks)) * inside)

    def faults(self, tasks: Names, orders: Sequence[Names] | None = None) -> Iterator[OrderFault]:
        """Rules that only the names of the tasks can show to be broken.

        Args:
            tasks: the dataset's tasks.
            orders: the orders of the file, where it was read.
        """
        for field in ("blocks", "groups"):
            parts: tuple[Names, ...] = getattr(self, field)
            fault = _not_a_permutation([name for part in parts for name in part], tasks) if parts else None
            if fault:
                yield OrderFault(field, f"must hold each task of the data once ({_few(tasks)})", fault, "name them all")
                return
        steps = self.step_names(tasks)
        given = self.listed if orders is None else orders
        for position, order in enumerate(given):
            fault = _not_a_permutation(order, steps)
            if fault:
                rule = f"each order must be a permutation of {_few(steps)}"
                yield OrderFault(self.source, rule, f"{fault} in order {position}", "name each once")
                return
        if len(set(given)) < len(given):
            twice = _repeated([" ".join(order) for order in given])
            yield OrderFault(self.source, "orders must be distinct", str(twice), "remove the repetition")
            return
        size = self.size(tasks) if orders is None else len(orders)
        yield from self._size_faults(size, math.factorial(len(steps)))

    def _size_faults(self, size: int | None, every: int) -> Iterator[OrderFault]:
        if self.source == "all" and every > MAX_ORDERS:
            hint = "set `source: random` with a count"
            yield OrderFault("source", f"all orders must be at most {MAX_ORDERS}", f"T! = {every}", hint)
        elif size is not None and self.active is not None and self.active > size:
            rule = f"active <= M must hold, and the set has {size} orders"
            yield OrderFault("active", rule, str(self.active), "lower active or take more orders")
        elif self.evolves and size == every:
            rule = "evolution needs orders outside the set"
            yield OrderFault("evolution", rule, f"M = T! = {every}", "lower count or set `neighbours: none`")
        elif self.evolves and size is not None and self.evolution.parents >= size:
            rule = f"parents < M must hold, and the set has {size} orders"
            yield OrderFault("evolution.parents", rule, str(self.evolution.parents), "lower parents")


MAX_ORDERS = 1_000_000


def parse_orders(text: str) -> tuple[Names, ...]:
    """The orders of an order file: one a line, names between spaces or commas, # begins a comment."""
    lines = (line.split("#", 1)[0].replace(",", " ").split() for line in text.splitlines())
    return tuple(tuple(names) for names in lines if names)


def _not_a_permutation(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """What is wrong with `names` as an arrangement of `wanted`, or None."""
    unknown = [name for name in names if name not in wanted]
    missing = [name for name in wanted if name not in names]
    if unknown:
        return f"the unknown name {_few(unknown)}"
    return f"no {_few(missing)}" if missing else _repeated(names)


def _repeated(names: Sequence[str]) -> str | None:
    twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
    return None if twice is None else f"{twice} twice"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
