"""A sweep file to a `Sweep`, or to every error in it at once, each with its line."""

from __future__ import annotations

import json
import os
from pathlib import Path as FilePath
from typing import Any

from duchenne.spec.datasets import file_faults
from duchenne.spec.errors import WHOLE_DOCUMENT, WHOLE_FILE, Fault, Problem, SpecError, dotted
from duchenne.spec.partial import validated
from duchenne.spec.reading import Node, read_yaml
from duchenne.spec.sweep import Sweep

MAX_BYTES = 2**20


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """The sweep that a YAML file describes.

    Raises SpecError with every problem of the file, each with its line. A dataset that is not there yet is none: see
    `duchenne.spec.notes`.
    """
    source = os.fspath(path)
    try:
        with FilePath(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _whole_file(source, "must exist", "no such file", "check the path") from None
    except IsADirectoryError:
        raise _whole_file(source, "must be a file", "a directory", "name the YAML file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _whole_file(source, "must be readable", reason, "check the path and its permissions") from None
    if len(content) > MAX_BYTES:
        raise _whole_file(source, "must be at most 1 MiB", f"more than {MAX_BYTES} bytes", "remove what is no sweep")
    return load_sweep_text(_decoded(content, source), source)


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
        faults = file_faults(sweep)
    problems += [_problem(fault, root) for fault in faults]
    if sweep is None or problems:
        raise SpecError(name, problems)
    return sweep


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        seen = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        problem = Problem(line, WHOLE_FILE, "must be UTF-8", seen, "save the file as UTF-8")
        raise SpecError(source, [problem]) from None


def _whole_file(source: str, rule: str, value: str, hint: str) -> SpecError:
    return SpecError(source, [Problem(1, WHOLE_FILE, rule, value, hint)])


def _no_mapping(root: Node | None) -> Problem:
    if root is None or root.value is None:
        return Problem(1, WHOLE_DOCUMENT, "must describe a sweep", "an empty file", "start from jobs/sweeps/toy.yaml")
    seen = "a list" if isinstance(root.value, list) else root.text
    hint = "write `apiVersion: duchenne/v1` and the other sections"
    return Problem(root.line, WHOLE_DOCUMENT, "must be a mapping", seen, hint)


def _problem(fault: Fault, root: Node) -> Problem:
    """The fault with the line of its place, or of the innermost section around it where the place is missing."""
    node, line = root, root.line
    for part in fault.path:
        if isinstance(node.value, dict) and part in node.value:
            line, node = node.key_lines[str(part)], node.value[str(part)]
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.line
        else:
            return Problem(line, dotted(fault.path), fault.rule, fault.value, fault.hint)
    value = fault.value
    if not isinstance(node.value, (str, list, dict)) and value == json.dumps(node.value):
        value = node.text or "nothing"  # as the user wrote it: `no`, not `false`
    return Problem(line, dotted(fault.path), fault.rule, value, fault.hint)
