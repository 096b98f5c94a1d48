"""The small sections of a sweep: who runs it, on which data and folds, within which budget, at which prices."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from duchenne_jobs.config import Config
from duchenne_jobs.data.builtin import parse_builtin
from duchenne_jobs.data.cache import DEFAULT_CACHE_BYTES, Kept
from duchenne_jobs.data.errors import DatasetError

SLUG_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
Slug = Annotated[str, Field(pattern=SLUG_PATTERN, max_length=40)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
PositiveAmount = Annotated[float, Field(gt=0.0, le=1e12)]
Price = Annotated[float, Field(ge=0.0, le=1e6)]

URI_SCHEMES = ("builtin", "s3", "file")
PROTOCOL_NAMES = ("bp4d", "disfa")
PROTOCOL_SUFFIXES = (".yaml", ".yml", ".json")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def split_uri(uri: str) -> tuple[str | None, str]:
    """(scheme, rest) of a dataset's URI; the scheme of a plain path is None."""
    match = _SCHEME.fullmatch(uri)
    return (match.group(1), match.group(2)) if match else (None, uri)


def _checked_uri(uri: str) -> str:
    scheme, rest = split_uri(uri)
    if scheme is not None and scheme not in URI_SCHEMES:
        raise ValueError(
            f"a URI must be a path, builtin://, s3:// or file://, but got {scheme}://; copy the data there"
        )
    if scheme is not None and "@" in rest.split("/", 1)[0]:
        # The value is not repeated: it may hold a secret.
        raise ValueError("a URI must not carry credentials, but got some; set them in the environment instead")
    if not rest.strip("/ "):
        raise ValueError(f"a URI must name a dataset, but got {uri!r}; add its path")
    if not uri.isprintable():
        raise ValueError(f"a URI must be printable, but got {uri!r}; remove control characters")
    try:
        parse_builtin(uri)
    except DatasetError as error:
        rule, _, hint = str(error).removeprefix(f"{uri}: ").partition("; ")
        raise ValueError(f"{rule.partition(', but got ')[0]}, but got {uri}; {hint or 'see docs/spec.md'}") from None
    return uri


def _checked_gpus(gpus: float) -> float:
    if gpus == 0 or gpus == int(gpus):
        return gpus
    sharers = int(1 / gpus + 1e-6)
    if gpus > 1 or gpus < 0.001 or sharers * gpus < 1 - 1e-4 * sharers:
        better = math.ceil(gpus) if sharers < 2 else math.floor(1e4 / min(sharers, 100)) / 1e4
        raise ValueError(
            f"workers must hold whole GPUs or share one to the full, but got {gpus:g}, which leaves a part that is "
            f"paid and idle; set it to {better:g}"
        )
    return gpus


def _checked_protocol(protocol: str | None) -> str | None:
    if protocol is None or protocol in PROTOCOL_NAMES or protocol.lower().endswith(PROTOCOL_SUFFIXES):
        return protocol
    raise ValueError(
        f"a protocol must be bp4d, disfa or the path of a .yaml, .yml or .json file, but got {protocol!r}; "
        "name one of them, or leave it out to deal the folds by `folds.seed`"
    )


def _checked_place(uri: str) -> str:
    scheme, rest = split_uri(uri)
    if scheme == "s3":
        return _checked_uri(uri)
    if scheme is None and rest.startswith("/") and rest.isprintable():
        return uri
    raise ValueError(
        "checkpoints must go to s3://bucket/prefix or to an absolute path, since workers have other working folders, "
        f"but got {uri!r}; write one of them, or leave it out to keep them in the home"
    )


def _checked_folder(folder: str | None) -> str | None:
    if folder is None or (folder.startswith(("/", "~")) and folder.isprintable()):
        return folder
    raise ValueError(
        f"a cache folder must be an absolute path, since each machine of the sweep has its own, but got {folder!r}; "
        "begin it with / or ~"
    )


class Metadata(Config):
    """Whose sweep it is and what it is called."""

    name: Slug = Field(description="Name of the sweep: lower-case letters, digits and hyphens, at most 40 characters.")
    team: Slug = Field("default", description="Team that the sweep, its costs and its entries belong to.")
    board: Slug | None = Field(
        None, description="Leaderboard that the entries appear on; null takes the name of the dataset."
    )


