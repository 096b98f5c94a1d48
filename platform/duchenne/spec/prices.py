"""The price file: node types with their prices, which a user edits and nobody fetches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, ValidationError

from duchenne.spec.errors import WHOLE_FILE, Fault, SpecError
from duchenne.spec.located import load_model
from duchenne.spec.messages import broken_rules
from duchenne.spec.paths import nearest
from duchenne.spec.sections import NodeType, Price, Prices
from duchenne_jobs.config import Config

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep


def _checked_name(name: str) -> str:
    if len(name) > 100 or not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?", name):
        raise ValueError(
            f"a node type's name must be at most 100 letters, digits, dots, hyphens and underscores, but got {name}; "
            "rename it"
        )
    return name


NodeName = Annotated[str, AfterValidator(_checked_name)]


class PriceFile(Config):
    """What `prices.yaml` holds. Storage and egress are told by `plan`, and bounded by no budget."""

    nodes: Annotated[dict[NodeName, NodeType], Field(min_length=1)] = Field(description="Node types by name.")
    storage_usd_per_gib_month: Price | None = Field(None, description="US dollars a GiB stored for a month.")
    egress_usd_per_gib: Price | None = Field(None, description="US dollars a GiB that leaves the cloud.")


def load_prices(path: str) -> PriceFile:
    """The price file at `path`. Raises SpecError with every problem of it, each with its line."""
    return load_model(Path(path).expanduser(), PriceFile, "write `nodes:` and node types below it")


def priced(sweep: Sweep) -> tuple[Sweep, list[Fault]]:
    """The sweep with its node type's prices looked up, or why there are none.

    Raises:
        SpecError: the price file is there and wrong; its own lines say what.
    """
    prices = sweep.prices
    if prices.file is None or prices.node is None:
        return sweep, [] if prices.listed is None else _too_large(sweep, prices.listed)
    try:
        nodes = load_prices(prices.file).nodes
    except (SpecError, RuntimeError) as error:  # RuntimeError: `~name` of a user that there is not
        problems = error.problems if isinstance(error, SpecError) else ()
        if problems and problems[0].field != WHOLE_FILE:
            raise
        if prices.listed is not None:  # a recorded sweep, on a machine that never had the file
            return sweep, _too_large(sweep, prices.listed)
        rule = problems[0].rule if problems else "must exist"
        return sweep, [Fault(("prices", "file"), rule, prices.file, "see docs/budget.md for a price file")]
    if prices.node not in nodes:
        guess = nearest(prices.node, tuple(nodes))
        hint = f"did you mean `{guess}`?" if guess else f"name one of: {', '.join(nodes)}"
        return sweep, [Fault(("prices", "node"), f"must be a node type of {prices.file}", prices.node, hint)]
    node = nodes[prices.node]
    given = prices.model_dump(exclude={"listed"}) | {"listed": node.model_dump()}
    try:
        found = Prices.model_validate(given)
    except ValidationError as error:
        return sweep, [Fault(("prices", *f.path), f.rule, f.value, f.hint) for f in broken_rules(error, Prices, given)]
    return sweep.model_copy(update={"prices": found}), _too_large(sweep, node)


def _too_large(sweep: Sweep, node: NodeType) -> list[Fault]:
    """A worker lives on one node: what it holds must be there."""
    resources = sweep.folds.resources
    return [
        Fault(
            ("folds", "resources", name),
            f"a worker must fit its node, and {sweep.prices.node or 'prices.listed'} has {has:g} {name}",
            f"{needs:g}",
            "lower it or name a larger node type",
        )
        for name, needs, has in (("cpu", resources.cpu, node.cpu), ("gpu", resources.gpu, node.gpu))
        if needs > has
    ]
