"""What a network is told of where to look: landmarks or face parsing, on which layers (Tallec 2023, 3.5)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.action_units import MULTI_PRIORS, prior_of, without_centres
from duchenne_jobs.config.base import Config, NonNegativeFloat, PositiveFloat, Probability

GuidanceKind = Literal["pattel", "head_to_prior", "soft_prior", "pal"]
PriorName = Literal["landmarks_mono", "landmarks_multi", "parsing"]
Names = tuple[Annotated[str, Field(min_length=1, max_length=256)], ...]
Layers = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]

PRIORS_OF_KIND: Final[dict[GuidanceKind, tuple[PriorName, ...]]] = {
    "pattel": ("landmarks_mono", "landmarks_multi"),
    "head_to_prior": ("landmarks_multi", "landmarks_mono", "parsing"),
    "soft_prior": ("parsing",),
    "pal": ("landmarks_mono",),
}

INFORMATIVE_CLASSES: Final = ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip")
"""Face-parsing classes that say something about expressions; with the rest as one, they are the F = 10 of 3.5.3."""

FACE_PRIOR: Final = "face"
"""Name of the mono-prior: all landmarks at once."""

OTHER_CLASS: Final = "other"
"""Every class of the parsing map that a term does not name, as one."""


class GuidanceTerm(Config):
    """One way of telling attention (or the encoder's channels) where to look."""

    kind: GuidanceKind = Field(
        description="`pattel`: mean of some heads (eq. 3.31, 3.32); `head_to_prior`: each head its own prior (3.33, "
        "3.34); `soft_prior`: face parsing added to the attention scores (3.35 to 3.37); `pal`: mean of some of the "
        "encoder's channels (Bonnard 2022)."
    )
    prior: PriorName = Field(
        description="`landmarks_mono`: all landmarks at once; `landmarks_multi`: the centres of each AU (table 3.2, "
        "eq. 3.30); `parsing`: the share of each class in a patch (3.5.3)."
    )
    layers: Literal["all", "first", "last"] | Layers = Field(
        "all", description="Cross-attention layers that are guided: all, first, last, or a list counted from 0."
    )
    weight: NonNegativeFloat | None = Field(
        None,
        description="Coefficient of the term in the loss, whose value is the mean over its layers (default 1); "
        "lambda_S of eq. 3.37 for `soft_prior` (default 0.1).",
    )
    fraction: Probability | None = Field(
        None, description="f: share of heads (pattel; default 0.25) or of channels (pal; default 0.5) that is guided."
    )
    sigma: PositiveFloat | None = Field(
        None, description="Width of a landmark prior, in cells of the attention's grid (eq. 3.30; default 1)."
    )
    heads: Annotated[tuple[Names, ...], Field(min_length=1)] | None = Field(
        None,
        description="M of head_to_prior and soft_prior: the prior's names for the first head, the second and so on "
        "([] leaves one free). Null: the first head takes the first prior, and so on (3.5.2). Names are AUs, `face` "
        "(landmarks_mono), or classes and `other`.",
    )
    classes: Annotated[Names, Field(min_length=1)] | None = Field(
        None,
        description="Face-parsing classes that are told apart, the rest being `other` (parsing; default: skin, brows, "
        "eyes, nose, mouth and lips, 3.5.3).",
    )
    attribution: Literal["gradient", "activation"] | None = Field(
        None,
        description="What pal compares with the prior: `gradient`: gradient of the outputs x channels, with a second "
        "backward pass (default; Bonnard 2022); `activation`: the channels themselves.",
    )

    @model_validator(mode="after")
    def _only_own_parameters(self) -> Self:
        owners: dict[str, tuple[str, ...]] = {
            "fraction": ("pattel", "pal"),
            "heads": ("head_to_prior", "soft_prior"),
            "attribution": ("pal",),
        }
        for parameter, kinds in owners.items():
            if getattr(self, parameter) is not None and self.kind not in kinds:
                raise ValueError(
                    f"`{parameter}` belongs to guidance {' or '.join(kinds)}, but kind is {self.kind!r}; "
                    f"remove {parameter} or change kind"
                )
        if self.kind == "pal" and self.layers != "all":
            raise ValueError(f"`layers` belongs to attention, but got {self.layers} with kind 'pal'; remove layers")
        return self

    @model_validator(mode="after")
    def _prior_fits(self) -> Self:
        if self.prior not in PRIORS_OF_KIND[self.kind]:
            known = PRIORS_OF_KIND[self.kind]
            raise ValueError(
                f"`prior` of {self.kind} must be {' or '.join(known)}, but got {self.prior}; write {known[0]}"
            )
        if self.sigma is not None and self.prior == "parsing":
            raise ValueError(f"`sigma` belongs to landmark priors, but got {self.sigma:g} with parsing; remove sigma")
        if self.classes is not None and self.prior != "parsing":
            raise ValueError(f"`classes` belongs to prior parsing, but prior is {self.prior!r}; remove classes")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        named = self.classes or ()
        if len(set(named)) != len(named) or OTHER_CLASS in named:
            raise ValueError(
                f"`classes` must be distinct and without {OTHER_CLASS!r}, but got {', '.join(named)}; remove the rest"
            )
        unknown = [name for names in self.heads or () for name in names if not self._is_name(name)]
        if unknown:
            raise ValueError(
                f"`heads` must name priors of {self.prior} ({', '.join(self.names)}), but got {', '.join(unknown)}; "
                "write one of them, or [] for a free head"
            )
        many = [names for names in self.heads or () if len(names) > 1]
        if self.kind == "soft_prior" and many:
            raise ValueError(
                f"`heads` of soft_prior must name at most one class a head, but got {', '.join(many[0])}; keep one"
            )
        return self

    def _is_name(self, name: str) -> bool:
        return not without_centres([name]) if self.prior == "landmarks_multi" else name in self.names

    @property
    def column(self) -> Literal["landmarks", "parsing"]:
        """The column of the dataset that the prior is made of."""
        return "parsing" if self.prior == "parsing" else "landmarks"

    @property
    def parsing_classes(self) -> tuple[str, ...]:
        """The F - 1 classes that a parsing prior tells apart."""
        return self.classes or INFORMATIVE_CLASSES

    @property
    def names(self) -> tuple[str, ...]:
        """The P priors among which heads choose, in the order in which they take them by default."""
        if self.prior == "parsing":
            return (*self.parsing_classes, OTHER_CLASS)
        return MULTI_PRIORS if self.prior == "landmarks_multi" else (FACE_PRIOR,)

    @property
    def guided_fraction(self) -> float:
        """f of a pattel or pal: the best of table 3.3."""
        default = 0.25 if self.kind == "pattel" else 0.5
        return default if self.fraction is None else self.fraction

    @property
    def coefficient(self) -> float:
        """Of the term in the loss, or lambda_S: the best of table 3.5."""
        default = 0.1 if self.kind == "soft_prior" else 1.0
        return default if self.weight is None else self.weight

    def assigned(self, heads: int) -> tuple[tuple[int, ...], ...]:
        """The priors of each of `heads` heads, as positions in `names`: M of eq. 3.33 and 3.36, row by row."""
        if self.heads is None:
            chosen: tuple[tuple[str, ...], ...] = tuple((name,) for name in self.names[:heads])
        else:
            own = prior_of if self.prior == "landmarks_multi" else str
            chosen = tuple(tuple(own(name) for name in names) for names in self.heads)
        rows = tuple(tuple(sorted({self.names.index(name) for name in names})) for names in chosen)
        return (*rows, *[()] * (heads - len(rows)))

    def on_layers(self, count: int) -> tuple[int, ...]:
        """The guided ones of `count` cross-attention layers; an index beyond them is left in."""
        if self.layers == "all":
            return tuple(range(count))
        if self.layers == "first":
            return (0,)
        return (count - 1,) if self.layers == "last" else tuple(dict.fromkeys(self.layers))
