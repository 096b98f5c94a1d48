"""YAML text to nodes that know their line, without building anything that YAML could be tricked into building.

Works on PyYAML's event stream, so that nesting, size and aliases are bounded while reading, not afterwards. Only
mappings, lists and scalars come out; tags are refused. A plain `5e-4` is a number (YAML 1.1 calls it a string).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import yaml

from duchenne.spec.errors import Fault, Path

MAX_DEPTH = 64
MAX_NODES = 100_000
MAX_INTEGER = 2**63 - 1

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"(?=.*[.eE])[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    spelling: value
    for value, words in {None: ("null",), True: ("true", "yes", "on"), False: ("false", "no", "off")}.items()
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
} | {"": None, "~": None}


@dataclass
class Node:
    """A value and the 1-based line it stands on.

    `size` counts the values it stands for once aliases are expanded, `depth` the levels of lists and mappings in it.
    """

    line: int
    value: Scalar | list[Node] | dict[str, Node]
    text: str = ""
    key_lines: dict[str, int] = field(default_factory=dict)
    size: int = 1
    depth: int = 0

    def plain(self) -> object:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


@dataclass(frozen=True)
class Document:
    """The root of a YAML file (None if nothing could be read), and what was wrong on the way: (line, fault).

    `lost` are places whose value could not be read and is not what stands in the file.
    """

    root: Node | None
    faults: tuple[tuple[int, Fault], ...]
    lost: tuple[Path, ...] = ()


class UnreadableError(Exception):
    """Reading can't go on. Carries the line and the fault."""

    def __init__(self, line: int, fault: Fault) -> None:
        super().__init__(fault.text)
        self.line = line
        self.fault = fault


@dataclass
class _Frame:
    """A list or mapping that is still open."""

    node: Node
    path: Path
    anchor: str | None
    key: Node | None = None

    def child_path(self) -> Path:
        if isinstance(self.node.value, list):
            return (*self.path, len(self.node.value))
        return self.path if self.key is None else (*self.path, self.key.text)


def read_yaml(text: str) -> Document:
    """Reads one YAML document. Never raises for bad input: what is wrong comes back as faults."""
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            reader.take(event)
    except UnreadableError as error:
        return Document(None, (*reader.faults, (error.line, error.fault)))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        fault = Fault((), "must hold printable text only", f"character {error.character:#x}", "remove it")
        return Document(None, (*reader.faults, (line, fault)))
    except yaml.MarkedYAMLError as error:
        return Document(None, (*reader.faults, _syntax(error)))
    return Document(reader.root, tuple(reader.faults), tuple(reader.lost))


def _syntax(error: yaml.MarkedYAMLError) -> tuple[int, Fault]:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    seen = " ".join(str(part) for part in (error.context, error.problem) if part)
    if "'\\t'" in seen:
        hint = "indent with spaces, not tabs"
    else:
        hint = "check indentation, colons and quotes there and on the line above"
    return line, Fault((), "must be valid YAML", seen, hint)


class _Reader:
    """Builds nodes from PyYAML's events, with a stack of its own instead of recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.faults: list[tuple[int, Fault]] = []
        self.lost: list[Path] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise UnreadableError(
                    line, Fault((), "must hold one YAML document", "a second `---`", "write one file a sweep")
                )
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, line)
        elif isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event, line)
            node = Node(line, self._scalar(event, line), text=event.value)
            self._count(line, 1)
            self._attach(node, event.anchor)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._open(event, line)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            frame = self._stack.pop()
            self._attach(frame.node, frame.anchor)

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._refuse_tag(event, line)
        self._count(line, 1)
        self._bound_depth(line, 1)
        empty: list[Node] | dict[str, Node] = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self._stack.append(_Frame(Node(line, empty, depth=1), self._path(), event.anchor))

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        target = self._anchors.get(event.anchor or "")
        if target is None:
            raise UnreadableError(
                line,
                Fault(
                    self._path(),
                    "an alias must name an anchor that ends above it",
                    f"*{event.anchor}",
                    "write the value out",
                ),
            )
        self._count(line, target.size)
        self._bound_depth(line, target.depth)
        self._attach(target, None)

    def _attach(self, node: Node, anchor: str | None) -> None:
        """Gives a finished node to the list or mapping that is open, as its next item, key or value."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        parent = frame.node
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif frame.key is None:
            if isinstance(node.value, (list, dict)):
                raise UnreadableError(
                    node.line, Fault(frame.path, "a key must be one word", "a list or mapping", "write a field name")
                )
            frame.key = node
        elif isinstance(parent.value, dict):
            self._insert(frame, parent.value, frame.key, node)
            frame.key = None

    def _insert(self, frame: _Frame, fields: dict[str, Node], key: Node, node: Node) -> None:
        name = key.text
        path = (*frame.path, name)
        if name == "<<":
            self._fault(key.line, Fault(path, "merge keys are refused", "<<", "write the fields out"))
        elif name in fields:
            first = frame.node.key_lines[name]
            self._fault(key.line, Fault(path, "a key must stand once", f"a second one after line {first}", "keep one"))
        else:
            fields[name] = node
            # The key's own line, also where an alias brings a value from further up.
            frame.node.key_lines[name] = key.line

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Scalar:
        text: str = event.value
        if event.style is not None:  # quoted, or a block: text, whatever it looks like
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            digits = text.replace("_", "")
            if len(digits) <= 20 and abs(int(digits)) <= MAX_INTEGER:
                return int(digits)
            self._lose(line, Fault(self._path(), "a whole number must fit 64 bits", text, "write a smaller number"))
            return 0
        if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and not math.isfinite(float(text.replace("_", "")))):
            self._lose(line, Fault(self._path(), "a number must be finite", text, "write a finite number"))
            return 0
        return float(text.replace("_", "")) if _FLOAT.fullmatch(text) else text

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
        if event.tag not in (None, "!"):
            self._lose(line, Fault(self._path(), "YAML tags are refused", event.tag, "remove the tag"))

    def _count(self, line: int, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise UnreadableError(
                line,
                Fault(
                    self._path(),
                    f"must hold at most {MAX_NODES} values once aliases are expanded",
                    f"at least {self._nodes}",
                    "write fewer values, without nested aliases",
                ),
            )

    def _bound_depth(self, line: int, added: int) -> None:
        depth = len(self._stack) + added
        if depth > MAX_DEPTH:
            fault = Fault(self._path()[:3], f"must nest at most {MAX_DEPTH} levels", str(depth), "flatten the file")
            raise UnreadableError(line, fault)

    def _path(self) -> Path:
        return self._stack[-1].child_path() if self._stack else ()

    def _fault(self, line: int, fault: Fault) -> None:
        self.faults.append((line, fault))

    def _lose(self, line: int, fault: Fault) -> None:
        self._fault(line, fault)
        self.lost.append(fault.path)
