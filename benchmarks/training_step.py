"""Where the time of a training step goes: waiting for data, augmentation, forward, backward, optimiser, the rest.

    python benchmarks/training_step.py                                  # toy MONET and a face model, on this machine
    python benchmarks/training_step.py --encoder resnet50 --side 224    # a larger face model
    python benchmarks/training_step.py --data URI                       # faces of a dataset on this disk

Faces are read and decoded beside the step, in threads of their own: that time is printed, but is no share of the step.
The first epoch decodes every face, the later ones find them decoded. Prints the hardware and the commit; on a GPU each
part waits for the device, so that its time is its own. Exits with 1 if a model takes less than `--bound` of a step.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duchenne.driver.prepare import code_revision
from duchenne_jobs.config import RunConfig
from duchenne_jobs.data import Dataset, DatasetWriter, Description, LandmarkScheme, materialise, open_dataset
from duchenne_jobs.models import Inputs
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.faces import FaceStore
from duchenne_jobs.training.split import Split, load_split
from duchenne_jobs.training.trainer import Trainer

MODEL = ("forward", "backward", "optimiser")
PARTS = ("wait for data", "augment", *MODEL)
TASKS = tuple(f"AU{unit}" for unit in (1, 2, 4, 6, 9, 12, 25, 26))


class Clock:
    """Seconds of each part since the last reset, and of decoding beside them."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        began = self.now()
        yield
        self.seconds[name] += self.now() - began

    def now(self) -> float:
        if self._gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        return run


def instrument(trainer: Trainer, clock: Clock) -> None:
    """Put the clock around the parts of the trainer's step."""
    batches = trainer._batches

    def waited(steps: list[Tensor]) -> Generator[Inputs]:
        source = batches(steps)
        try:
            for _ in steps:
                with clock.part("wait for data"):
                    batch = next(source)
                yield batch
        finally:
            source.close()

    trainer._batches = waited  # type: ignore[assignment]
    if trainer._augment is not None:
        trainer._augment = clock.timed("augment", trainer._augment)  # type: ignore[assignment]
    trainer.network.example_losses = clock.timed("forward", trainer.network.example_losses)  # type: ignore[method-assign]
    for optimiser in (trainer._engine.optimizer, trainer._engine.order_optimizer):
        if optimiser is not None:
            optimiser.step = clock.timed("optimiser", optimiser.step)  # type: ignore[method-assign]
    Tensor.backward = clock.timed("backward", Tensor.backward)  # type: ignore[method-assign]


