"""One loader, one run, in an environment of the loader's own: prints a JSON line of what was measured.

    python benchmarks/peers/measure.py LOADER MODE FOLDER [--url s3://BUCKET/PREFIX --cache FOLDER]

LOADER is litdata, mosaic, webdataset, hf, raydata or memory (a list: the ceiling). MODE is `write` (FOLDER gets the
loader's own format, made from FOLDER/images.bin), `cold` (from the S3 prefix URL with an empty CACHE) or `warm` (from
FOLDER, with and without decoding, the median of --passes epochs). All give their JPEGs to torchvision's decoder, in the
loader's own process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_jpeg

SHARD_BYTES = 64 * 2**20
Sample = tuple[int, bytes]


def images(folder: Path) -> list[bytes]:
    """The JPEGs, written by the benchmark as lengths and bytes."""
    lengths = np.load(folder / "lengths.npy").tolist()
    with (folder / "images.bin").open("rb") as file:
        return [file.read(length) for length in lengths]


def decoded(data: bytes) -> torch.Tensor:
    return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)


def collate(pixels: bool) -> Callable[[list[Sample]], tuple[list[int], Any]]:
    def together(samples: list[Sample]) -> tuple[list[int], Any]:
        ids = [int(number) for number, _ in samples]
        datas = [bytes(data) for _, data in samples]
        return ids, torch.stack([decoded(data) for data in datas]) if pixels else datas

    return together


def write_litdata(folder: Path) -> None:
    import litdata

    out = folder / "litdata"
    writer = litdata.streaming.writer.BinaryWriter(str(out), chunk_bytes=SHARD_BYTES)
    for number, data in enumerate(images(folder)):
        writer[number] = {"id": number, "jpeg": data}
    writer.done()
    writer.merge()


def read_litdata(folder: Path, url: str | None, cache: Path) -> Iterable[Sample]:
    from litdata import StreamingDataset

    options: dict[str, Any] = {}
    if url is not None:
        options["storage_options"] = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
        options["cache_dir"] = str(cache)
    data = StreamingDataset(url or str(folder / "litdata"), shuffle=True, seed=1, **options)
    return ((int(sample["id"]), sample["jpeg"]) for sample in data)


def write_mosaic(folder: Path) -> None:
    from streaming import MDSWriter

    columns = {"id": "int", "jpeg": "bytes"}
    with MDSWriter(out=str(folder / "mosaic"), columns=columns, size_limit=SHARD_BYTES) as writer:
        for number, data in enumerate(images(folder)):
            writer.write({"id": number, "jpeg": data})


def read_mosaic(folder: Path, url: str | None, cache: Path) -> Iterable[Sample]:
    import streaming

    streaming.base.util.clean_stale_shared_memory()
    os.environ["S3_ENDPOINT_URL"] = os.environ.get("AWS_ENDPOINT_URL", "")
    local = str(cache) if url is not None else str(folder / "mosaic")
    data = streaming.StreamingDataset(remote=url, local=local, shuffle=True, shuffle_seed=1, batch_size=64)
    return ((int(sample["id"]), sample["jpeg"]) for sample in data)


def write_webdataset(folder: Path) -> None:
    out = folder / "webdataset"
    out.mkdir()
    everything = images(folder)
    share = max(1, int(SHARD_BYTES / (sum(map(len, everything)) / len(everything))))
    for shard, begin in enumerate(range(0, len(everything), share)):
        with tarfile.open(out / f"{shard:05d}.tar", "w") as tar:
            for number in range(begin, min(begin + share, len(everything))):
                entry = tarfile.TarInfo(f"{number:08d}.jpg")
                entry.size = len(everything[number])
                tar.addfile(entry, io.BytesIO(everything[number]))


def read_webdataset(folder: Path, url: str | None, cache: Path) -> Iterable[Sample]:
    import webdataset

    names = sorted(path.name for path in (folder / "webdataset").glob("*.tar"))
    if url is None:
        places = [str(folder / "webdataset" / name) for name in names]
    else:
        # It has no S3 client of its own; its documentation pipes a command line tool. This one only needs boto3.
        fetch = Path(__file__).with_name("cat_s3.py")
        places = [f"pipe:{sys.executable} {fetch} {url}/{name}" for name in names]
    options = {"cache_dir": str(cache)} if url is not None else {}
    data = webdataset.WebDataset(places, shardshuffle=100, seed=1, **options).shuffle(1000)
    return ((int(sample["__key__"]), sample["jpg"]) for sample in data)


def write_hf(folder: Path) -> None:
    import datasets

    everything = images(folder)
    data = datasets.Dataset.from_dict({"id": list(range(len(everything))), "jpeg": everything})
    data.save_to_disk(str(folder / "hf"), max_shard_size=SHARD_BYTES)


def read_hf(folder: Path, url: str | None, cache: Path) -> Iterable[Sample]:
    import datasets

    place = url or str(folder / "hf")
    if url is not None and not (cache / "hf").exists():
        import s3fs

        s3fs.S3FileSystem().get(url.removeprefix("s3://"), str(cache / "hf"), recursive=True)
    data = datasets.load_from_disk(str(cache / "hf") if url is not None else place).shuffle(seed=1)
    return ((row["id"], row["jpeg"]) for row in data)


def write_raydata(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    everything = images(folder)
    share = max(1, int(SHARD_BYTES / (sum(map(len, everything)) / len(everything))))
    (folder / "raydata").mkdir()
    for begin in range(0, len(everything), share):
        part = everything[begin : begin + share]
        table = pa.table({"id": list(range(begin, begin + len(part))), "jpeg": pa.array(part, pa.binary())})
        pa.parquet.write_table(table, folder / "raydata" / f"{begin:08d}.parquet", row_group_size=1024)


def read_raydata(folder: Path, url: str | None, cache: Path) -> Iterable[Sample]:
    """Ray is up before the clock runs: its start belongs to a job, not to an epoch."""
    import pyarrow.fs
    import ray

    place, filesystem = str(folder / "raydata"), None
    if url is not None:
        place = url.removeprefix("s3://")
        endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        filesystem = pyarrow.fs.S3FileSystem(endpoint_override=endpoint, scheme="http", region="us-east-1")
    data = ray.data.read_parquet(place, filesystem=filesystem, shuffle="files")
    batches = data.iter_batches(batch_size=64, batch_format="numpy", local_shuffle_buffer_size=1024)
    return (sample for batch in batches for sample in zip(batch["id"].tolist(), batch["jpeg"], strict=True))


def start_ray() -> None:
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False


def read_memory(folder: Path, url: str | None, cache: Path) -> Iterable[Sample]:
    """The ceiling: a list of JPEGs."""
    everything = images(folder)
    order = np.random.default_rng(1).permutation(len(everything)).tolist()
    return ((number, everything[number]) for number in order)


LOADERS: dict[str, tuple[Callable[[Path], None] | None, Callable[[Path, str | None, Path], Iterable[Sample]]]] = {
    "memory": (None, read_memory),
    "litdata": (write_litdata, read_litdata),
    "mosaic": (write_mosaic, read_mosaic),
    "webdataset": (write_webdataset, read_webdataset),
    "hf": (write_hf, read_hf),
    "raydata": (write_raydata, read_raydata),
}


def peak_mb() -> float:
    """Largest resident memory since the process began; `ru_maxrss` would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Stream(torch.utils.data.IterableDataset[Sample]):
    def __init__(self, samples: Iterable[Sample]) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


