"""pydantic's errors in this project's words: the rule, the value seen, the next action."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from duchenne.spec.errors import Fault, Path, one_line
from duchenne.spec.grids import GRIDS
from duchenne.spec.paths import nearest, unwrapped

_OWN_MESSAGE = re.compile(r"(?P<rule>.+?), but (?:got )?(?P<value>.+?); (?P<hint>.+)", re.DOTALL)
_CHOICES = re.compile(r"'([^']*)'")
_DEFAULT_HINT = "see docs/spec.md"
DIMENSION_KINDS = ("choice", "grid", "uniform", "loguniform", "randint", *GRIDS)

Wording = Callable[[Mapping[str, Any]], tuple[str, str]]

# Error type -> (rule, hint). The context holds the bound.
_WORDINGS: dict[str, Wording] = {
    "greater_than": lambda c: (f"must be > {c['gt']:g}", "raise it"),
    "greater_than_equal": lambda c: (f"must be >= {c['ge']:g}", "raise it"),
    "less_than": lambda c: (f"must be < {c['lt']:g}", "lower it"),
    "less_than_equal": lambda c: (f"must be <= {c['le']:g}", "lower it"),
    "finite_number": lambda c: ("must be finite", "write a finite number"),
    "int_type": lambda c: ("must be a whole number", "write digits only, without quotes"),
    "float_type": lambda c: ("must be a number", "write a number, without quotes"),
    "bool_type": lambda c: ("must be true or false", "write true or false, without quotes"),
    "string_type": lambda c: ("must be text", "put it in quotes"),
    "string_too_short": lambda c: ("must not be empty", "write a value"),
    "string_too_long": lambda c: (f"must have at most {c['max_length']} characters", "shorten it"),
    "string_pattern_mismatch": lambda c: (
        "must be lower-case letters, digits and hyphens, with a letter or digit at both ends",
        "rename it, for instance `my-sweep-1`",
    ),
    "list_type": lambda c: ("must be a list", "write [a, b]"),
    "tuple_type": lambda c: ("must be a list", "write [a, b]"),
    "dict_type": lambda c: ("must be a mapping", "write `key: value` lines below it"),
    "model_type": lambda c: ("must be a mapping", "write `field: value` lines below it"),
    "model_attributes_type": lambda c: ("must be a mapping", "write `field: value` lines below it"),
}


def broken_rules(error: ValidationError, root: type[BaseModel], data: object) -> list[Fault]:
    """Every error of a validation as a fault, with its path in `data` (pydantic's union tags left out)."""
    errors = error.errors(include_url=False)
    # A list whose only item is refused also counts as too short: that is an echo, not a second error.
    places = {details["loc"][:-1] for details in errors}
    echoes = [details["type"] == "too_short" and details["loc"] in places for details in errors]
    return [_fault(details, root, data) for details, echo in zip(errors, echoes, strict=True) if not echo]


def _fault(details: ErrorDetails, root: type[BaseModel], data: object) -> Fault:
    path = _in_data(details["loc"], data, keep_last=details["type"] == "missing")
    kind, context, seen = details["type"], details.get("ctx", {}), show(details["input"])
    if kind == "missing":
        return Fault(path, "required field is missing", None, _how_to_add(path))
    if kind == "extra_forbidden":
        return _unknown_field(path, _fields_at(root, details["loc"][:-1]))
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        return _one_of(path, expected, details["input"], context)
    if kind == "union_tag_not_found":
        return Fault((*path, "name"), "required field is missing", None, "name one: fifo, asha, median_stopping")
    if kind == "dimension_kind":
        return _dimension(path, details["input"])
    if kind == "value_error":
        return _own(path, str(context["error"]), seen)
    if kind == "too_short":
        at_least = context["min_length"]
        rule = "must not be empty" if at_least == 1 else f"must have at least {at_least} values"
        return Fault(path, rule, seen, "add a value" if at_least == 1 else "write [low, high]")
    if kind == "too_long":
        return Fault(path, f"must have at most {context['max_length']} values", seen, "remove some")
    if kind in _WORDINGS:
        rule, hint = _WORDINGS[kind](context)
        return Fault(path, rule, seen, hint)
    return Fault(path, details["msg"], seen, _DEFAULT_HINT)


def show(value: object) -> str:
    """A value as the message repeats it: text as it is, the rest as compact JSON, on one line."""
    return one_line(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str))


