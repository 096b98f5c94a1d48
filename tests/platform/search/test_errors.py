"""What ends Ray Tune from outside comes out as one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.error import TuneError

from duchenne.cli.mistakes import FAILED, explain
from duchenne.search.errors import SearchBroken
from duchenne.search.tuner import _one_line


def test_a_state_file_cut_short_names_its_folder_and_the_room_left(tmp_path: Path) -> None:
    with pytest.raises(SearchBroken) as broken, _one_line(tmp_path):
        raise EOFError("Ran out of input")
    message, code = explain(broken.value)
    assert code == FAILED
    assert "\n" not in message
    assert str(tmp_path) in message
    assert "Ran out of input" in message
    assert "MiB free" in message
    assert "resume" in message


def test_a_callback_that_raised_says_its_own_last_line(tmp_path: Path) -> None:
    with pytest.raises(SearchBroken, match=r"^the records are gone$"), _one_line(tmp_path):
        raise TuneError("Traceback (most recent call last):\n  File x\nthe records are gone\n")
