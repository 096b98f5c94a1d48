"""A `Source` of face crops from clips: the same for every dataset of people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from duchenne_jobs.data.digest import file_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.landmarks import SCHEME_5, SCHEME_49
from duchenne_jobs.data.faces.parse import class_names
from duchenne_jobs.data.ingesters.clips import Clip
from duchenne_jobs.data.ingesters.cut import CutPlan
from duchenne_jobs.data.ingesters.options import FaceOptions
from duchenne_jobs.data.ingesters.source import Source, Workshop
from duchenne_jobs.data.ingesters.workers import cut_all
from duchenne_jobs.data.manifest import Crop, Description, LandmarkScheme, Partitions

# A raw folder that `duchenne data synth` drew holds this file: what comes of it must not pass for the real dataset.
SYNTHETIC_MARK = "synthetic.json"


@dataclass(frozen=True)
class About:
    """What a dataset of people says of itself."""

    name: str
    tasks: tuple[str, ...]
    licence: str
    consent: str
    aligned_already: bool = False
    partitions: Partitions | None = None


def source_folder(source: str | Path | None, name: str) -> Path:
    """The raw folder as an absolute path.

    Raises:
        DatasetError: none is given, or it is no folder.
    """
    if source is None:
        raise DatasetError(f"{name} is read from its raw folder: duchenne data ingest {name} SRC DST")
    folder = Path(source).expanduser().absolute()
    if not folder.is_dir():
        raise DatasetError(f"no raw folder of {name} at {folder}; name the folder as its owners distribute it")
    return folder


def people(about: About, clips: Sequence[Clip], root: Path, faces: FaceOptions, notes: Sequence[str] = ()) -> Source:
    """Crops of the faces of `clips`, in their order.

    Raises:
        DatasetError: nothing to align by, class names that nobody gave, or no clip.
    """
    if not clips:
        raise DatasetError(f"{root} holds no labelled frame of {about.name}; name the raw folder")
    if (root / SYNTHETIC_MARK).is_file():
        about = replace(
            about,
            name=f"{about.name}-synthetic",
            licence="Drawn by this program; Apache-2.0.",
            consent="Drawn faces: no people are recorded.",
        )
    parser, maps = faces.parser(), faces.map_folder(root)
    points = _scheme(clips)
    if points is None and faces.detector is None and not about.aligned_already:
        raise DatasetError(
            f"nothing says where the faces of {about.name} are: give --landmarks FOLDER (one .npy or .csv a sequence), "
            "or --detector haar or model.onnx"
        )
    description = _description(
        about, clips, points, class_names(faces.classes, maps) if parser or maps else None, faces
    )
    plan = CutPlan(description, faces.size, faces.enlarge, None if points else faces.detector, parser)
    count = sum(len(clip.frames) for clip in clips)

    def tables(workshop: Workshop) -> Iterator[Any]:
        for part in cut_all(clips, plan, workshop):
            with pa.OSFile(str(part)) as file, pa.ipc.open_file(file) as reader:
                for index in range(reader.num_record_batches):
                    yield pa.Table.from_batches([reader.get_batch(index)])

    return Source(description, count, tables, resumable=True, notes=tuple(notes))


def _scheme(clips: Sequence[Clip]) -> LandmarkScheme | None:
    if clips[0].landmarks is not None:
        return LandmarkScheme(name=SCHEME_49, points=49)
    return LandmarkScheme(name=SCHEME_5, points=5) if clips[0].points is not None else None


def _description(
    about: About,
    clips: Sequence[Clip],
    points: LandmarkScheme | None,
    classes: tuple[str, ...] | None,
    faces: FaceOptions,
) -> Description:
    there = {
        "landmarks": points is not None,
        "parsing": classes is not None,
        "intensities": clips[0].intensities is not None,
    }
    columns = ("subject", "sequence", "frame", "image", "landmarks", "parsing", "labels", "intensities")
    parser = faces.parser()
    aligned_by = "landmarks" if points else _named_model(faces.detector) if faces.detector else "source"
    return Description(
        name=about.name,
        tasks=about.tasks,
        columns=tuple(column for column in columns if there.get(column, True)),
        landmark_scheme=points,
        parsing_classes=classes,
        crop=Crop(
            size=faces.size,
            enlarge=faces.enlarge,
            aligned_by=aligned_by,
            parsed_by=_named_model(str(parser)) if parser else "source" if classes else None,
        ),
        partitions=about.partitions,
        licence=about.licence,
        consent=about.consent,
    )


def _named_model(name: str) -> str:
    path = Path(name)
    return f"{path.name} {file_digest(path)}" if path.suffix == ".onnx" and path.is_file() else name
