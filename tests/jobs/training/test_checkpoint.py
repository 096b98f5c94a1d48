"""Checkpoints: the old file or the new one, and never flipped bits for weights."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
import torch

from duchenne_jobs.training.checkpoint import load_checkpoint, save_checkpoint

STATE = {"epoch": 3, "network": {"weight": torch.arange(500.0)}, "order_optimizer": None, "rates": [0.1, 0.2]}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, STATE)
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert (loaded["epoch"], loaded["order_optimizer"], loaded["rates"]) == (3, None, [0.1, 0.2])
    assert torch.equal(loaded["network"]["weight"], torch.arange(500.0))
    assert [entry.name for entry in path.parent.iterdir()] == ["c.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    (tmp_path / f".c.pt.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        save_checkpoint(path, STATE | {"epoch": 4})
    assert caught.value.errno == errno.ENOSPC
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.pt"]
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded["epoch"] == 3


def refused(path: Path, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="duchenne.training"):
        assert load_checkpoint(path) is None
    (record,) = caplog.records
    message = record.getMessage()
    assert str(path) in message
    assert "the job starts again from its first epoch" in message
    assert "\n" not in message
    return message


def test_damaged_files_are_said_to_be_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    whole = path.read_bytes()
    for data in (b"", b"no checkpoint", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(data)
        refused(path, caplog)
    torch.save({"weight": torch.zeros(2)}, path)
    assert "it holds no epoch" in refused(path, caplog)


def test_every_flipped_bit_is_found_or_harmless(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    whole = path.read_bytes()
    found = 0
    for position in range(0, len(whole), 23):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        loaded = load_checkpoint(path)
        found += loaded is None
        if loaded is not None:  # padding, or a field of the container that nobody reads
            assert torch.equal(loaded["network"]["weight"], torch.arange(500.0))
            assert loaded["epoch"] == 3
    assert found > 50  # 2000 bytes of weights alone give 87


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "was-here"),)

    path = tmp_path / "c.pt"
    torch.save({"epoch": 1, "network": Evil()}, path)
    refused(path, caplog)
    assert not (tmp_path / "was-here").exists()
