"""The stream beside LitData, MosaicML Streaming, WebDataset, Hugging Face datasets and Ray Data, in one run.

    make bench-peers                                      # the peers' environments, once
    python benchmarks/streaming.py --out results.txt      # 20,000 faces of 200 x 200
    python benchmarks/streaming.py --count 4000 --peers litdata hf

Faces are drawn by `builtin://faces`, made 200 x 200 JPEGs, and repeated with noise of their own until there are enough.
Every loader runs in a process of its own, one at a time. Speeds are images a second of whole epochs, then the CPU
milliseconds of the loader's process for an image, which a busy machine changes less; `warm` is the median of `--passes`
epochs over local files, `cold` one epoch from a moto server with an empty cache. The ceiling is a loop that decodes
JPEGs out of a list, in as many threads as there are CPUs, the mean of one before and one after the loaders. A loader
that gives a row twice, or none, has its speed struck out. Ray Data runs in the project's own environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from duchenne.driver.prepare import code_revision
from duchenne_jobs.data import DatasetWriter, Description, materialise, open_dataset, s3
from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.stream import FaceStream, shuffle_quality

HERE = Path(__file__).parent
SIDE = 200
BUCKET = "streaming-benchmark"
FACES = "builtin://faces?size=200&subjects=27&frames=12"
PEERS = {"litdata": "base", "mosaic": "base", "webdataset": "base", "hf": "hf", "raydata": ""}


def draw(count: int, home: Path) -> list[bytes]:
    """JPEGs of `count` faces, no two alike."""
    random = np.random.default_rng(0)
    column = open_dataset(materialise(FACES, home)).rows(["image"])["image"]
    drawn = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in column.to_pylist() if data]
    faces = []
    for number in range(count):
        noise = random.integers(-6, 7, (SIDE, SIDE, 3))
        pixels = np.clip(cv2.resize(drawn[number % len(drawn)], (SIDE, SIDE)) + noise, 0, 255).astype(np.uint8)
        faces.append(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return faces


def write_ours(faces: list[bytes], destination: str) -> None:
    description = Description(
        name="faces", tasks=("AU1", "AU2"), columns=("subject", "image", "labels"), licence="drawn", consent="no people"
    )
    with DatasetWriter(destination, description) as writer:
        for begin in range(0, len(faces), 500):
            part = faces[begin : begin + 500]
            writer.write_rows(
                [
                    {"subject": f"S{index % 27}", "image": data, "labels": [index % 2, -1]}
                    for index, data in enumerate(part)
                ]
            )


@contextmanager
def s3_server(log: Path) -> Generator[None]:
    """A moto server in a process of its own; its requests are in `log`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as file:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            os.environ |= {
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            }
            wait_for(port)
            yield
        finally:
            server.terminate()
            server.wait()


def wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the S3 server did not start within 30 s")


def upload(folder: Path, prefix: str) -> None:
    client = s3._client(20.0)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())


def ceiling(faces: list[bytes]) -> dict[str, Any]:
    """A bare loop in as many threads as there are CPUs, the decoder of the stream, no batches; the median of three."""

    def decode(part: list[bytes]) -> None:
        for data in part:
            simplejpeg.decode_jpeg(data)

    threads = len(os.sched_getaffinity(0))
    parts = [faces[begin : begin + 64] for begin in range(0, len(faces), 64)]
    speeds, cpu = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            began, used = time.perf_counter(), time.process_time()
            list(pool.map(decode, parts))
            speeds.append(len(faces) / (time.perf_counter() - began))
            cpu.append((time.process_time() - used) / len(faces) * 1e3)
    return {"pixels": {"images_s": statistics.median(speeds), "cpu_ms": statistics.median(cpu), "once": True}}


def epoch(stream: FaceStream, count: int) -> dict[str, Any]:
    began, used = time.perf_counter(), time.process_time()
    first, ids = None, []
    for batch in stream:
        first = first or time.perf_counter() - began
        ids.append(batch.rows.numpy())
    seconds = time.perf_counter() - began
    rows = np.concatenate(ids)
    return {
        "images_s": count / seconds,
        "first_s": first,
        "cpu_ms": (time.process_time() - used) / count * 1e3,
        "once": np.array_equal(np.sort(rows), np.arange(count)),
        "order": rows,
        "peak_mb": peak_mb(),
    }


