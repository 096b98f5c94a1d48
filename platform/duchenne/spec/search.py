"""The search section: which dotted paths vary, how values are drawn, when a trial stops early, what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag, model_validator
from pydantic_core import PydanticCustomError

from duchenne.spec.grids import GRIDS, MAX_CANDIDATES, Orders, Smoothing, order_choice, smoothing_choice
from duchenne.spec.population import Population
from duchenne.spec.sections import Seed
from duchenne_jobs.config import Config
from duchenne_jobs.config.base import PositiveFloat

MAX_TRIALS = 1_000_000
MAX_DIMENSIONS = 256
Candidates = Annotated[tuple[JsonValue, ...], Field(min_length=1, max_length=MAX_CANDIDATES)]

MetricName = Literal["f1_macro", "f1_micro", "auc_macro", "accuracy", "subset_accuracy", "log_loss"]
Mode = Literal["max", "min"]
RacingRule = Literal["test", "rank"]
Spending = Literal["pocock", "obrien_fleming"]
Algorithm = Literal["random", "grid", "optuna", "tpe", "gp", "cmaes", "pbt"]
RungUnit = Literal["epochs", "usd", "gpu_seconds", "worker_seconds"]


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
    """`choice`, `grid`, `uniform`, `loguniform`, `randint` or, as written, `orders`, `smoothing`; None for neither."""
    if isinstance(dimension, Config):
        return next((kind for kind, class_ in DIMENSIONS.items() if isinstance(dimension, class_)), None)
    if isinstance(dimension, Mapping):
        kinds = [kind for kind in (*DIMENSIONS, *GRIDS) if kind in dimension]
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
    | Annotated[RandInt, Tag("<randint>")]
    | Annotated[Choice, BeforeValidator(order_choice, json_schema_input_type=Orders), Tag("<orders>")]
    | Annotated[Choice, BeforeValidator(smoothing_choice, json_schema_input_type=Smoothing), Tag("<smoothing>")],
    Discriminator(
        _tag_of,
        custom_error_type="dimension_kind",
        custom_error_message="must have exactly one of choice, grid, uniform, loguniform, randint, orders, smoothing",
    ),
]


class Fifo(Config):
    """No early stopping: every trial runs all its epochs."""

    name: Literal["fifo"] = Field("fifo", description="No early stopping.")


class Asha(Config):
    """Asynchronous successive halving: at each rung only the best share of the trials goes on (Li et al. 2020)."""

    name: Literal["asha"] = Field("asha", description="Asynchronous successive halving.")
    rungs: RungUnit = Field(
        "epochs",
        description="What trials have had alike when they are compared. `epochs`: as many epochs; `usd`, "
        "`gpu_seconds`, `worker_seconds`: as much spent on each fold, so that a dear configuration gets fewer epochs.",
    )
    grace_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1, description="Epochs that every trial may run: the first rung. Other rungs lie no earlier."
    )
    grace: PositiveFloat | None = Field(
        None, description="The first rung in the unit of `rungs`, for one fold; null with `rungs: epochs`."
    )
    reduction_factor: Annotated[int, Field(ge=2, le=1000)] = Field(
        3, description="One trial in so many goes on; rungs are this factor apart."
    )

    @model_validator(mode="after")
    def _grace_in_the_unit(self) -> Self:
        if self.rungs == "epochs" and self.grace is not None:
            raise ValueError(
                f"`grace` belongs to rungs that are no epochs, but got grace={self.grace:g}; set grace_epochs, or "
                "rungs to usd"
            )
        if self.rungs != "epochs" and self.grace is None:
            raise ValueError(
                f"rungs {self.rungs} need `grace`, the first rung in that unit, but got none; add `grace:`, about what "
                "a few epochs of one fold cost"
            )
        return self


class MedianStopping(Config):
    """Stops a trial whose best metric is worse than the median of the others' running means (Golovin et al. 2017)."""

    name: Literal["median_stopping"] = Field("median_stopping", description="The median stopping rule.")
    grace_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1, description="Epochs that every trial may run; it is judged after each epoch from then on."
    )