def _how_to_add(path: Path) -> str:
    field = path[-1] if path else ""
    examples = {
        "apiVersion": "add `apiVersion: duchenne/v1`",
        "kind": "add `kind: Sweep`",
        "metadata": "add `metadata: {name: my-sweep}`",
        "data": "add `data: {uri: builtin://yeast}`",
        "uri": "add `uri:` with a folder, s3:// or builtin:// dataset",
        "budget": "add `budget:` with usd, gpu_hours or wall_seconds",
        0: "write [low, high]",
        1: "write [low, high]",
    }
    return examples.get(field, f"add `{field}:`")


def _unknown_field(path: Path, known: Sequence[str]) -> Fault:
    word = str(path[-1])
    guess = nearest(word, known)
    listed = f"known fields here: {', '.join(known)}" if known else "remove it"
    hint = f"did you mean `{guess}`?" if guess else listed
    return Fault(path, "unknown field", word, hint)


def _one_of(path: Path, expected: str, value: object, context: Mapping[str, Any]) -> Fault:
    known = _CHOICES.findall(expected) or expected.split(", ")
    if "tag" in context:
        path, value = (*path, str(context.get("discriminator", "name")).strip("'")), context["tag"]
    guess = nearest(str(value), known)
    rule = f"must be {known[0]}" if len(known) == 1 else f"must be one of {', '.join(known)}"
    return Fault(path, rule, show(value), f"did you mean `{guess}`?" if guess else f"write {known[0]}, for instance")


def _dimension(path: Path, value: object) -> Fault:
    rule = f"must have exactly one of {', '.join(DIMENSION_KINDS)}"
    keys = [str(key) for key in value] if isinstance(value, dict) else []
    if sum(key in DIMENSION_KINDS for key in keys) > 1:
        return Fault(path, rule, " and ".join(keys), "keep one")
    guess = next((near for key in keys if (near := nearest(key, DIMENSION_KINDS))), None)
    hint = f"did you mean `{guess}`?" if guess else "write {choice: [a, b]}, for instance"
    return Fault(path, rule, show(value), hint)


def _own(path: Path, message: str, seen: str) -> Fault:
    """Our own validators say `rule, but got value; next action`."""
    match = _OWN_MESSAGE.fullmatch(message)
    if match is None:
        return Fault(path, message, seen, _DEFAULT_HINT)
    return Fault(path, match["rule"], match["value"], match["hint"])


def _in_data(location: Sequence[str | int], data: object, keep_last: bool) -> Path:
    """Pydantic's location without the union tags, which are not in the data; the last part may be a missing field."""
    path: list[str | int] = []
    for position, part in enumerate(location):
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data)
        )
        if inside:
            data = data[part]  # type: ignore[index]
            path.append(part)
        elif keep_last and position == len(location) - 1:
            path.append(part)
    return tuple(path)


def _fields_at(root: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The field names (aliases where there are some) of the section that a location names."""
    candidates: tuple[object, ...] = (root,)
    for part in location:
        candidates = tuple(inner for candidate in candidates for inner in _step(candidate, part))
    models = [candidate for candidate in candidates if _is_model(candidate)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]  # type: ignore[attr-defined]


def _is_model(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _step(candidate: object, part: str | int) -> tuple[object, ...]:
    """What may stand one step further down: a field's annotation, a mapping's values, or a union's tagged member."""
    if isinstance(part, str) and part.strip("<>") in GRIDS and part.startswith("<"):
        return (GRIDS[part.strip("<>")],)  # written so, and read as a choice
    if isinstance(candidate, type) and issubclass(candidate, BaseModel):
        for name, field in candidate.model_fields.items():
            if part in (name, field.alias):
                return unwrapped(field.annotation)
        name_field = candidate.model_fields.get("name")
        tags = {f"<{name}>" for name in candidate.model_fields} | {name_field.default if name_field else None}
        return (candidate,) if part in tags else ()
    arguments = [argument for argument in get_args(candidate) if argument is not Ellipsis]
    return unwrapped(arguments[-1]) if arguments else ()