def ours(mode: str, uri: str, cache: Path, passes: int) -> dict[str, Any]:
    """What `measure.py` prints of a peer, of the stream."""
    dataset = open_dataset(uri, cache=ShardCache(cache))
    count = dataset.row_count
    if mode == "cold":
        return {"pixels": plain(epoch(FaceStream(dataset, size=(SIDE, SIDE), seed=1), count))}
    results: dict[str, Any] = {}
    for name, kind in (("pixels", "encoded"), ("bytes", "bytes"), ("decoded", "decoded")):
        stream = FaceStream(dataset, size=(SIDE, SIDE), seed=1, cache=kind)  # type: ignore[arg-type]
        epoch(stream, count)  # the first opens the files, or decodes them for good
        runs = sorted((epoch(stream, count) for _ in range(passes)), key=lambda run: float(run["images_s"]))
        middle = runs[len(runs) // 2]
        results[name] = plain(middle) | {"once": all(run["once"] for run in runs)}
        if name == "pixels":
            results["shuffle"] = vars(shuffle_quality(middle["order"]))
    results["resume"] = resumes(lambda: FaceStream(dataset, size=(SIDE, SIDE), seed=1, cache="bytes"))
    return results


def peak_mb() -> float:
    """Largest resident memory since the process began; `ru_maxrss` would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def plain(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name != "order"} | {"once": bool(run["once"])}


def resumes(make: Callable[[], FaceStream]) -> bool:
    """Whether an epoch that is cut off at its third batch goes on with exactly the rows that it had left."""
    whole = [batch.rows.tolist() for batch in make()]
    stream = make()
    iterator = iter(stream)
    head = [next(iterator).rows.tolist() for _ in range(3)]
    state = stream.state_dict()
    del iterator
    again = make()
    again.load_state_dict(state)
    return head + [batch.rows.tolist() for batch in again] == whole


def run_json(command: list[str], limit: float) -> dict[str, Any] | str:
    """The JSON on the last line of a command's output, or why there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {limit:g} s"
    lines = [line for line in (done.stdout if done.returncode == 0 else done.stderr).splitlines() if line.strip()]
    if done.returncode:
        reasons = [line for line in lines if "Error" in line] or lines or [f"exit {done.returncode}"]
        return reasons[-1][:140]
    result: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return result


def gets(log: Path) -> int:
    return sum(b'"GET ' in line or b"GET /" in line for line in log.read_bytes().splitlines())


class Table:
    """Prints what was measured, and keeps it for a file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def row(self, name: str, result: dict[str, Any] | str, cold: dict[str, Any] | str, requests: float | None) -> None:
        def speed(source: dict[str, Any] | str, kind: str) -> str:
            run = source.get(kind) if isinstance(source, dict) else None
            if run is None:
                return "-"
            return f"{run['images_s']:.0f} / {run['cpu_ms']:.3f}" if run["once"] else "rows lost or twice"

        warm = result.get("pixels", {}) if isinstance(result, dict) else {}
        cells = [
            name,
            speed(result, "pixels"),
            speed(result, "bytes"),
            speed(result, "decoded"),
            f"{warm['first_s']:.2f}" if "first_s" in warm else "-",
            speed(cold, "pixels"),
            "-" if requests is None else f"{requests:.1f}",
            f"{warm['peak_mb']:.0f}" if "peak_mb" in warm else "-",
        ]
        self.say("| " + " | ".join(cells) + " |")
        for source in (result, cold):
            if isinstance(source, str) and source:
                self.say(f"  {name}: {source}")


Run = dict[str, Any] | str


def ratios(ours: tuple[Run, Run], peers: list[tuple[Run, Run]], bare: list[dict[str, Any]]) -> Generator[str]:
    """This stream over the best peer and over the bare loop, by images a second and by CPU time, and the aims."""

    def runs(sources: list[Run], kind: str) -> list[dict[str, Any]]:
        found = [source.get(kind) for source in sources if isinstance(source, dict)]
        return [run for run in found if run is not None and run["once"]]

    warm, cold = [peer[0] for peer in peers], [peer[1] for peer in peers]
    ceilings = [run["pixels"] for run in bare]
    for what, mine, others, aim in (
        ("warm over the bare loop", runs([ours[0]], "pixels"), None, 0.9),
        ("warm over the best peer", runs([ours[0]], "pixels"), runs(warm, "pixels"), 1),
        ("bytes over the best peer", runs([ours[0]], "bytes"), runs(warm, "bytes"), 1.2),
        ("decoded over the best peer", runs([ours[0]], "decoded"), runs(warm, "pixels"), 3),
        ("cold over the best peer", runs([ours[1]], "pixels"), runs(cold, "pixels"), 1.1),
    ):
        if not mine or others == []:
            continue
        if others is None:
            speed, cpu = (statistics.mean(run[name] for run in ceilings) for name in ("images_s", "cpu_ms"))
        else:
            speed, cpu = max(run["images_s"] for run in others), min(run["cpu_ms"] for run in others)
        by_speed, by_cpu = mine[0]["images_s"] / speed, cpu / mine[0]["cpu_ms"]
        yield f"{what}: {by_speed:.2f} by images/s, {by_cpu:.2f} by CPU time; aim {aim}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="faces")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--environments", type=Path, default=HERE.parent / "build" / "peers", help="of the peers")
    parser.add_argument("--limit", type=float, default=600, help="seconds that one loader may take")
    parser.add_argument("--passes", type=int, default=3, help="warm epochs of each loader, of which the median counts")
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--ours", nargs=3, metavar=("MODE", "URI", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        mode, uri, cache = arguments.ours
        print(json.dumps(ours(mode, uri, Path(cache), arguments.passes)))
        return
    table = Table()
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name) / "s3.log"):
        compare(arguments, Path(name), table)
    if arguments.out:
        arguments.out.write_text("\n".join(table.lines) + "\n")


def compare(arguments: argparse.Namespace, folder: Path, table: Table) -> None:
    s3._client(20.0).create_bucket(Bucket=BUCKET)
    faces = draw(arguments.count, folder / "home")
    np.save(folder / "lengths.npy", [len(face) for face in faces])
    (folder / "images.bin").write_bytes(b"".join(faces))
    log = folder / "s3.log"
    table.say(f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs")
    table.say(f"commit {code_revision()}, load {', '.join(f'{load:.1f}' for load in os.getloadavg())} at the start")
    megabytes = sum(map(len, faces)) / 1e6
    table.say(
        f"{len(faces)} faces of {SIDE} x {SIDE}, {megabytes:.0f} MB, batches of 64, warm epochs: {arguments.passes}"
    )
    table.say("")
    table.say(
        "| loader | warm, images/s / CPU ms | bytes only | decoded cache | first batch, s | cold | GETs / 1000 | MB |"
    )
    table.say("|---|---|---|---|---|---|---|---|")
    bare = [ceiling(faces)]
    table.row("bare loop (ceiling)", bare[0], "", None)
    write_ours(faces, str(folder / "ours"))
    write_ours(faces, f"s3://{BUCKET}/ours")
    before = gets(log)
    passes = ["--passes", str(arguments.passes)]
    command = [sys.executable, __file__, *passes, "--ours"]
    cold_of_ours = run_json([*command, "cold", f"s3://{BUCKET}/ours", str(folder / "cache-ours")], arguments.limit)
    requests = (gets(log) - before) / len(faces) * 1000
    warm = run_json([*command, "warm", str(folder / "ours"), str(folder / "cache-ours")], arguments.limit)
    table.row("this stream", warm, cold_of_ours, requests)
    peers: list[tuple[dict[str, Any] | str, dict[str, Any] | str]] = []
    for peer in arguments.peers:
        own = arguments.environments / PEERS[peer] / "bin" / "python"
        python = own if PEERS[peer] else Path(sys.executable)
        measure = [str(python), str(HERE / "peers" / "measure.py"), *passes, peer]
        failed = run_json([*measure, "write", str(folder)], arguments.limit)
        if isinstance(failed, str):
            table.row(peer, failed, "", None)
            continue
        upload(folder / peer, peer)
        before = gets(log)
        place = ["--url", f"s3://{BUCKET}/{peer}", "--cache", str(folder / f"cache-{peer}")]
        (folder / f"cache-{peer}").mkdir()
        cold = run_json([*measure, "cold", str(folder), *place], arguments.limit)
        requests = (gets(log) - before) / len(faces) * 1000
        peers.append((run_json([*measure, "warm", str(folder)], arguments.limit), cold))
        table.row(peer, *peers[-1], requests)
    bare.append(ceiling(faces))
    table.row("bare loop again", bare[1], "", None)
    table.say("")
    if isinstance(warm, dict):
        table.say(f"this stream: exact resume {warm['resume']}, shuffle {warm['shuffle']}")
    for line in ratios((warm, cold_of_ours), peers, bare):
        table.say(line)
    table.say(f"load {', '.join(f'{load:.1f}' for load in os.getloadavg())} at the end")


if __name__ == "__main__":
    main()
