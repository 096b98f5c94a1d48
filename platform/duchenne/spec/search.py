"""The search section: which dotted paths vary, how values are drawn, when a trial stops early, what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag
from pydantic_core import PydanticCustomError

from duchenne.spec.sections import Seed
from duchenne_jobs.config import Config

MAX_TRIALS = 1_000_000
MAX_CANDIDATES = 10_000
MAX_DIMENSIONS = 256
Candidates = Annotated[tuple[JsonValue, ...], Field(min_length=1, max_length=MAX_CANDIDATES)]

MetricName = Literal["f1_macro", "f1_micro", "auc_macro", "accuracy", "subset_accuracy", "log_loss"]
Mode = Literal["max", "min"]


class Choice(Config):
    """One of the listed values, each equally likely. Values may be mappings where the path is a section."""

    choice: Candidates = Field(description="Values to draw from.")


class Grid(Config):
    """Every listed value in turn, crossed with the other grids."""

    grid: Candidates = Field(description="Values to go through.")


class Uniform(Config):
    """A real number, uniform between two bounds."""

    uniform: tuple[float, float] = Field(description="[low, high], in the field's unit.")


class LogUniform(Config):
    """A real number whose logarithm is uniform between two bounds above 0."""

    loguniform: tuple[float, float] = Field(description="[low, high], in the field's unit; low > 0.")


class RandInt(Config):
    """A whole number, uniform from low up to but not including high."""

    randint: tuple[int, int] = Field(description="[low, high), in the field's unit.")


DIMENSIONS: dict[str, type[Choice | Grid | Uniform | LogUniform | RandInt]] = {
    "choice": Choice,
    "grid": Grid,
    "uniform": Uniform,
    "loguniform": LogUniform,
    "randint": RandInt,
}


def kind_of(dimension: object) -> str | None:
    """`choice`, `grid`, `uniform`, `loguniform` or `randint`; None for what is no dimension."""
    if isinstance(dimension, Config):
        return next((kind for kind, class_ in DIMENSIONS.items() if isinstance(dimension, class_)), None)
    if isinstance(dimension, Mapping):
        kinds = [kind for kind in DIMENSIONS if kind in dimension]
        return kinds[0] if len(kinds) == 1 else None
    return None


def _tag_of(dimension: object) -> str | None:
    """The union's tag, which pydantic puts into an error's location; in brackets, so that it is no key of the file."""
    kind = kind_of(dimension)
    return None if kind is None else f"<{kind}>"


Dimension = Annotated[
    Annotated[Choice, Tag("<choice>")]
    | Annotated[Grid, Tag("<grid>")]
    | Annotated[Uniform, Tag("<uniform>")]
    | Annotated[LogUniform, Tag("<loguniform>")]
    | Annotated[RandInt, Tag("<randint>")],
    Discriminator(
        _tag_of,
        custom_error_type="dimension_kind",
        custom_error_message="must have exactly one of choice, grid, uniform, loguniform, randint",
    ),
]


class Fifo(Config):
    """No early stopping: every trial runs all its epochs."""

    name: Literal["fifo"] = Field("fifo", description="No early stopping.")


class Asha(Config):
    """Asynchronous successive halving: at each rung only the best share of the trials goes on (Li et al. 2020)."""

    name: Literal["asha"] = Field("asha", description="Asynchronous successive halving.")
    grace_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1, description="Epochs that every trial may run: the first rung."
    )
    reduction_factor: Annotated[int, Field(ge=2, le=1000)] = Field(
        3, description="One trial in so many goes on; rungs are this factor apart in epochs."
    )


class MedianStopping(Config):
    """Stops a trial whose best metric is worse than the median of the others' running means (Golovin et al. 2017)."""

    name: Literal["median_stopping"] = Field("median_stopping", description="The median stopping rule.")
    grace_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1, description="Epochs that every trial may run; it is judged after each epoch from then on."
    )


SCHEDULERS: dict[str, type[Fifo | Asha | MedianStopping]] = {
    "fifo": Fifo,
    "asha": Asha,
    "median_stopping": MedianStopping,
}


def _scheduler_by_name(value: object) -> object:
    """`scheduler: asha` is short for `scheduler: {name: asha}`."""
    if not isinstance(value, str):
        return value
    if value not in SCHEDULERS:
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": ", ".join(SCHEDULERS)})
    return {"name": value}


Scheduler = Annotated[
    Annotated[Fifo | Asha | MedianStopping, Discriminator("name")],
    BeforeValidator(
        _scheduler_by_name,
        json_schema_input_type=Literal["fifo", "asha", "median_stopping"]
        | Annotated[Fifo | Asha | MedianStopping, Discriminator("name")],
    ),
]


class SearchSection(Config):
    """The search over configurations. Without a space, the base configuration is the only trial."""

    space: dict[str, Dimension] = Field(
        default_factory=dict,
        max_length=MAX_DIMENSIONS,
        description="Dotted path below `model`, `loss` or `training` -> how its value is drawn, for instance "
        "`model.orders.count: {choice: [16, 64]}`. The path of a section takes whole mappings, "
        "which replace the section.",
    )
    algorithm: Literal["random", "grid", "optuna"] = Field(
        "random",
        description="`random`: independent draws; `grid`: every combination; `optuna`: Parzen estimators (TPE).",
    )
    scheduler: Scheduler = Field(
        default_factory=Fifo,
        description="When a trial is stopped early: `fifo`, `asha` or `median_stopping`, by name or with parameters.",
    )
    metric: MetricName = Field(
        "f1_macro",
        description="What trials are compared by, on inner validation rows; log_loss is minimised, others maximised.",
    )
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = Field(
        None,
        description="Draws (`random`: for each point of the grids in the space); null for `grid`, which counts itself.",
    )
    seed: Seed = Field(0, description="Seed of the draws.")
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Trials at once; null lets the fold pool's size decide."
    )

    @property
    def mode(self) -> Mode:
        """The direction in which the metric improves."""
        return "min" if self.metric == "log_loss" else "max"


def rungs(scheduler: Fifo | Asha | MedianStopping, epochs: int) -> tuple[int, ...]:
    """The epochs (1-based, ascending, the last one always in) after which a trial reports and may be stopped."""
    match scheduler:
        case Asha():
            steps = []
            rung = scheduler.grace_epochs
            while rung < epochs:
                steps.append(rung)
                rung *= scheduler.reduction_factor
            return (*steps, epochs)
        case MedianStopping():
            return (*range(scheduler.grace_epochs, epochs), epochs)
        case _:
            return (epochs,)