class DataSection(Config):
    """Which rows are learned from."""

    uri: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_checked_uri)] = Field(
        description="Dataset: a folder, `s3://bucket/prefix`, `builtin://yeast`, "
        "`builtin://toy?count=500&tasks=5&seed=0` or drawn faces, "
        "`builtin://faces?like=disfa&subjects=27&frames=100&seed=0&size=96&noise=0`. "
        "A relative path starts where `duchenne` is run."
    )
    protocol: Annotated[str | None, AfterValidator(_checked_protocol)] = Field(
        None,
        description="Published folds: `bp4d`, `disfa`, or the path of a folds file; null deals the subjects to folds "
        "by `folds.seed`. A relative path starts where `duchenne` is run.",
    )
    # Left out of what is recorded where nobody set them, so that the digest of a sweep stays what it always was.
    cache: Kept = Field(
        "encoded",
        description="What a machine keeps of faces for later epochs, beside the shards of a bucket. `encoded`: nothing "
        "more, images are decoded again; `decoded`: their pixels too, so that no later epoch decodes "
        "(small CPUs beside fast GPUs). The numbers are the same.",
        exclude_if=lambda cache: cache == "encoded",
    )
    cache_folder: Annotated[str | None, Field(min_length=1, max_length=2048), AfterValidator(_checked_folder)] = Field(
        None,
        description="Where each machine keeps it, an absolute path; null takes `$DUCHENNE_CACHE`, else the user's "
        "cache folder.",
        exclude_if=lambda folder: folder is None,
    )
    cache_gb: Annotated[float, Field(gt=0.0, le=1e6)] = Field(
        DEFAULT_CACHE_BYTES / 1e9,
        description="Most that the folder holds, in gigabytes (10^9 bytes); what was unused longest goes first.",
        exclude_if=lambda size: size == DEFAULT_CACHE_BYTES / 1e9,
    )


class CheckpointsSection(Config):
    """Where fold jobs keep what they resume from."""

    uri: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_checked_place)] = Field(
        description="`s3://bucket/prefix`, or the absolute path of a folder that every worker sees; each sweep has a "
        "folder of its own there, emptied of the search's when the sweep has succeeded."
    )


class Resources(Config):
    """What one worker of a fold job holds while it runs."""

    cpu: Annotated[float, Field(gt=0.0, le=4096.0)] = Field(1.0, description="CPU cores a worker.")
    gpu: Annotated[float, Field(ge=0.0, le=4096.0), AfterValidator(_checked_gpus)] = Field(
        0.0, description="GPUs a worker: whole ones, or 0.5, 0.3333, 0.25 and so on of one that workers share."
    )


class FoldsSection(Config):
    """Nested cross-validation: sealed outer test folds, inner folds for the search."""

    count: Annotated[int, Field(ge=2, le=1000)] = Field(
        3, description="Outer folds: each one's subjects are the sealed test set once."
    )
    inner: Annotated[int, Field(ge=2, le=1000)] = Field(
        3, description="Inner folds of each outer training set, from which the search's metric comes."
    )
    method: Literal["shuffled", "balanced", "holdout", "partition"] = Field(
        "shuffled",
        description="How subjects are dealt to folds. `shuffled`: at random by `seed`; `balanced`: then swapped until "
        "each fold holds its share of the label vectors of every block of tasks (Tallec 2023, eq. 4.13); `holdout`: "
        "one split into training, validation and test subjects instead of folds; `partition`: the same, as the "
        "dataset's owners split it (CelebA, RAF-DB). With `data.protocol` the outer folds are published, and it deals "
        "the inner ones.",
    )
    validation: Share | None = Field(
        None,
        description="holdout: share of the subjects that select a configuration and are never trained on; partition: "
        "the same, of the training subjects, where the owners have no validation partition.",
    )
    test: Share | None = Field(None, description="holdout: share of the subjects that are the sealed test set.")
    seed: Seed = Field(0, description="Seed by which subjects are dealt to folds.")
    without_positives: Literal["refuse", "train"] = Field(
        "refuse",
        description="A task without a positive label among the training rows of a fold. `refuse`: the sweep does not "
        "start; `train`: it does, and the task learns to say no.",
    )
    selection: Literal["shared", "per_fold"] = Field(
        "shared",
        description="`shared`: one configuration, by the mean over all inner folds (Tallec 2023, chapter 4); "
        "`per_fold`: each outer fold selects its own, by its own inner folds (strict nested cross-validation).",
    )
    workers_per_fold: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Workers that train one fold job together (data parallel)."
    )
    resources: Resources = Field(default_factory=Resources, description="What one worker holds.")

    @property
    def is_one_split(self) -> bool:
        """Whether subjects are split once, into training, validation and test, instead of into folds."""
        return self.method in ("holdout", "partition")

    @property
    def outer_count(self) -> int:
        """Test sets: 1 where there is one split."""
        return 1 if self.is_one_split else self.count

    @property
    def inner_count(self) -> int:
        """Validation sets within each training set: 1 where there is one split."""
        return 1 if self.is_one_split else self.inner

    @model_validator(mode="after")
    def _one_split_or_folds(self) -> Self:
        if self.method != "holdout" and (
            self.test is not None or (self.validation is not None and not self.is_one_split)
        ):
            raise ValueError(
                f"`validation` and `test` belong to method holdout, but got method={self.method}; set "
                "`method: holdout` or remove them"
            )
        if not self.is_one_split:
            return self
        if self.method == "holdout" and (self.validation is None or self.test is None):
            raise ValueError(
                "method holdout needs `validation` and `test`, but got not both; add the share of the subjects of each"
            )
        if (self.validation or 0) + (self.test or 0) >= 1:
            raise ValueError(
                f"`validation` + `test` < 1 must hold, but got {self.validation:g} + {self.test:g}; lower one"
            )
        if (self.count, self.inner) != (3, 3) or self.selection == "per_fold":
            raise ValueError(
                f"`count`, `inner` and `selection` belong to folds, but got method={self.method}; remove them"
            )
        return self