def timed(samples: Callable[[], Iterable[Sample]], batch: int, pixels: bool) -> dict[str, Any]:
    """One epoch, from the making of the loader on."""
    began, cpu = time.perf_counter(), time.process_time()
    first, ids = None, []
    for numbers, _ in DataLoader(Stream(samples()), batch_size=batch, collate_fn=collate(pixels)):
        first = first or time.perf_counter() - began
        ids += numbers
    seconds = time.perf_counter() - began
    return {
        "images_s": len(ids) / seconds,
        "first_s": first,
        "cpu_ms": (time.process_time() - cpu) / len(ids) * 1e3,
        "once": len(ids) == len(set(ids)),
        "rows": len(ids),
        "peak_mb": peak_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("loader", choices=LOADERS)
    parser.add_argument("mode", choices=("write", "cold", "warm"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--passes", type=int, default=3, help="warm epochs, of which the median counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write, read = LOADERS[arguments.loader]
    if arguments.mode == "write":
        if write is not None:
            write(arguments.folder)
        return
    if arguments.loader == "raydata":
        start_ray()
    url = arguments.url if arguments.mode == "cold" else None
    results = {}
    for name, pixels, passes in (
        ("pixels", True, 1 if url else arguments.passes),
        ("bytes", False, 0 if url else arguments.passes),
    ):
        make = partial(read, arguments.folder, url, arguments.cache)
        runs = [timed(make, arguments.batch, pixels) for _ in range(passes)]
        if runs:
            best = sorted(runs, key=lambda run: run["images_s"])[len(runs) // 2]
            results[name] = best | {"once": all(run["once"] for run in runs)}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
