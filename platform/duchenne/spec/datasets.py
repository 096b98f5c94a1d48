"""What is known of a sweep's dataset and folds: from names alone (pure), and from small files on this disk.

Rows are never read here. A dataset or folds file that is not there yet is a note, not a fault: a sweep may be written
before its data is ingested.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path as FilePath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from duchenne.spec.encoders import possible_encoders
from duchenne.spec.errors import Fault, Path
from duchenne.spec.guidance import guidance_file_faults
from duchenne.spec.inputs import DataColumns, input_faults
from duchenne.spec.orders import order_task_faults
from duchenne.spec.sections import PROTOCOL_NAMES, DataSection, FoldsSection, split_uri
from duchenne_jobs.data.builtin import builtin_subject_count, builtin_subjects
from duchenne_jobs.data.errors import DatasetError, FoldError
from duchenne_jobs.data.manifest import MANIFEST_NAME, Manifest, parse_manifest
from duchenne_jobs.data.protocol import Protocol, load_protocol

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

MAX_MANIFEST_BYTES = 64 * 2**20
_COUNT: Path = ("folds", "count")
_PROTOCOL: Path = ("data", "protocol")
_VALIDATION: Path = ("folds", "validation")
_NO_PARTITION = Fault(
    ("folds", "method"),
    "a partition is that of a dataset's owners, and this one has none",
    "partition",
    "choose another method, or ingest the dataset again if an earlier version wrote it",
)


def named_faults(data: DataSection, folds: FoldsSection) -> Iterator[Fault]:
    """Folds that can't fit the dataset or the published protocol, as far as their names tell."""
    protocol = _named_protocol(data.protocol)
    subjects = builtin_subject_count(data.uri)
    yield from _fold_faults(folds, protocol, subjects)
    if folds.method == "partition" and subjects is not None:
        yield _NO_PARTITION


def file_faults(sweep: Sweep) -> list[Fault]:
    """What can't fit the dataset's manifest or the folds file, where these are on this disk."""
    data, folds = sweep.data, sweep.folds
    protocol = _named_protocol(data.protocol)
    if data.protocol is not None and protocol is None and _is_file(data.protocol):
        try:
            protocol = load_protocol(data.protocol)
        except FoldError as error:
            return [Fault(_PROTOCOL, "must be a folds file", str(error), "mend the file or name another")]
    manifest = local_manifest(data.uri)
    subjects = manifest.subject_count if manifest is not None else builtin_subject_count(data.uri)
    # What names alone tell was checked when the sweep was built.
    faults = [fault for fault in _fold_faults(folds, protocol, subjects) if fault not in named_faults(data, folds)]
    listed = {subject for shard in manifest.shards for subject in shard.subjects} if manifest is not None else None
    names = listed or builtin_subjects(data.uri)
    if not faults and names is not None and protocol is not None:
        try:
            protocol.plan(set(names))
        except FoldError as error:
            rule, _, hint = str(error).partition("; ")
            faults.append(Fault(_PROTOCOL, rule, None, hint or "name another protocol or dataset"))
    columns = DataColumns.of_builtin(data.uri) if manifest is None else DataColumns.of(manifest)
    if columns is not None:
        faults += input_faults(sweep, columns)
    if manifest is None:
        return faults
    faults += _partition_faults(folds, manifest)
    return [*faults, *guidance_file_faults(sweep, manifest), *order_task_faults(sweep, manifest.tasks)]


def notes(sweep: Sweep) -> list[str]:
    """What a reader should know of a valid sweep: data that is not there yet, limits that never bind. One line each."""
    return [
        *_data_notes(sweep.data),
        *_cache_notes(sweep),
        *_weight_notes(sweep),
        *_budget_notes(sweep),
        *_engine_notes(sweep),
    ]


def _engine_notes(sweep: Sweep) -> Iterator[str]:
    if sweep.cluster != "local":
        yield f"cluster: `duchenne run` runs on this machine, whatever {sweep.cluster} is"


