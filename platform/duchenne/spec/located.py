"""Files that a user writes: bounded reading, and a model that they fit or every error with its line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from duchenne.spec.errors import WHOLE_DOCUMENT, WHOLE_FILE, Fault, Problem, SpecError, dotted
from duchenne.spec.messages import broken_rules
from duchenne.spec.reading import Node, read_yaml

MAX_BYTES = 2**20

Model = TypeVar("Model", bound=BaseModel)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file, at most 1 MiB of UTF-8. Raises SpecError where it can't be had."""
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
    return _decoded(content, source)


def load_model(path: str | os.PathLike[str], model: type[Model], hint: str) -> Model:
    """What a YAML file says, as `model`.

    Args:
        hint: what to write into a file that is empty or no mapping.

    Raises:
        SpecError: one line a problem, each with its line in the file.
    """
    source = os.fspath(path)
    document = read_yaml(read_text(path))
    problems = [Problem(line, dotted(f.path), f.rule, f.value, f.hint) for line, f in document.faults]
    root = document.root
    if root is None or not isinstance(root.value, dict):
        line = 1 if root is None else root.line
        seen = "an empty file" if root is None or root.value is None else "something else"
        problems = problems or [Problem(line, WHOLE_DOCUMENT, "must be a mapping", seen, hint)]
        raise SpecError(source, problems)
    data = root.plain()
    try:
        read = model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        problems += [located(fault, root) for fault in broken_rules(error, model, data)]
        raise SpecError(source, problems) from None
    if problems:
        raise SpecError(source, problems)
    return read


def refuse(path: str | os.PathLike[str], faults: Iterable[Fault]) -> None:
    """Raises SpecError with each of the faults at its line of the file; nothing where there are none."""
    found = list(faults)
    if not found:
        return
    root = read_yaml(read_text(path)).root or Node(1, {})
    raise SpecError(os.fspath(path), [located(fault, root) for fault in found])


def located(fault: Fault, root: Node) -> Problem:
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
