"""How an ingest of people runs: side by side, on Ray, killed and resumed, onto a bucket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import matplotlib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from duchenne_jobs.data import DatasetError, ingest, open_dataset
from duchenne_jobs.data.cache import default_cache_folder
from duchenne_jobs.data.faces.parse import CLASS_ORDERS
from duchenne_jobs.data.staging import kept_folder

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
FOUR = ("SN001", "SN002", "SN003", "SN004")


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.arrow")}


def test_the_digest_does_not_depend_on_workers_or_on_ray(make_disfa: Callable[..., Path], tmp_path: Path) -> None:
    source = make_disfa("raw", subjects=FOUR[:3], count=70)
    one = ingest("disfa", source, tmp_path / "one", workers=1)
    calls: list[tuple[int, int]] = []
    two = ingest("disfa", source, tmp_path / "two", lambda *done: calls.append(done), workers=2)
    assert two.digest == one.digest
    assert calls[-1] == (210, 210)
    assert calls == sorted(calls)
    assert not list(tmp_path.glob(".*"))
    assert ingest("disfa", source, tmp_path / "one", workers=1).digest == one.digest  # again: nothing to do


def test_ray_cuts_the_same_faces(make_disfa: Callable[..., Path], tmp_path: Path, run_python: Any) -> None:
    source = make_disfa("raw")
    one = ingest("disfa", source, tmp_path / "one", workers=1)
    code = (
        "import sys\nfrom duchenne_jobs.data import ingest\ncalls = []\n"
        "ingest('disfa', *sys.argv[1:], lambda *done: calls.append(done), workers=2, executor='ray')\nprint(calls[-1])"
    )
    done = run_python(code, str(source), str(tmp_path / "two"), timeout=200)
    assert (done.returncode, done.stdout) == (0, "(12, 12)\n"), done.stderr
    assert open_dataset(tmp_path / "two").digest == one.digest


def test_a_killed_ingest_goes_on_where_it_was(make_disfa: Callable[..., Path], tmp_path: Path) -> None:
    source = make_disfa("raw", subjects=FOUR, count=70)
    whole = ingest("disfa", source, tmp_path / "whole", workers=1)
    code = (
        "import os, signal, sys\nfrom duchenne_jobs.data import ingest\n"
        "def progress(done, total):\n    if done > 150: os.kill(os.getpid(), signal.SIGKILL)\n"
        "ingest('disfa', sys.argv[1], sys.argv[2], progress, workers=1)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "out")], env=ENVIRONMENT, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    kept = stamps(tmp_path / ".out.sequences")
    assert len(kept) == 2  # the third was under way
    seen: dict[str, int] = {}

    def progress(done: int, total: int) -> None:
        seen.update({name: stamp for name, stamp in stamps(tmp_path / ".out.sequences").items() if name in kept})

    dataset = ingest("disfa", source, tmp_path / "out", progress, workers=1)
    assert seen == kept  # taken as they were
    assert dataset.digest == whole.digest
    dataset.verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw", "whole"]


def test_workers_die_with_their_parent(make_disfa: Callable[..., Path], tmp_path: Path) -> None:
    source = make_disfa("raw", subjects=FOUR, count=400)
    code = "import sys\nfrom duchenne_jobs.data import ingest\ningest('disfa', sys.argv[1], sys.argv[2], workers=2)"
    parent = subprocess.Popen([sys.executable, "-c", code, str(source), str(tmp_path / "out")], env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    children: list[int] = []
    while len(children) < 3 and time.monotonic() < deadline:  # two workers and multiprocessing's resource tracker
        time.sleep(0.05)
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text(encoding="ascii")
        children = [int(child) for child in listed.split()]
    parent.kill()
    parent.wait(timeout=30)
    assert len(children) == 3

    def alive() -> list[int]:
        return [child for child in children if Path(f"/proc/{child}/cmdline").is_file() and not zombie(child)]

    while alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive() == []


def zombie(child: int) -> bool:
    try:
        return Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_changed_file_or_option_is_cut_again(make_disfa: Callable[..., Path], tmp_path: Path) -> None:
    """Finished sequences of a failed run are used again only for exactly what they were made from."""
    source = make_disfa("raw", subjects=FOUR[:2])
    bad = source / "parsing" / "SN002" / "000003.png"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"000003.png can't be decoded"):
        ingest("disfa", source, tmp_path / "out", workers=1)
    first = stamps(tmp_path / ".out.sequences")
    assert len(first) == 1
    with pytest.raises(DatasetError, match=r"000003.png can't be decoded"):
        ingest("disfa", source, tmp_path / "out", workers=1, size=64)
    assert len(stamps(tmp_path / ".out.sequences")) == 1
    assert stamps(tmp_path / ".out.sequences").keys() != first.keys()
    points = np.load(source / "landmarks" / "SN001.npy")
    np.save(source / "landmarks" / "SN001.npy", points + 3)
    bad.write_bytes(good)
    resumed = ingest("disfa", source, tmp_path / "out", workers=1, size=64)
    assert resumed.digest == ingest("disfa", source, tmp_path / "fresh", workers=1, size=64).digest
    assert not (tmp_path / ".out.sequences").exists()


def test_two_at_once_don_t_mix(disfa: Path, tmp_path: Path) -> None:
    with kept_folder(tmp_path / ".out.sequences"), pytest.raises(DatasetError, match="another process is at work in"):
        ingest("disfa", disfa, tmp_path / "out", workers=1)
    ingest("disfa", disfa, tmp_path / "out", workers=1).verify()


def test_another_dataset_at_the_destination_is_refused(disfa: Path, tmp_path: Path) -> None:
    first = ingest("disfa", disfa, tmp_path / "out", workers=1)
    with pytest.raises(DatasetError, match="already holds another dataset"):
        ingest("disfa", disfa, tmp_path / "out", workers=1, size=64)
    assert open_dataset(tmp_path / "out").digest == first.digest


def test_a_bucket_gets_the_same_dataset(disfa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCHENNE_CACHE", str(tmp_path / "cache"))
    local = ingest("disfa", disfa, tmp_path / "out", workers=1)
    remote = ingest("disfa", disfa, f"memory://bucket-{uuid.uuid4()}/disfa", workers=1)
    assert remote.digest == local.digest
    remote.verify()
    assert list((default_cache_folder() / "ingest").iterdir()) == []


def test_licence_and_consent_are_the_users_where_given(disfa: Path, tmp_path: Path) -> None:
    own = ingest("disfa", disfa, tmp_path / "out", workers=1, licence="CC0", consent="drawn, no people").manifest
    assert (own.licence, own.consent) == ("CC0", "drawn, no people")
    toy = ingest("toy", None, tmp_path / "toy", count=9, licence="mine").manifest
    assert (toy.licence, toy.consent) == ("mine", "Random numbers: no people are recorded.")


def test_a_drawn_dataset_does_not_pass_for_the_real_one(disfa: Path, tmp_path: Path) -> None:
    real = ingest("disfa", disfa, tmp_path / "real", workers=1)
    (disfa / "synthetic.json").write_text("{}", encoding="utf-8")
    drawn = ingest("disfa", disfa, tmp_path / "drawn", workers=1)
    assert (real.manifest.name, drawn.manifest.name) == ("disfa", "disfa-synthetic")
    assert "agreement" in real.manifest.licence
    assert drawn.manifest.consent == "Drawn faces: no people are recorded."
    assert drawn.digest != real.digest


def parser_model(path: Path) -> Path:
    scores = np.zeros((1, 19, 8, 8), np.float32)
    scores[0, 1, 2:] = 1  # skin, below a background
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, list(scores.shape))
    node = helper.make_node("Identity", ["value"], ["scores"])
    graph = helper.make_graph([node], "parser", [image], [output], [numpy_helper.from_array(scores, "value")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path


def test_videos_through_a_detector_and_a_parsing_model(make_disfa: Callable[..., Path], tmp_path: Path) -> None:
    """A photograph in four frames, an empty frame in two: the cascade finds four faces, the model parses them."""
    source = make_disfa("raw", subjects=("SN001",))
    face = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").resize((256, 300))
    frames = [
        np.asarray(face.convert("RGB")) if index % 3 else np.full((300, 256, 3), 90, np.uint8) for index in range(6)
    ]
    with av.open(str(source / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=20, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = 256, 300, "yuvj420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    model = parser_model(tmp_path / "parser.onnx")
    options: dict[str, Any] = {"workers": 1, "detector": "haar", "parsing": model, "size": 64}
    with pytest.raises(DatasetError, match="parsing ids mean nothing without names"):
        ingest("disfa", source, tmp_path / "out", **options)
    dataset = ingest("disfa", source, tmp_path / "out", classes="bisenet", **options)
    table = dataset.rows()
    assert np.flatnonzero(table["image"].is_null().to_numpy()).tolist() == [0, 3]
    assert table["parsing"].null_count == 2
    assert dataset.manifest.parsing_classes == CLASS_ORDERS["bisenet"]
    crop = dataset.manifest.crop
    assert crop is not None
    assert crop.aligned_by == "haar"
    assert crop.parsed_by is not None
    assert crop.parsed_by.startswith("parser.onnx sha256:")
    assert "landmarks" not in dataset.manifest.columns
    other = ingest("disfa", source, tmp_path / "other", classes="celebamask-hq", **options)
    assert other.digest != dataset.digest