def _fold_faults(folds: FoldsSection, protocol: Protocol | None, subjects: int | None) -> Iterator[Fault]:
    """`subjects`: how many the dataset has; None where nobody knows yet."""
    if folds.is_one_split:
        yield from _one_split_faults(folds, protocol, subjects)
        return
    parts = tuple(len(part) for part in protocol.parts) if protocol is not None else ()
    if protocol is not None and len(parts) != folds.count:
        rule = f"protocol {protocol.name} has {len(parts)} folds"
        yield Fault(_COUNT, rule, str(folds.count), f"set folds.count to {len(parts)}")
        return
    if protocol is not None and subjects is not None and subjects != sum(parts):
        rule = f"a protocol must name the dataset's subjects: {protocol.name} has {sum(parts)}, the dataset {subjects}"
        yield Fault(_PROTOCOL, rule, None, "leave protocol out, or name the one of this dataset")
        return
    known = sum(parts) if parts else subjects
    if known is None:
        return
    if folds.count > known:
        rule = f"folds <= subjects must hold, and the dataset has {known} subjects"
        yield Fault(_COUNT, rule, str(folds.count), "lower folds.count or take a larger dataset")
        return
    # The largest test fold leaves the fewest subjects to deal to inner folds.
    training = known - (max(parts) if parts else -(-known // folds.count))
    if folds.inner > training:
        rule = f"inner folds <= training subjects must hold, and a fold may train on {training}"
        yield Fault(("folds", "inner"), rule, str(folds.inner), "lower folds.inner or take a larger dataset")


def _one_split_faults(folds: FoldsSection, protocol: Protocol | None, subjects: int | None) -> Iterator[Fault]:
    if protocol is not None:
        yield Fault(
            _PROTOCOL,
            f"a protocol has folds, and method {folds.method} has none",
            protocol.name,
            "leave one of them out",
        )
    elif subjects is not None and folds.method == "holdout":
        test, validation = round((folds.test or 0) * subjects), round((folds.validation or 0) * subjects)
        if min(test, validation, subjects - test - validation) < 1:
            rule = f"training, validation and test must have a subject each, and the dataset has {subjects}"
            value = f"{subjects - test - validation}, {validation} and {test}"
            yield Fault(("folds", "test"), rule, value, "change folds.validation and folds.test")


def _partition_faults(folds: FoldsSection, manifest: Manifest) -> Iterator[Fault]:
    """Whether the dataset's owners split it, and whether a share of the training subjects has to validate."""
    if folds.method != "partition":
        return
    if manifest.partitions is None:
        yield _NO_PARTITION
    elif manifest.partitions.validation is not None and folds.validation is not None:
        rule = "a share validates where the owners have no validation partition, and this dataset has one"
        yield Fault(_VALIDATION, rule, f"{folds.validation:g}", "remove it")
    elif manifest.partitions.validation is None and folds.validation is None:
        rule = f"the owners of {manifest.name} have no validation partition"
        yield Fault(_VALIDATION, rule, None, "add the share of the training subjects that validates")


@cache
def _named_protocol(protocol: str | None) -> Protocol | None:
    return load_protocol(protocol) if protocol in PROTOCOL_NAMES and protocol is not None else None


def _is_file(path: str) -> bool:
    try:
        return FilePath(path).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # no home folder, a null byte, a name too long
        return False


def _local_folder(uri: str) -> FilePath | None:
    scheme, _ = split_uri(uri)
    if scheme not in (None, "file"):
        return None
    text = unquote(urlsplit(uri).path) if scheme == "file" else uri
    try:
        return FilePath(text).expanduser()
    except RuntimeError:  # `~name` of a user that there is not
        return FilePath(text)


def local_manifest(uri: str) -> Manifest | None:
    """The manifest of a dataset on this disk; None where there is none that can be read (see `notes`)."""
    folder = _local_folder(uri)
    if folder is None:
        return None
    try:
        with (folder / MANIFEST_NAME).open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        return parse_manifest(content, uri) if len(content) <= MAX_MANIFEST_BYTES else None
    except (OSError, ValueError, DatasetError):
        return None


def _data_notes(data: DataSection) -> Iterator[str]:
    scheme, _ = split_uri(data.uri)
    if scheme == "s3":
        yield f"data.uri: {data.uri} was not looked at; the number of subjects is checked when the sweep runs"
    folder = _local_folder(data.uri)
    if folder is not None and local_manifest(data.uri) is None:
        there = _is_file(str(folder / MANIFEST_NAME))
        what = f"has a {MANIFEST_NAME} that can't be read" if there else f"has no {MANIFEST_NAME} yet"
        yield f"data.uri: {data.uri} {what}; `duchenne data ingest` makes it, and `run` refuses until then"
    if data.protocol is not None and data.protocol not in PROTOCOL_NAMES and not _is_file(data.protocol):
        yield f"data.protocol: there is no file {data.protocol} yet; `run` refuses until then"


def _cache_notes(sweep: Sweep) -> Iterator[str]:
    """Decoded faces beyond the cache's limit are decoded each time: say so before, not in a worker's log."""
    manifest = local_manifest(sweep.data.uri) if sweep.data.cache == "decoded" else None
    if manifest is None:
        return
    stored = manifest.crop.size if manifest.crop is not None else 0
    sides = [encoder.image_size or stored for encoder in possible_encoders(sweep)]
    needed = manifest.row_count * 3 * max(sides, default=stored) ** 2 / 1e9
    if needed > sweep.data.cache_gb:
        yield (
            f"data.cache_gb: the decoded faces take {needed:.1f} GB and {sweep.data.cache_gb:g} are allowed; those "
            "that don't fit are decoded each time"
        )


def _weight_notes(sweep: Sweep) -> Iterator[str]:
    for weights in sorted({encoder.weights for encoder in possible_encoders(sweep) if encoder.weights is not None}):
        if "://" not in weights and not _is_file(weights):
            yield f"model.encoder.weights: there is no file {weights} yet; `run` refuses until then"


def _budget_notes(sweep: Sweep) -> Iterator[str]:
    budget, prices, resources = sweep.budget, sweep.prices, sweep.folds.resources
    free = prices.cpu_hour_usd == 0 and (prices.gpu_hour_usd == 0 or resources.gpu == 0)
    if budget.usd is not None and free:
        yield "budget.usd: no price is set for what the fold jobs hold, so that dollars never run out; set prices"
    if budget.gpu_hours is not None and resources.gpu == 0:
        yield "budget.gpu_hours: fold jobs hold no GPU, so that GPU-hours never run out; set folds.resources.gpu"
