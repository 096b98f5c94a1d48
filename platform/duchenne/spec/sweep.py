"""The sweep: what one YAML file says, as one frozen model."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from duchenne.spec.comparators import Comparator, ComparatorItem
from duchenne.spec.notify import NoticeItem, WebhookName, distinct_webhooks, notices_by_name
from duchenne.spec.rules import check
from duchenne.spec.search import SearchSection
from duchenne.spec.sections import (
    BudgetSection,
    CheckpointsSection,
    DataSection,
    FoldsSection,
    Metadata,
    Prices,
    Seed,
    Slug,
    split_uri,
)
from duchenne_jobs.config import Config, LossConfig, ModelConfig, RunConfig, TrainingConfig

API_VERSION = "duchenne/v1"
MAX_SEEDS = 1000


def _seeds_by_count(value: object) -> object:
    """`seeds: 3` is short for `seeds: [0, 1, 2]`."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_SEEDS:
            raise ValueError(f"a number of seeds must lie in 1..{MAX_SEEDS}, but got {value}; write another, or a list")
        return tuple(range(value))
    return tuple(value) if isinstance(value, list) else value


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    _refuse_repetition([str(value) for value in values])
    return values


def _distinctly_named(comparators: tuple[Comparator, ...]) -> tuple[Comparator, ...]:
    _refuse_repetition([comparator.name for comparator in comparators])
    return comparators


def _refuse_repetition(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"values must be distinct, but got {', '.join(twice)} more than once; remove the repetition")


class Sweep(Config):
    """One sweep: a search, the selected configuration's evaluation on sealed folds, and its comparators."""

    model_config = ConfigDict(serialize_by_alias=True)

    api_version: Literal["duchenne/v1"] = Field(alias="apiVersion", description="Version of this format.")
    kind: Literal["Sweep"] = Field(description="What the file describes.")
    metadata: Metadata = Field(description="Name, team and board.")
    data: DataSection = Field(description="Dataset and protocol.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The network; the search varies it.")
    loss: LossConfig = Field(default_factory=LossConfig, description="The training loss; the search varies it.")
    training: TrainingConfig = Field(
        default_factory=TrainingConfig, description="The optimisation; the search varies it."
    )
    search: SearchSection = Field(default_factory=SearchSection, description="What is searched, and how.")
    comparators: Annotated[tuple[ComparatorItem, ...], AfterValidator(_distinctly_named)] = Field(
        (),
        description="What gets an entry of its own on the same outer folds: methods by name (networks take the "
        "selected configuration's encoder, loss and training; scikit-learn's take none), and named variants of the "
        "selected configuration.",
    )
    folds: FoldsSection = Field(default_factory=FoldsSection, description="Nested folds and what a fold job holds.")
    seeds: Annotated[
        tuple[Seed, ...],
        Field(min_length=1, max_length=MAX_SEEDS),
        AfterValidator(_distinct),
        BeforeValidator(
            _seeds_by_count,
            json_schema_input_type=Annotated[int, Field(ge=1, le=MAX_SEEDS)]
            | Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)],
        ),
    ] = Field((0, 1, 2), description="Seeds of the evaluation on the test folds: a list, or how many (3: 0, 1, 2).")
    budget: BudgetSection = Field(description="What may be spent at most.")
    prices: Prices = Field(default_factory=Prices, description="What an hour costs.")
    checkpoints: CheckpointsSection | None = Field(
        None,
        description="Where fold jobs keep what they resume from; null keeps it in the home.",
        exclude_if=lambda place: place is None,
    )
    cluster: Slug = Field("local", description="Where it runs: `local`, or a cluster of the user's configuration.")
    # Left out of what is recorded where it is empty, so that the digest of a sweep without it is what it always was.
    notify: Annotated[
        tuple[NoticeItem, ...],
        Field(max_length=10),
        AfterValidator(distinct_webhooks),
        BeforeValidator(notices_by_name, json_schema_input_type=WebhookName | tuple[NoticeItem, ...]),
    ] = Field((), description="Webhooks that are told how it ends, by name.", exclude_if=lambda notices: not notices)

    @model_validator(mode="after")
    def _rules_across_sections(self, info: ValidationInfo) -> Self:
        if not (info.context or {}).get("draft"):
            faults = check(self)
            if faults:
                raise ValueError("; ".join(fault.located for fault in faults))
        return self

    @property
    def base(self) -> RunConfig:
        """The configuration that the search starts from."""
        return RunConfig(model=self.model, loss=self.loss, training=self.training)

    @property
    def board(self) -> str:
        """The leaderboard of this sweep's entries: `metadata.board`, else the dataset's name as a slug."""
        if self.metadata.board is not None:
            return self.metadata.board
        path = split_uri(self.data.uri)[1].split("?", 1)[0].rstrip("/")
        slug = re.sub(r"[^a-z0-9]+", "-", path.rsplit("/", 1)[-1].lower()).strip("-")[:40].strip("-")
        return slug or "default"
