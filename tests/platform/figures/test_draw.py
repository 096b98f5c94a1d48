"""`draw_all`: which files come out, that they are what they say, and that they are the same every time."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from duchenne.figures import FIGURES, draw_all, read_sweep
from duchenne.figures.style import DPI, WIDTH
from duchenne.records import NotFoundError

NAMES = {
    "leaderboard",
    "learning_curves",
    "search",
    "soft_order",
    "soft_order_evolution",
    "task_f1",
    "spend",
    "burn_down",
}
NAMES |= {"order_distance_evolution", "task_metrics", "prediction_histograms", "calibration"}
OF_LISTED_NUMBERS = {"validation_by_value"}
"""Only for searches that list numbers: see test_labels.py."""
OF_FACES = {"attention_by_task", "attention_by_head", "priors"}
"""Only for networks with attention: see test_attention.py."""
OF_ORDER_SEARCHES = {"single_orders", "order_counts"}
"""Only for searches over order sets: see test_orders.py."""


def png_size(path: Path) -> tuple[int, int]:
    """Width and height from the header (PNG specification, 11.2.2)."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_a_finished_sweep_gives_every_figure_as_png_and_svg(home: Any, tmp_path: Path) -> None:
    paths = draw_all(home.store, home.sweep, home.path, tmp_path / "out")
    assert {path.name for path in paths} == {f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    assert set(FIGURES) == NAMES | OF_FACES | OF_ORDER_SEARCHES | OF_LISTED_NUMBERS
    data = read_sweep(home.store, home.sweep, home.path)
    sizes = {name: FIGURES[name](data).get_size_inches() for name in NAMES}
    for path in paths:
        width, height = sizes[path.stem]
        assert width == WIDTH
        if path.suffix == ".png":
            assert png_size(path) == pytest.approx((width * DPI, height * DPI), abs=1)
        else:
            root = ElementTree.parse(path).getroot()  # noqa: S314 - written by the code under test
            assert root.tag.endswith("svg")
            assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(72 * width, abs=0.01)
            assert float(root.attrib["height"].removesuffix("pt")) == pytest.approx(72 * height, abs=0.01)


def test_a_second_draw_gives_the_same_bytes_whatever_the_callers_settings_are(home: Any, tmp_path: Path) -> None:
    first = draw_all(home.store, home.sweep, home.path, tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "red", "svg.hashsalt": "another"}):
        before = dict(matplotlib.rcParams)
        second = draw_all(home.store, home.sweep[:9], home.path, tmp_path / "b")
        assert dict(matplotlib.rcParams) == before
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_what_the_records_do_not_hold_is_left_out_and_said(
    make_home: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = make_home()
    with caplog.at_level(logging.INFO, logger="duchenne.figures"):
        assert draw_all(empty.store, empty.sweep, empty.path, tmp_path / "out") == []
    for name in NAMES | OF_FACES | OF_ORDER_SEARCHES | OF_LISTED_NUMBERS:
        assert any(f"figure {name} is left out: " in message for message in caplog.messages), name
    assert not (tmp_path / "out").exists()


def test_a_sweep_that_still_searches_gives_what_there_is(
    make_home: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = make_home()
    running.search()
    with caplog.at_level(logging.INFO, logger="duchenne.figures"):
        paths = draw_all(running.store, running.sweep, running.path, tmp_path / "out")
    assert {path.stem for path in paths} == {"learning_curves", "search", "spend", "burn_down"}
    data = read_sweep(running.store, running.sweep, running.path)
    assert data.selected == {}
    assert data.highlighted == (1,)


def test_a_method_without_a_soft_order_has_no_figure_of_one(make_home: Callable[..., Any], tmp_path: Path) -> None:
    plain = make_home()
    plain.evaluate(methods=("vmnc",))
    stems = {path.stem for path in draw_all(plain.store, plain.sweep, plain.path, tmp_path / "out")}
    of_predictions = {"task_f1", "task_metrics", "prediction_histograms", "calibration"}
    assert stems == {"leaderboard", "spend", "burn_down"} | of_predictions


def test_a_sweep_without_a_space_and_predictions_that_are_gone_do_not_stop_the_others(
    make_home: Callable[..., Any], tmp_path: Path
) -> None:
    bare = make_home(search={"metric": "f1_macro", "trials": 1})
    bare.store.record_trial(bare.sweep, 0, {}, state="running")
    bare.store.set_trial_state(bare.sweep, 0, "succeeded", value=0.5, rung=1)
    bare.evaluate()
    for file in (bare.path / "sweeps" / bare.sweep / "predictions").iterdir():
        file.unlink()
    stems = {path.stem for path in draw_all(bare.store, bare.sweep, bare.path, tmp_path / "out")}
    assert stems == {
        "leaderboard",
        "search",
        "soft_order",
        "soft_order_evolution",
        "order_distance_evolution",
        "spend",
        "burn_down",
    }


def test_an_unknown_sweep_is_refused(home: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no 'elsewhere'"):
        draw_all(home.store, "elsewhere", home.path, tmp_path / "out")


def test_importing_the_package_loads_no_matplotlib_and_drawing_no_pyplot() -> None:
    code = (
        "import sys, duchenne.figures as figures\n"
        "heavy = {'matplotlib', 'torch', 'ray', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "figures.draw_all\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
        "assert callable(figures.search) and callable(figures.soft_order) and 'soft_order' in figures.FIGURES\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import duchenne.figures

    with pytest.raises(AttributeError, match="no attribute 'pie_chart'"):
        _ = duchenne.figures.pie_chart
