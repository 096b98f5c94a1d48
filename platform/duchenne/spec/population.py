"""Population-based training as a section of the sweep: generations, and which fields a schedule may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import Field, model_validator

from duchenne_jobs.config import Config
from duchenne_jobs.config.base import PositiveFloat

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

SCHEDULE_PATH: Final = "training.schedule"
SCHEDULED_PATHS: Final = ("training.learning_rate", "training.decay", "training.weight_decay")
"""What may change while a network trains; all else is part of the network or of its data."""

MIN_POPULATION: Final = 4


class Population(Config):
    """How `algorithm: pbt` goes on from generation to generation (Jaderberg et al. 2017)."""

    generation_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        5, description="Epochs of a generation: after each, the worst members copy the best and change their schedule."
    )
    quantile: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        0.25, description="Share of the population that is replaced by copies of as many of the best."
    )
    factors: Annotated[tuple[PositiveFloat, ...], Field(min_length=2, max_length=100)] = Field(
        (0.8, 1.25), description="What a copied quantity is multiplied by, one of them at random."
    )

    @model_validator(mode="after")
    def _both_ways(self) -> Self:
        if not min(self.factors) < 1.0 < max(self.factors):
            raise ValueError(
                f"`factors` must lead up and down, but got {', '.join(f'{factor:g}' for factor in self.factors)}; add "
                "one below 1 and one above"
            )
        return self


def scheduled_field(path: str) -> str:
    """The field of a change of schedule that sets what `path` names."""
    return path.rsplit(".", 1)[-1]


def generation_ends(sweep: Sweep) -> tuple[int, ...]:
    """The epochs after which generations end; the last one is the trial's own."""
    step, epochs = sweep.search.population.generation_epochs, sweep.training.epochs
    return (*range(step, epochs, step), epochs)