def measure(name: str, split: Split, config: RunConfig, device: torch.device, epochs: int) -> float:
    """Print the breakdown of the first epoch and of the later ones; the model's median share of a later step."""
    clock = Clock(device)
    trainer = Trainer(config, split.train, split.data, 0, device)
    backward = Tensor.backward
    instrument(trainer, clock)
    steps = -(-len(trainer._trained) // config.training.batch_size)
    size = split.data.image_size
    print(
        f"\n{name}: {len(split.train)} rows, {steps} steps of {config.training.batch_size}, "
        f"{sum(p.numel() for p in trainer.network.parameters()):,} parameters"
        + (f", {size[0]} x {size[1]} pixels" if size else "")
    )
    store = getattr(split.train.inputs, "store", None)
    if isinstance(store, FaceStore):
        store.batch = clock.timed("read", store.batch)  # type: ignore[method-assign]
    shares = []
    try:
        for epoch in range(epochs):
            clock.seconds.clear()
            began = clock.now()
            trainer.run_epoch(lambda: None)
            total = clock.now() - began
            share = report(f"epoch {epoch + 1}", clock.seconds, total, steps)
            shares += [share] if epoch else []
    finally:
        Tensor.backward = backward  # type: ignore[method-assign]
    median = statistics.median(shares)
    print(f"  in the model, median of epochs 2 to {epochs}: {median:.1%}")
    return median


def report(title: str, seconds: dict[str, float], total: float, steps: int) -> float:
    """One line an epoch; returns the model's share."""
    rest = total - sum(seconds[part] for part in PARTS)
    parts = [(part, seconds[part]) for part in PARTS] + [("rest", rest)]
    shown = ", ".join(f"{part} {value / total:.1%}" for part, value in parts)
    beside = f"; reading beside it {seconds['read'] / steps * 1e3:.1f} ms a step" if seconds["read"] else ""
    print(f"  {title}: {total / steps * 1e3:.1f} ms a step: {shown}{beside}")
    return sum(seconds[part] for part in MODEL) / total


def draw_faces(folder: Path, subjects: int = 9, frames: int = 40, side: int = 224) -> Dataset:
    """Smooth noise as JPEG with 49 landmarks: what counts here is its size, not what it shows."""
    from PIL import Image

    random = np.random.default_rng(0)
    description = Description(
        name="noise",
        tasks=TASKS,
        columns=("subject", "sequence", "frame", "image", "landmarks", "labels"),
        landmark_scheme=LandmarkScheme(name="ibug-49", points=49),
        licence="drawn by a benchmark",
        consent="no people",
    )
    with DatasetWriter(folder, description) as writer:
        for subject in range(subjects):
            for frame in range(frames):
                small = Image.fromarray(random.integers(0, 255, (24, 24, 3), np.uint8))
                buffer = BytesIO()
                small.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
                row = {
                    "subject": f"S{subject}",
                    "sequence": "T1",
                    "frame": frame,
                    "image": buffer.getvalue(),
                    "landmarks": random.random(98, np.float32) * side,
                    "labels": random.integers(0, 2, len(TASKS)),
                }
                writer.write_rows([row])
    return open_dataset(folder)


def split_of(dataset: Dataset, config: RunConfig) -> Split:
    key = JobKey(0, "evaluation", config.model.name, 0, None, 0)
    folds = FoldsRequest(count=3, inner=2, seed=0)
    return load_split(FoldJob(key, config, dataset.uri, dataset.digest, folds, "", config.training.epochs), dataset)


def toy_config() -> RunConfig:
    """The MONET of table 2.1."""
    model = {"name": "monet", "encoder": {"layers": 4, "width": 64}, "orders": {"count": 120}}
    return RunConfig.model_validate({"model": model, "training": {"batch_size": 64}})


def face_config(options: argparse.Namespace) -> RunConfig:
    encoder: dict[str, Any] = {"name": options.encoder, "image_size": options.side}
    if options.encoder == "conv":
        encoder |= {"layers": 2, "width": 128}
    augmentation = {"rotation_degrees": 10, "flip": 0.5, "crop": 0.1, "brightness": 0.2, "contrast": 0.2}
    return RunConfig.model_validate(
        {
            "model": {"name": "vmnc", "encoder": encoder},
            "training": {"batch_size": options.batch, "augmentation": augmentation},
        }
    )


def hardware(device: torch.device) -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    gpu = f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    load = os.getloadavg()[0]
    return f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch{gpu}; load {load:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a dataset with images; default: noise of 224 x 224")
    parser.add_argument("--encoder", default="conv")
    parser.add_argument("--side", type=int, default=112, help="pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--bound", type=float, default=0.8, help="least share of a step in the model")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{hardware(device)}\ncommit {code_revision()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        toy = open_dataset(materialise("builtin://toy?count=1000&tasks=5", home))
        faces = open_dataset(materialise(options.data, home)) if options.data else draw_faces(home / "faces")
        shares = [
            measure("toy MONET, T=5, M=120", split_of(toy, toy_config()), toy_config(), device, options.epochs),
            measure(
                f"VMNC on {options.encoder}, augmented",
                split_of(faces, face_config(options)),
                face_config(options),
                device,
                options.epochs,
            ),
        ]
    short = [share for share in shares if share < options.bound]
    print(f"\n{'less than' if short else 'at least'} {options.bound:.0%} of a step in the model")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
