"""What `benchmarks/streaming.py` says of its measurements."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("streaming")


def run(speed: float, cpu: float, once: bool = True) -> dict[str, Any]:
    return {"images_s": speed, "cpu_ms": cpu, "once": once}


def test_ratios_are_to_the_best_peer_that_gave_each_row_once(streaming: ModuleType) -> None:
    ours = ({"pixels": run(100, 1.0), "bytes": run(600, 0.1), "decoded": run(400, 0.2)}, {"pixels": run(50, 2.0)})
    peers: list[Any] = [
        ({"pixels": run(80, 1.5), "bytes": run(300, 0.3)}, "refused"),
        ({"pixels": run(999, 0.1, once=False)}, {"pixels": run(40, 3.0)}),
    ]
    lines = list(streaming.ratios(ours, peers, [{"pixels": run(120, 0.8)}, {"pixels": run(80, 1.0)}]))
    assert lines == [
        "warm over the bare loop: 1.00 by images/s, 0.90 by CPU time; aim 0.9",
        "warm over the best peer: 1.25 by images/s, 1.50 by CPU time; aim 1",
        "bytes over the best peer: 2.00 by images/s, 3.00 by CPU time; aim 1.2",
        "decoded over the best peer: 5.00 by images/s, 7.50 by CPU time; aim 3",
        "cold over the best peer: 1.25 by images/s, 1.50 by CPU time; aim 1.1",
    ]


def test_what_was_not_measured_has_no_ratio(streaming: ModuleType) -> None:
    assert list(streaming.ratios(("failed", "failed"), [], [])) == []


def test_every_row_of_a_small_set_comes_once_in_every_mode(streaming: ModuleType, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (130, streaming.SIDE, streaming.SIDE, 3), np.uint8)
    faces = [cv2.imencode(".jpg", one)[1].tobytes() for one in pixels]
    streaming.write_ours(faces, str(tmp_path / "ours"))
    results = streaming.ours("warm", str(tmp_path / "ours"), tmp_path / "cache", 1)
    assert [results[kind]["once"] for kind in ("pixels", "bytes", "decoded")] == [True] * 3
    assert results["resume"]
