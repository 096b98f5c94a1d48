"""Search types of their own: sets of orders, and grids of label smoothing.

Each is written as lists of fields and is read as a `choice` of whole sections: every combination that makes sense.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from duchenne_jobs.config import Config

MAX_CANDIDATES = 10_000
Source = Literal["random", "blocks", "file", "all", "identity"]
SmoothingName = Literal["none", "ls", "vls", "vals", "rhls"]
Mixing = Literal["uniform", "published", "dependent", "ignore"]
Names = tuple[str, ...]


def _as_list(value: object) -> object:
    """`source: random` is short for `source: [random]`."""
    if isinstance(value, (str, int, float)) or value is None:
        return (value,)
    return tuple(value) if isinstance(value, list) else value


_Listed = (BeforeValidator(_as_list), Field(min_length=1, max_length=1000))
Wholes = Annotated[tuple[int, ...], *_Listed]
Actives = Annotated[tuple[int | None, ...], *_Listed]
Reals = Annotated[tuple[float, ...], *_Listed]
Sources = Annotated[tuple[Source, ...], *_Listed]
SmoothingNames = Annotated[tuple[SmoothingName, ...], *_Listed]
Mixings = Annotated[tuple[Mixing, ...], *_Listed]


class OrderSets(Config):
    """Order sets of MONET: every combination with no more active orders than the set has."""

    count: Wholes = Field((32,), description="M: orders to draw (sources `random` and `blocks`).")
    active: Actives = Field(
        (None,), description="k: orders kept a training step; null keeps all. Those above M are left out."
    )
    source: Sources = Field(("random",), description="Where the orders come from; see `model.orders.source`.")
    seed: Wholes = Field((0,), description="Seeds of drawn sets: the same M and k with other orders.")
    warmup_epochs: Wholes = Field((0,), description="Epochs in which the mixture stays uniform.")
    learning_rate: Reals = Field((5e-3,), description="Learning rates of the mixture.")
    selection: Literal["soft", "uniform", "hard", "xmonet"] = Field("soft", description="Of every set.")
    blocks: tuple[Names, ...] = Field((), description="Partition of the tasks, for source `blocks`.")
    file: str | None = Field(None, description="File of orders, for source `file`.")

    @model_validator(mode="after")
    def _sources_have_what_they_need(self) -> Self:
        for source, given in (("blocks", bool(self.blocks)), ("file", self.file is not None)):
            if (source in self.source) != given:
                raise ValueError(
                    f"source {source} and `{source}` go together, but got {'the latter' if given else 'the former'} "
                    f"alone; {'add it to source' if given else f'add `{source}:`'}"
                )
        return self

    def sections(self) -> Iterator[dict[str, JsonValue]]:
        """Each as `model.orders` takes it, with the fields that belong to its source."""
        seen = set()
        for source, count, seed in product(self.source, self.count, self.seed):
            drawn = source in ("random", "blocks")
            place: dict[str, JsonValue] = {"source": source}
            if drawn:
                place |= {"count": count, "seed": seed}
            if source == "blocks":
                place["blocks"] = [list(block) for block in self.blocks]
            if source == "file":
                place["file"] = self.file
            for active, warmup, rate in product(self.active, self.warmup_epochs, self.learning_rate):
                if drawn and active is not None and active > count:
                    continue
                key = (source, *((count, seed) if drawn else ()), active, warmup, rate)
                if key not in seen:
                    seen.add(key)
                    yield place | {
                        "active": active,
                        "warmup_epochs": warmup,
                        "learning_rate": rate,
                        "selection": self.selection,
                    }


class SmoothingGrid(Config):
    """Label smoothing: each method with every combination of its own parameters."""

    name: SmoothingNames = Field(("none", "rhls"), description="Methods; see `loss.smoothing.name`.")
    alpha: Reals = Field((0.1,), description="For ls and vls.")
    alpha_positive: Reals = Field((0.0,), description="For vals.")
    alpha_negative: Reals = Field((0.5,), description="For vals.")
    beta: Reals = Field((0.25,), description="For rhls.")
    mixing: Mixings = Field(("uniform",), description="For those methods that take it; see `loss.smoothing.mixing`.")

    def sections(self) -> Iterator[dict[str, JsonValue]]:
        """Each as `loss.smoothing` takes it, with the parameters that belong to its method."""
        own: Mapping[str, Mapping[str, tuple[float, ...]]] = {
            "none": {},
            "ls": {"alpha": self.alpha},
            "vls": {"alpha": self.alpha},
            "vals": {"alpha_positive": self.alpha_positive, "alpha_negative": self.alpha_negative},
            "rhls": {"beta": self.beta},
        }
        for name in self.name:
            mixings = ("uniform",) if name == "none" else self.mixing
            for mixing, *values in product(mixings, *own[name].values()):
                if mixing == "published" and name not in ("vals", "rhls"):
                    continue
                yield {"name": name, "mixing": mixing, **dict(zip(own[name], values, strict=True))}


class Orders(Config):
    """A choice of order sets, for the path `model.orders`."""

    orders: OrderSets = Field(description="Lists of fields of `model.orders`; every combination that makes sense.")


class Smoothing(Config):
    """A choice of smoothings, for the path `loss.smoothing`."""

    smoothing: SmoothingGrid = Field(description="Lists of fields of `loss.smoothing`; every combination of a method.")


GRIDS: dict[str, type[Orders | Smoothing]] = {"orders": Orders, "smoothing": Smoothing}
"""The word that such a dimension is written with -> its model."""


def order_choice(value: Any) -> Any:
    """`{orders: {...}}` as `{choice: [...]}`.

    Raises:
        pydantic.ValidationError: a field of it is wrong; its place in it is kept.
    """
    written = Orders.model_validate_json(json.dumps(value), strict=True)
    return _choice(written.orders.sections(), "active <= count in one combination", "lower active")


def smoothing_choice(value: Any) -> Any:
    """`{smoothing: {...}}` as `{choice: [...]}`; raises as `order_choice`."""
    written = Smoothing.model_validate_json(json.dumps(value), strict=True)
    return _choice(written.smoothing.sections(), "a mixing that one of its methods takes", "add mixing uniform")


def _choice(sections: Iterator[dict[str, JsonValue]], rule: str, hint: str) -> dict[str, object]:
    listed = tuple(islice(sections, MAX_CANDIDATES + 1))  # one too many is refused as such
    if not listed:
        raise ValueError(f"a grid needs {rule}, but got none; {hint}")
    return {"choice": listed}
