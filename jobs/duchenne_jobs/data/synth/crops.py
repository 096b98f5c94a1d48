"""Drawn face crops straight into Arrow shards: the builtin dataset `faces`.

N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.landmarks import SCHEME_49, to_49
from duchenne_jobs.data.manifest import MANIFEST_NAME, Crop, Description, LandmarkScheme
from duchenne_jobs.data.schema import UNKNOWN
from duchenne_jobs.data.staging import staging_folder
from duchenne_jobs.data.synth.actions import POSITIVE, perform
from duchenne_jobs.data.synth.anatomy import make_subject
from duchenne_jobs.data.synth.annotation import noisy_intensities, uncoded
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.data.synth.paint import CLASSES
from duchenne_jobs.data.synth.pictures import encode_jpeg, encode_png
from duchenne_jobs.data.synth.render import Studio, crop_framing
from duchenne_jobs.data.synth.units import BP4D_AUS, TASKS
from duchenne_jobs.data.synth.write_bp4d import trial_frames
from duchenne_jobs.data.writer import DatasetWriter

ENLARGE = 1.3
"""Side of a drawn crop over that of its face as `data.faces.align` measures it, on average; `ingest`'s default."""
_ROWS = 256  # written at once


def write_crops(options: SynthOptions, target: Path) -> None:
    """Draw a dataset of aligned crops into the folder `target`, which appears complete in one rename.

    Eye centres of the face at rest lie at the same pixels in every crop; the head still turns, and the light changes.
    Another process that makes the same dataset at once is no harm.

    Raises:
        DatasetError: the folder can't be written.
    """
    try:
        with staging_folder(target.parent, f".{target.name}.partial-") as staging:
            partial = staging / target.name
            with DatasetWriter(partial, describe(options)) as writer:
                for index in range(options.subject_count):
                    for rows in _rows(options, index):
                        writer.write_rows(rows)
            try:
                partial.rename(target)
            except OSError:
                if not (target / MANIFEST_NAME).exists():  # else another process was first
                    raise
    except OSError as error:
        raise DatasetError(
            f"cannot write {target}: {error.strerror or error}; make room or choose another place"
        ) from error


def describe(options: SynthOptions) -> Description:
    """The manifest's description of the dataset with these options."""
    name = f"faces-like{options.like}-subjects{options.subject_count}-frames{options.frames}-seed{options.seed}"
    return Description(
        name=f"{name}-size{options.size}-noise{options.noise:g}",
        tasks=tuple(f"AU{number}" for number in TASKS[options.like]),
        columns=("subject", "sequence", "frame", "image", "landmarks", "parsing", "labels", "intensities"),
        landmark_scheme=LandmarkScheme(name=SCHEME_49, points=49),
        parsing_classes=CLASSES,
        crop=Crop(size=options.size, enlarge=ENLARGE, aligned_by="landmarks", parsed_by="source"),
        licence="Drawn by this program; Apache-2.0.",
        consent="Drawn faces: no people are recorded.",
    )


def _rows(options: SynthOptions, index: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of one subject, in the order of its frames, some at a time."""
    subject = make_subject(options.like, index, options.seed)
    performance = perform(options.like, options.frames, subject.seed)
    intensities, labels = _annotated(options, performance.intensities(TASKS[options.like]), subject.seed)
    studio = Studio(subject, performance, crop_framing(options.size))
    places = _places(options, subject.identifier)
    for start in range(0, options.frames, _ROWS):
        rows = []
        for frame in range(start, min(start + _ROWS, options.frames)):
            picture = studio.picture(frame)[0]
            sequence, number = places[frame]
            rows.append(
                {
                    "subject": subject.identifier,
                    "sequence": sequence,
                    "frame": number,
                    "image": encode_jpeg(picture.colours),
                    "landmarks": to_49(picture.landmarks[None]).reshape(-1),
                    "parsing": encode_png(picture.classes),
                    "labels": labels[frame],
                    "intensities": intensities[frame],
                }
            )
        yield rows


def _annotated(options: SynthOptions, clean: Any, seed: int) -> tuple[Any, Any]:
    """Intensities and labels (N, T) int8 as a coder would give them; BP4D's coders leave some out."""
    random = np.random.default_rng([seed, 5])
    intensities = noisy_intensities(clean, options.noise, random)
    labels = (intensities >= POSITIVE).astype(np.int8)
    if options.like == "bp4d":
        missing = [uncoded(len(trial), BP4D_AUS, random) for trial in trial_frames(options.frames)]
        intensities[np.concatenate(missing)] = labels[np.concatenate(missing)] = UNKNOWN
    return intensities, labels


def _places(options: SynthOptions, subject: str) -> list[tuple[str, int]]:
    """Sequence and frame number of each row, as the ingesters name them."""
    if options.like == "disfa":
        return [(subject, frame + 1) for frame in range(options.frames)]
    trials = enumerate(trial_frames(options.frames), start=1)
    return [(f"T{trial}", number + 1) for trial, frames in trials for number in range(len(frames))]
