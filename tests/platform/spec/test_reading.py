"""YAML that tries to hurt: bombs, depth, size. And what plain scalars mean."""

from __future__ import annotations

import time

import pytest

from duchenne.spec.reading import MAX_DEPTH, MAX_NODES, read_yaml


def plain(text: str) -> object:
    document = read_yaml(text)
    assert document.faults == ()
    assert document.root is not None
    return document.root.plain()


def fatal(text: str) -> str:
    document = read_yaml(text)
    assert document.root is None
    return document.faults[-1][1].located


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("~", None),
        ("Null", None),
        ("TRUE", True),
        ("off", False),
        ("-7", -7),
        ("1_000", 1000),
        ("9223372036854775807", 2**63 - 1),
        ("012", "012"),
        ("0x10", "0x10"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1e-3", 1e-3),
        ("-1.5E+2", -150.0),
        ("e5", "e5"),
        ("'5e-4'", "5e-4"),
        ('"no"', "no"),
        ("|\n  5", "5"),
        ("! 5", 5),
    ],
)
def test_scalars(text: str, value: object) -> None:
    read = plain(text)
    assert read == value
    assert type(read) is type(value)


def test_aliases_stand_for_their_value() -> None:
    assert plain("a: &x {b: [1, 2]}\nc: *x\nd: [*x, *x]") == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": [{"b": [1, 2]}, {"b": [1, 2]}],
    }


def test_lines_are_those_of_keys_and_items() -> None:
    root = read_yaml("a:\n  b: 1\n\n  c:\n    - x\n    - y\n").root
    assert root is not None
    assert isinstance(root.value, dict)
    inner = root.value["a"]
    assert inner.key_lines == {"b": 2, "c": 4}
    assert isinstance(inner.value, dict)
    items = inner.value["c"].value
    assert isinstance(items, list)
    assert [item.line for item in items] == [5, 6]


def test_an_alias_bomb_is_refused_at_once() -> None:
    """Ten lines that stand for 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    began = time.perf_counter()
    assert f"must hold at most {MAX_NODES} values once aliases are expanded, got at least" in fatal("\n".join(lines))
    assert time.perf_counter() - began < 1.0


def test_depth_is_bounded_also_through_aliases() -> None:
    assert plain("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert f"must nest at most {MAX_DEPTH} levels, got {MAX_DEPTH + 1}" in fatal("[" * 50_000)
    half = MAX_DEPTH // 2
    chain = "\n".join(
        [f"a0: &a0 {'[' * half}{']' * half}"] + [f"a{i}: &a{i} {'[' * half}*a{i - 1}{']' * half}" for i in range(1, 40)]
    )
    assert f"must nest at most {MAX_DEPTH} levels" in fatal(chain)


def test_many_values_are_bounded() -> None:
    ten = f"&ten [{', '.join('0123456789')}]"
    assert "must hold at most" in fatal(f"[{ten}{', *ten' * (MAX_NODES // 11)}]")
    assert plain(f"[{ten}{', *ten' * 99}]") == [list(range(10))] * 100


def test_faults_before_a_fatal_one_are_kept() -> None:
    document = read_yaml("a: 1\na: 2\nb: [1")
    assert [(line, fault.rule) for line, fault in document.faults] == [
        (2, "a key must stand once"),
        (3, "must be valid YAML"),
    ]
