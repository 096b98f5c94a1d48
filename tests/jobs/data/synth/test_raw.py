"""The raw folders: exactly the formats, the same bytes for the same seed, and read by the ingesters."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.ingesters import ingest
from duchenne_jobs.data.synth.contact import save_unit_sheet
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.data.synth.paint import CLASSES
from duchenne_jobs.data.synth.raw import synthesise
from duchenne_jobs.data.synth.units import BP4D_AUS, DISFA_AUS
from duchenne_jobs.data.synth.write_bp4d import trial_frames

SIZE, FRAMES = 96, 16


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def disfa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = SynthOptions("disfa", subjects=2, frames=FRAMES, size=SIZE, noise=0.2, seed=5)
    return synthesise(options, tmp_path_factory.mktemp("disfa") / "raw", workers=1)


@pytest.fixture(scope="module")
def bp4d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = SynthOptions("bp4d", subjects=3, frames=FRAMES, size=SIZE, noise=0.1, seed=5)
    return synthesise(options, tmp_path_factory.mktemp("bp4d") / "raw", workers=1)


def read_units(folder: Path, subject: str) -> np.ndarray:
    columns = []
    for number in DISFA_AUS:
        lines = (folder / subject / f"{subject}_au{number}.txt").read_text(encoding="ascii").splitlines()
        frames, values = zip(*(line.split(",") for line in lines), strict=True)
        assert [int(frame) for frame in frames] == list(range(1, FRAMES + 1))
        columns.append([int(value) for value in values])
    return np.array(columns).T


def test_disfa_has_its_labels_and_videos(disfa: Path) -> None:
    import av

    assert sorted(path.name for path in (disfa / "ActionUnit_Labels").iterdir()) == ["SN001", "SN002"]
    noisy, clean = (read_units(disfa / place / "ActionUnit_Labels", "SN001") for place in (".", "clean_labels"))
    assert noisy.shape == clean.shape == (FRAMES, 12)
    assert min(noisy.min(), clean.min()) >= 0
    assert max(noisy.max(), clean.max()) <= 5
    assert 0.08 < ((noisy >= 2) != (clean >= 2)).mean() < 0.32
    for path in ("Videos_LeftCamera/LeftVideoSN001_comp.avi", "Video_RightCamera/RightVideoSN001_comp.avi"):
        with av.open(str(disfa / path)) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(frames) == FRAMES
        assert frames[0].shape == (SIZE, SIZE, 3)


def test_disfa_has_landmarks_and_parsing_of_the_left_video(disfa: Path) -> None:
    left, right = (np.load(disfa / "landmarks" / f"SN001{side}.npy") for side in ("", "_right"))
    assert left.dtype == right.dtype == np.float32
    assert left.shape == right.shape == (FRAMES, 68, 2)
    assert not np.array_equal(left, right)
    assert (disfa / "parsing" / "classes.txt").read_text(encoding="ascii").split() == list(CLASSES)
    maps = sorted(path.name for path in (disfa / "parsing" / "SN001").iterdir())
    assert maps == [f"{frame:06d}.png" for frame in range(1, FRAMES + 1)]
    with Image.open(disfa / "parsing" / "SN001" / "000003.png") as image:
        assert image.mode == "L"
        ids = np.asarray(image)
    assert ids.shape == (SIZE, SIZE)
    x, y = np.round(left[2, 30]).astype(int)  # the tip of the nose
    assert CLASSES[ids[y, x]] == "nose"


def test_the_video_shows_what_the_parsing_says(disfa: Path) -> None:
    import av

    with av.open(str(disfa / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi")) as video:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    with Image.open(disfa / "parsing" / "SN001" / "000001.png") as image:
        ids = np.asarray(image)
    skin, wall = (frames[0][ids == CLASSES.index(name)].mean(axis=0) for name in ("skin", "background"))
    assert np.abs(skin - wall).max() > 25


def test_bp4d_has_its_codes_images_and_landmarks(bp4d: Path) -> None:
    files = sorted((bp4d / "AUCoding" / "AU_OCC").iterdir())
    assert [path.name for path in files[:2]] == ["F001_T1.csv", "F001_T2.csv"]
    assert len(files) == 3 * 8
    seen = []
    for path in files:
        header, *lines = (line.split(",") for line in path.read_text(encoding="ascii").splitlines())
        assert [int(cell) for cell in header[1:]] == list(BP4D_AUS)
        subject, trial = path.stem.split("_")
        numbers = [int(line[0]) for line in lines]
        assert numbers[0] > 0
        for number in numbers:
            with Image.open(bp4d / subject / trial / f"{number}.jpg") as image:
                assert image.size == (SIZE, SIZE)
            assert (bp4d / "parsing" / subject / trial / f"{number}.png").is_file()
        points = np.load(bp4d / "landmarks" / f"{path.stem}.npy")
        assert points.shape == (len(numbers), 68, 2)
        assert points.dtype == np.float32
        seen += [int(cell) for line in lines for cell in line[1:]]
        clean = (bp4d / "clean_labels" / "AUCoding" / "AU_OCC" / path.name).read_text(encoding="ascii").splitlines()
        assert clean[0].split(",") == header
        assert {cell for line in clean[1:] for cell in line.split(",")[1:]} <= {"0", "1"}
    assert set(seen) == {0, 1, 9}


@pytest.mark.parametrize("frames", [1, 3, 8, 16, 101])
def test_trials_take_every_frame_once(frames: int) -> None:
    trials = trial_frames(frames)
    assert [frame for trial in trials for frame in trial] == list(range(frames))
    assert len(trials) == min(8, frames)


@pytest.mark.parametrize("like", ["disfa", "bp4d"])
def test_the_same_seed_gives_the_same_bytes(like: str, tmp_path: Path) -> None:
    options = SynthOptions(like, subjects=2, frames=6, size=64, noise=0.1)
    first = digests(synthesise(options, tmp_path / "first", workers=1))
    assert first == digests(synthesise(options, tmp_path / "second", workers=2))
    other = digests(synthesise(SynthOptions(like, 2, 6, seed=1, size=64, noise=0.1), tmp_path / "third", workers=1))
    assert sum(first[name] == other.get(name) for name in first) < len(first) / 2


def test_the_ingesters_read_what_is_written(disfa: Path, bp4d: Path, tmp_path: Path) -> None:
    videos = ingest("disfa", disfa, tmp_path / "disfa", workers=1, size=64)
    table = videos.rows(["subject", "labels", "intensities", "image"])
    assert table.num_rows == 2 * FRAMES
    assert table["image"].null_count == 0
    intensities = np.array(table["intensities"].to_pylist())
    raw = read_units(disfa / "ActionUnit_Labels", "SN001")
    columns = [DISFA_AUS.index(int(task.removeprefix("AU"))) for task in videos.tasks]
    assert np.array_equal(intensities[:FRAMES], raw[:, columns])
    images = ingest("bp4d", bp4d, tmp_path / "bp4d", workers=1, size=64)
    assert images.row_count == 3 * FRAMES
    assert images.tasks == tuple(f"AU{number}" for number in BP4D_AUS)
    assert -1 in np.array(images.rows(["labels"])["labels"].to_pylist())


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_every_face_and_a_failure_ends_all_processes(workers: int, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options = SynthOptions("bp4d", subjects=2, frames=5, size=32)
    synthesise(options, tmp_path / "raw", workers=workers, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (10, 10)
    assert told == sorted(told)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(options, tmp_path / "cut", workers=workers, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_destination_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match="must not exist or be an empty folder"):
        synthesise(SynthOptions("disfa", 1, 1), tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"cannot write .*; make room or choose another place"):
        synthesise(SynthOptions("bp4d", 1, 1), tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"like": "emotionet"}, "a drawn dataset is like disfa or bp4d, but got 'emotionet'"),
        ({"like": "disfa", "subjects": 28}, "1 <= subjects <= 27 must hold for faces like disfa, but got 28"),
        ({"like": "bp4d", "subjects": 0}, "1 <= subjects <= 41 must hold for faces like bp4d, but got 0"),
        ({"like": "disfa", "frames": 0}, "1 <= frames <= 100000 must hold"),
        ({"like": "disfa", "size": 8}, "32 <= size <= 2048 must hold"),
        ({"like": "disfa", "seed": -1}, "0 <= seed <= "),
        ({"like": "disfa", "noise": 0.6}, "0 <= noise <= 0.5 must hold, but got 0.6"),
        ({"like": "disfa", "noise": float("nan")}, "0 <= noise <= 0.5 must hold, but got nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(DatasetError) as refusal:
        SynthOptions(**options)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_a_video_of_an_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="size must be even for a video, but got 97; try 98"):
        synthesise(SynthOptions("disfa", 1, 1, size=97), tmp_path / "raw")


@pytest.mark.parametrize("like", ["disfa", "bp4d"])
def test_the_contact_sheet_shows_every_unit(like: str, tmp_path: Path) -> None:
    with Image.open(save_unit_sheet(like, 0, tmp_path / "sheets" / "units.png")) as sheet:
        assert sheet.size == (2 * (4 * 200 + 8), 6 * 222)
