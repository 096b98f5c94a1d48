"""The training loss: smoothing of the targets and the terms of a task."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.base import Config, NonNegativeFloat, Probability


class SmoothingConfig(Config):
    """Label smoothing (Tallec 2023, chapter 4). The conditioning labels of a recurrence stay hard."""

    name: Literal["none", "ls", "vls", "vals", "rhls"] = Field(
        "none",
        description="`ls`/`vls`: eq. 4.4/4.6 with `alpha`; `vals`: eq. 4.10 with `alpha_positive`, `alpha_negative`; "
        "`rhls`: eq. 4.11 and 4.12 with `beta`.",
    )
    alpha: Probability | None = Field(
        None, description="Probability that a label becomes uniform (ls, vls; default 0.1)."
    )
    alpha_positive: Probability | None = Field(None, description="The same for positive labels (vals; default 0).")
    alpha_negative: Probability | None = Field(None, description="The same for negative labels (vals; default 0.5).")
    beta: Probability | None = Field(
        None, description="Share of the majority's surplus that is smoothed (rhls; default 0.25)."
    )
    mixing: Literal["uniform", "published", "dependent", "ignore"] = Field(
        "uniform",
        description="What becomes of a label with that probability. `uniform`: a uniform one; `published`: the other "
        "one, as eq. 4.10 and 4.12 are printed (vals, rhls); `dependent`: what the row's other labels allow (4.5.2); "
        "`ignore`: its term is left out, drawn anew each epoch (the ablation of 4.5.2).",
    )

    @model_validator(mode="after")
    def _only_own_parameters(self) -> Self:
        owners = {"alpha": ("ls", "vls"), "alpha_positive": ("vals",), "alpha_negative": ("vals",), "beta": ("rhls",)}
        for parameter, names in owners.items():
            if getattr(self, parameter) is not None and self.name not in names:
                raise ValueError(
                    f"`{parameter}` belongs to smoothing {' or '.join(names)}, but name is {self.name!r}; "
                    f"set name to {names[0]!r} or remove {parameter}"
                )
        if self.name == "none" and self.mixing != "uniform":
            raise ValueError(
                f"mixing {self.mixing!r} needs a smoothing whose labels it mixes, but name is 'none'; "
                "set name to 'rhls' or remove mixing"
            )
        if self.name in ("ls", "vls") and self.mixing == "published":
            raise ValueError(
                f"mixing 'published' belongs to smoothing vals or rhls, but name is {self.name!r}; "
                "set name to 'vals' or remove mixing"
            )
        return self


class LossConfig(Config):
    """Binary cross-entropy, and what is added to it."""

    smoothing: SmoothingConfig = Field(default_factory=SmoothingConfig, description="Label smoothing of the targets.")
    task_weights: Literal["none", "inverse_frequency"] = Field(
        "none",
        description="`inverse_frequency`: the frequency-weighted BCE, w^t proportional to 1 / f^t with mean 1 (eq. "
        "2.39, 4.4.2).",
    )
    dice: NonNegativeFloat = Field(0.0, description="Coefficient of the Dice term (eq. 2.40); 0 leaves it out.")
