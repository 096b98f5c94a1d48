"""What the selected configuration is measured against: other methods, and variants of itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from duchenne_jobs.config import BASELINE_NAMES, MODEL_NAMES, Config

COMPARATOR_NAMES: tuple[str, ...] = (*MODEL_NAMES, *BASELINE_NAMES)


_NAME_PATTERN = r"^[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"


def _checked_name(name: str) -> str:
    if len(name) > 40 or not re.fullmatch(_NAME_PATTERN, name):
        raise ValueError(
            "a name must be at most 40 lower-case letters, digits, hyphens and underscores, "
            f"but got {name}; rename it, for instance `no-warmup`"
        )
    return name


class Comparator(Config):
    """A variant of the selected configuration, with an entry of its own on the same outer folds.

    A method's bare name (`mrnn`) stands for the selected encoder, loss and training with that model;
    scikit-learn's methods take no configuration.
    """

    name: Annotated[str, AfterValidator(_checked_name)] = Field(
        description="What the entry is called; no method's name.", json_schema_extra={"pattern": _NAME_PATTERN}
    )
    change: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Dotted paths below `model`, `loss` or `training` with the values that replace the selected ones.",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_name(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("name") in COMPARATOR_NAMES and value.get("change"):
            raise ValueError(
                f"a variant must have a name of its own, but got {value['name']}, which is a method; rename it"
            )
        if isinstance(value, dict) and not value.get("change") and value.get("name") not in COMPARATOR_NAMES:
            raise ValueError(
                f"a variant must change a field, but {value.get('name')!r} got none; add `change:` with a dotted path"
            )
        return value

    @model_serializer
    def _short_where_it_is(self) -> str | dict[str, object]:
        return {"name": self.name, "change": self.change} if self.change else self.name

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of scikit-learn's, which take no configuration and no seeds."""
        return self.name in BASELINE_NAMES

    @property
    def changes(self) -> dict[str, JsonValue]:
        """Dotted path -> value that makes the selected configuration this comparator's."""
        return {"model.name": self.name} if self.name in MODEL_NAMES else self.change


def _from_name(value: object) -> object:
    """`mrnn` is short for `{name: mrnn}`."""
    if not isinstance(value, str):
        return value
    if value not in COMPARATOR_NAMES:
        expected = ", ".join(f"'{name}'" for name in COMPARATOR_NAMES)
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return {"name": value}


ComparatorItem = Annotated[
    Comparator, BeforeValidator(_from_name, json_schema_input_type=Literal[COMPARATOR_NAMES] | Comparator)
]