class BudgetSection(Config):
    """What the sweep may spend at most, over all its attempts. At least one limit is required."""

    usd: PositiveAmount | None = Field(None, description="Limit in US dollars, at `prices`; null for none.")
    gpu_hours: PositiveAmount | None = Field(None, description="Limit in GPU-hours; null for none.")
    wall_seconds: PositiveAmount | None = Field(None, description="Limit in seconds of wall time; null for none.")

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.usd is None and self.gpu_hours is None and self.wall_seconds is None:
            raise ValueError(
                "a budget must set a limit, but got none; set usd, gpu_hours or wall_seconds to a number above 0"
            )
        return self


class NodeType(Config):
    """What a kind of machine has and costs."""

    cpu: Annotated[float, Field(gt=0.0, le=4096.0)] = Field(description="CPU cores of the node.")
    gpu: Annotated[float, Field(ge=0.0, le=4096.0)] = Field(0.0, description="GPUs of the node.")
    memory_gib: Annotated[float, Field(gt=0.0, le=1e6)] = Field(description="Memory of the node in GiB.")
    on_demand_usd_per_hour: Price = Field(description="US dollars an hour of the whole node, on demand.")
    spot_usd_per_hour: Price | None = Field(None, description="The same on spot; null where it is not offered.")
    billing_quantum_seconds: Annotated[float, Field(gt=0.0, le=86400.0)] = Field(
        1.0, description="Seconds that the node is billed in: a part counts as a whole."
    )


class Prices(Config):
    """What an hour costs: a node type of a price file, or a price for each core and GPU. 0: nothing is charged."""

    cpu_hour_usd: Price = Field(0.0, description="US dollars an hour of one CPU core.")
    gpu_hour_usd: Price = Field(0.0, description="US dollars an hour of one GPU.")
    file: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        None, description="Price file (see docs/budget.md). A relative path starts where `duchenne` is run."
    )
    node: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="Node type of the price file that the fold jobs run on."
    )
    spot: bool = Field(False, description="Pay the node type's spot price.")
    listed: NodeType | None = Field(
        None, description="The node type itself, instead of a file; a recorded sweep keeps here what the file said."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.file is None) != (self.node is None):
            given = "node" if self.file is None else "file"
            raise ValueError(f"`file` and `node` go together, but got {given} alone; add the other one")
        by_node = self.file is not None or self.listed is not None
        if by_node and (self.cpu_hour_usd or self.gpu_hour_usd):
            raise ValueError(
                "a price is that of a node type or of cores and GPUs, but got both; "
                "remove cpu_hour_usd and gpu_hour_usd"
            )
        if self.spot and not by_node:
            raise ValueError("`spot` needs a node type, but got none; add file and node")
        if self.spot and self.listed is not None and self.listed.spot_usd_per_hour is None:
            raise ValueError(
                f"`spot` needs a node type with spot_usd_per_hour, but got {self.node or 'one'} without; "
                "set spot to false or add the price"
            )
        return self
