"""Checkpoints: the old file or the new one, and never flipped bits for weights."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
import torch

from duchenne_jobs.training.checkpoint import checkpoint_file, load_checkpoint, previous_of, save_checkpoint

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


def test_the_last_two_are_kept_and_the_one_before_stands_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.safetensors"
    for epoch in (1, 2, 3):
        save_checkpoint(path, STATE | {"epoch": epoch})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c.previous.safetensors", "c.safetensors"]
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, logger="duchenne.training"):
        loaded = load_checkpoint(path)
    assert loaded is not None
    assert loaded["epoch"] == 2
    assert "the job goes on from the one before" in caplog.records[0].getMessage()
    assert load_checkpoint(path, or_previous=False) is None  # who predicts wants this one or none
    path.unlink()  # as a crash between two renames leaves it
    assert (load_checkpoint(path) or {})["epoch"] == 2


def test_everything_that_a_trainer_saves_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {
        "epoch": 1,
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "empty": torch.zeros(0, 2)}},
            "param_groups": [{"a": 1}],
        },
        "half": torch.ones(3, dtype=torch.bfloat16),
        "tied": [torch.zeros(2), None, True, "text", {"tensor": 1.5}],
        "none": {},
    }
    state["tied"][0] = state["half"][:2]  # type: ignore[index]
    save_checkpoint(tmp_path / "c.safetensors", state)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert loaded is not None
    assert loaded["optimizer"]["state"][0]["step"] == 3
    assert loaded["optimizer"]["state"][0]["empty"].shape == (0, 2)
    assert loaded["optimizer"]["param_groups"] == [{"a": 1}]
    assert loaded["half"].dtype == torch.bfloat16
    assert loaded["tied"][1:] == [None, True, "text", {"tensor": 1.5}]
    assert loaded["none"] == {}


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "c.pt")
    assert checkpoint_file(tmp_path, "c") == tmp_path / "c.pt"
    assert (load_checkpoint(tmp_path / "c.pt") or {})["epoch"] == 3
    save_checkpoint(tmp_path / "c.safetensors", STATE)
    assert checkpoint_file(tmp_path, "c") == tmp_path / "c.safetensors"
    assert previous_of(tmp_path / "c.safetensors").name == "c.previous.safetensors"
