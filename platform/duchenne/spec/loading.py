"""A sweep file to a `Sweep`, or to every error in it at once, each with its line."""

from __future__ import annotations

import os
from typing import Any

from duchenne.spec.datasets import file_faults
from duchenne.spec.errors import WHOLE_DOCUMENT, Problem, SpecError, dotted
from duchenne.spec.located import located, read_text
from duchenne.spec.partial import validated
from duchenne.spec.prices import priced
from duchenne.spec.reading import Node, read_yaml
from duchenne.spec.sweep import Sweep


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """The sweep that a YAML file describes.

    Raises SpecError with every problem of the file, each with its line. A dataset that is not there yet is none: see
    `duchenne.spec.notes`.
    """
    return load_sweep_text(read_text(path), os.fspath(path))


def load_sweep_text(text: str, name: str = "sweep.yaml") -> Sweep:
    """Like `load_sweep`, for text that is there already; `name` stands for the file in messages."""
    document = read_yaml(text)
    problems = [Problem(line, dotted(f.path), f.rule, f.value, f.hint) for line, f in document.faults]
    root = document.root
    if root is None or not isinstance(root.value, dict):
        if not problems:
            problems = [_no_mapping(root)]
        raise SpecError(name, problems)
    data: dict[str, Any] = {key: node.plain() for key, node in root.value.items()}
    sweep, faults = validated(data, document.lost)
    if sweep is not None:
        sweep, faults = priced(sweep)
        faults += file_faults(sweep)
    problems += [located(fault, root) for fault in faults]
    if sweep is None or problems:
        raise SpecError(name, problems)
    return sweep


def _no_mapping(root: Node | None) -> Problem:
    if root is None or root.value is None:
        return Problem(1, WHOLE_DOCUMENT, "must describe a sweep", "an empty file", "start from jobs/sweeps/toy.yaml")
    seen = "a list" if isinstance(root.value, list) else root.text
    hint = "write `apiVersion: duchenne/v1` and the other sections"
    return Problem(root.line, WHOLE_DOCUMENT, "must be a mapping", seen, hint)
