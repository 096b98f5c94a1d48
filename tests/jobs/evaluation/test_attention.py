"""Attention files: what is written comes back, and nothing half-written is left or read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duchenne_jobs.evaluation.attention import AttentionSample, read_attention, write_attention


def sample() -> AttentionSample:
    return AttentionSample(
        attention=np.random.default_rng(0).random((2, 1, 3, 4, 2, 2)).astype(np.float16),
        tasks=np.array(["AU1", "AU12"]),
        subjects=np.array(["F001", "M002"]),
        sequences=np.array(["T1", "T8"]),
        frames=np.array([7, 2440]),
        labels=np.array([[1, -1], [0, 1]], dtype=np.int8),
        config='{"model": {}}',
    )


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    written = sample()
    path = tmp_path / "attention" / "job.npz"
    write_attention(path, written)
    read = read_attention(path)
    for name, value in vars(written).items():
        np.testing.assert_array_equal(getattr(read, name), value)
    assert read.config == written.config
    assert [file.name for file in path.parent.iterdir()] == ["job.npz"]


def test_the_same_sample_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_attention(tmp_path / name, sample())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    write_attention(tmp_path / "whole.npz", sample())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("no arrays")
    np.savez(tmp_path / "foreign.npz", weights=np.ones(3))
    np.savez(tmp_path / "pickled.npz", **{**vars(sample()), "tasks": np.array([object()])})
    for name in ("cut", "empty", "text", "foreign", "pickled"):
        with pytest.raises(
            ValueError, match=rf"{name}\.npz: an attention file must hold its arrays, but .*; run its job"
        ):
            read_attention(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        read_attention(tmp_path / "absent.npz")