class Racing(Config):
    """Fold racing: inner folds one after another, until the trial can't be the best any more, or seems not to be."""

    rule: RacingRule = Field(
        "test",
        description="`test`: a sequential paired test with a stated level. `rank`: after 1, f, f^2, ... folds only the "
        "best ceil(n / f) of n trials go on; saves more, and promises nothing.",
    )
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.05, description="At most this is the chance that the truly best trial is stopped."
    )
    spending: Spending = Field(
        "pocock",
        description="How alpha is spent over the folds (Lan and DeMets 1983). `pocock`: nearly evenly; "
        "`obrien_fleming`: late, when most folds have run.",
    )
    min_folds: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        2, description="Folds that every trial runs before it is tested."
    )
    wave: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1, description="Folds of a trial that run side by side between two tests; with `rank`, before the first ranks."
    )
    reduction_factor: Annotated[int, Field(ge=2, le=1000)] = Field(
        3, description="f of `rank`: one trial in so many goes on to so many times the folds."
    )

    @model_validator(mode="after")
    def _options_of_the_rule(self) -> Self:
        of_the_test = (self.alpha, self.spending, self.min_folds)
        if self.rule == "rank" and of_the_test != (0.05, "pocock", 2):
            raise ValueError(
                f"alpha, spending and min_folds belong to rule test, but got alpha={self.alpha:g}, "
                f"spending={self.spending}, min_folds={self.min_folds} with rule rank; remove them or set rule to test"
            )
        if self.rule == "test" and self.reduction_factor != 3:
            raise ValueError(
                f"reduction_factor belongs to rule rank, but got {self.reduction_factor} with rule test; remove it or "
                "set rule to rank"
            )
        return self


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
    algorithm: Algorithm = Field(
        "random",
        description="`random`: independent draws; `grid`: every combination; `optuna` or `tpe`: Parzen estimators; "
        "`gp`: a Gaussian process; `cmaes`: covariance matrix adaptation; `pbt`: a population whose schedules evolve.",
    )
    scheduler: Scheduler = Field(
        default_factory=Fifo,
        description="When a trial is stopped early: `fifo`, `asha` or `median_stopping`, by name or with parameters.",
    )
    racing: Racing | None = Field(
        None, description="Fold racing: `{}` or `{alpha: 0.05}`; null runs every fold of a trial, side by side."
    )
    metric: MetricName = Field(
        "f1_macro",
        description="What trials are compared by, on inner validation rows; log_loss is minimised, others maximised.",
    )
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = Field(
        None,
        description="Draws (`random`: for each point of the grids in the space; `pbt`: members of the population); "
        "null for `grid`, which counts itself.",
    )
    seed: Seed = Field(0, description="Seed of the draws.")
    cheap_first: Annotated[int, Field(ge=0, le=MAX_TRIALS)] = Field(
        0,
        description="So many of the first draws are run cheapest first, by epochs, active orders and sizes; 0 for "
        "none. They are the same draws, and those after them are as they were.",
    )
    warm_start: Annotated[tuple[str, ...], Field(max_length=100)] = Field(
        (),
        description="Earlier sweeps whose whole trials a learning algorithm begins with: their ids, or `board` for all "
        "of this sweep's board. Data, metric and whatever the space does not vary must be the same.",
    )
    population: Population = Field(default_factory=Population, description="Generations, for `algorithm: pbt`.")
    concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Trials at once; null lets the fold pool's size decide."
    )

    @property
    def mode(self) -> Mode:
        """The direction in which the metric improves."""
        return "min" if self.metric == "log_loss" else "max"


def rungs(scheduler: Fifo | Asha | MedianStopping, epochs: int) -> tuple[int, ...]:
    """The epochs (1-based, ascending, the last one always in) after which a trial reports and may be stopped.

    Rungs in another unit than epochs are known only once epochs were measured: of those the last epoch alone.
    """
    match scheduler:
        case Asha(rungs="epochs"):
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
