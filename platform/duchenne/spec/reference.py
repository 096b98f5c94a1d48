"""The reference page of the sweep file, from the models: `python -m duchenne.spec.reference > docs/spec.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from duchenne.spec.schema import sweep_schema

_HEAD = """\
# The sweep file

One YAML file describes one sweep: data, model, loss, training, search, folds, budget. This page is generated from the
models in `platform/duchenne/spec` and `jobs/duchenne_jobs/config`
(`python -m duchenne.spec.reference > docs/spec.md`); a test keeps it current. `jobs/sweeps/quickstart.yaml` is a whole
example. Start a file with

    # yaml-language-server: $schema=../../platform/duchenne/spec/sweep.schema.json

(the path is relative to the file) and an editor with a YAML language server completes and explains every field.

`duchenne validate S.yaml` prints one line an error, `S.yaml:LINE: path.to.field: rule broken, got value, what to do`,
for all errors at once. A plain `5e-4` is a number, `yes`/`no`/`on`/`off` are booleans (quote them where a text is
meant), tags and merge keys are refused, aliases are allowed within 100,000 values. A file has at most 1 MiB of UTF-8.
Relative paths (`data.uri`, `data.protocol`) start where `duchenne` is run, not where the file lies.
"""

_TAIL = """\
## The search space

`search.space` maps a dotted path below `model`, `loss` or `training` to one of

| dimension | draws | on fields that hold |
|---|---|---|
| `{choice: [a, b]}` | one of the values, each equally likely | anything; on a section, whole mappings that replace it |
| `{grid: [a, b]}` | every value in turn, crossed with the other grids | anything |
| `{uniform: [low, high]}` | a real number, low < high | real numbers |
| `{loguniform: [low, high]}` | a real number with uniform logarithm, 0 < low < high | real numbers |
| `{randint: [low, high]}` | a whole number in low..high-1 | whole numbers |
| `{orders: {count: [8, 32], active: [null, 16], seed: [0, 1]}}` | one of the order sets | `model.orders` |
| `{smoothing: {name: [none, rhls], beta: [0.1, 0.25]}}` | one of the smoothings | `loss.smoothing` |

The last two are short for a `choice` of whole sections, and are recorded as one. `orders` lists every combination of
`count`, `active`, `source` (`random`, `blocks` with its `blocks`, `file` with its `file`, `all`, `identity`), `seed`,
`warmup_epochs` and `learning_rate`, without those that have more active orders than orders; `selection` holds for all.
`smoothing` lists each method with every combination of its own parameters. A field that is left out has its default,
and a single value is short for a list of one.

Each listed value and both ends of each range must fit their field, and the values must go together in every
combination (no more `active` orders than `count`, say). Of two paths, none may lie within the other.

How many trials and fold jobs that makes (`duchenne plan`):

- `algorithm: grid`: every dimension is `grid` or `choice`; trials = the product of their lengths, and `trials` is left
  out or equal to it.
- `algorithm: random`: `trials` draws for each point of the crossed `grid` dimensions.
- `algorithm: optuna` (or `tpe`), `gp`, `cmaes`: `trials` draws; no `grid`, and for `cmaes` one range at least.
- `algorithm: pbt`: `trials` members times generations, each of `population.generation_epochs` epochs; the space holds
  `training.learning_rate`, `training.decay` and `training.weight_decay` alone.
- no space: one trial, the base configuration.
- search jobs = trials x `folds.count` x `folds.inner`. Evaluation jobs = `folds.count` x ((1 + neural comparators) x
  seeds + scikit-learn comparators); the latter run with the first seed only.

`scheduler: asha` judges a trial after `grace_epochs`, and after each further factor of `reduction_factor`, up to its
last epoch, or where each of its folds has spent `grace`, and so on, in the unit of `rungs`; `median_stopping` after
every epoch from `grace_epochs` on; `fifo` never stops one early.

## To add a field

1. Add it to its section: what a trial may vary to `jobs/duchenne_jobs/config`, all else to
   `platform/duchenne/spec/sections.py` or `search.py`. Give it a type with bounds, a default, and a description that
   states its unit. It becomes a dotted path of the search space by itself.
2. A rule over two fields of one section is a `model_validator` of that section; a rule over several sections is a
   function in `platform/duchenne/spec/rules.py` with the paths that it reads. Word the former
   `rule, but got value; what to do`.
3. Regenerate `sweep.schema.json` (`python -m duchenne.spec.schema`) and this page, and add a refusal to
   `tests/platform/spec`.
4. Use it: a field that nothing reads is worse than none.
"""


def reference_text() -> str:
    """The whole page, in Markdown."""
    schema = sweep_schema()
    return "\n".join([_HEAD, *_sections(schema), _TAIL]).rstrip("\n") + "\n"


def _sections(schema: dict[str, Any]) -> Iterator[str]:
    """One table a section, in the order in which a reader of the file meets them."""
    seen: set[str] = set()
    queue: list[tuple[str, dict[str, Any]]] = [("The file", schema)]
    while queue:
        title, section = queue.pop(0)
        yield _table(title, section)
        inner = []
        for name, field in section["properties"].items():
            if "title" not in section or name != "space":  # its dimensions have a table of their own
                for reference in _references(field):
                    if reference not in seen:
                        seen.add(reference)
                        path = name if title == "The file" else f"{title.strip('`').partition(':')[0]}.{name}"
                        inner.append((_title(path, schema["$defs"][reference]), schema["$defs"][reference]))
        queue = inner + queue


def _title(path: str, section: dict[str, Any]) -> str:
    name = section["properties"].get("name", {}).get("const")
    return f"`{path}`: {name}" if name else f"`{path}`"


def _references(field: dict[str, Any]) -> list[str]:
    own = [field["$ref"].rsplit("/", 1)[-1]] if "$ref" in field else []
    nested = [part for key in ("anyOf", "oneOf") for part in field.get(key, [])]
    nested += [field["items"]] if "items" in field else []
    return own + [reference for part in nested for reference in _references(part)]


def _table(title: str, section: dict[str, Any]) -> str:
    required = set(section.get("required", []))
    lines = [f"## {title}", "", section.get("description", "").split("\n\n")[0].replace("\n", " "), ""]
    lines += ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name, field in section["properties"].items():
        cells = (f"`{name}`", _value(field), _default(name, field, required), field.get("description", ""))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _default(name: str, field: dict[str, Any], required: set[str]) -> str:
    if name in required:
        return "required"
    if "default" in field:
        return f"`{json.dumps(field['default'])}`"
    return "see below" if _references(field) else "empty"


def _value(field: dict[str, Any]) -> str:
    """The type of a field with its bounds, in words."""
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(_value(part) for part in field[key]))
    if "$ref" in field:
        return "section"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = field.get("type")
    if kind == "array" and "prefixItems" in field:
        return f"[{', '.join(_value(item) for item in field['prefixItems'])}]"
    if kind == "array":
        return f"list of {_value(field['items']).replace('whole number', 'whole numbers')}"
    names = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": "text", "null": "null"}
    return names.get(kind or "", "mapping") + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {_amount(field[key])}" for key, sign in signs.items() if key in field]
    return f" {', '.join(bounds)}" if bounds else ""


def _amount(bound: float) -> str:
    return f"{bound:,.0f}" if bound == int(bound) else f"{bound:g}"


if __name__ == "__main__":
    sys.stdout.write(reference_text())
