"""The stream in workers of a real Ray Train: two of them, then three go on from the checkpoint of the two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from duchenne_jobs.data import Dataset
from duchenne_jobs.data.stream import FaceStream

pytestmark = pytest.mark.service  # a minute of Ray
LIMIT_SECONDS = 240

TRAIN = """
import json, os, sys, tempfile
from pathlib import Path
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
import ray
from ray import train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

uri, folder = sys.argv[1:]


def loop(settings):
    import json, tempfile
    from pathlib import Path
    from ray import train
    from duchenne_jobs.data import FaceStream, open_dataset

    stream = FaceStream(open_dataset(settings["uri"]), cache="bytes", batch_size=16, seed=3)
    if settings["state"]:
        stream.load_state_dict(settings["state"])
    context = train.get_context()
    rows = []
    for step, batch in enumerate(stream):
        rows += batch.rows.tolist()
        if step + 1 == settings["steps"]:
            break
    place = f"{context.get_world_size()}-{context.get_world_rank()}.json"
    Path(settings["folder"], place).write_text(json.dumps(rows))
    with tempfile.TemporaryDirectory() as kept:
        Path(kept, "stream.json").write_text(json.dumps(stream.state_dict()))
        first = context.get_world_rank() == 0
        train.report({}, checkpoint=train.Checkpoint.from_directory(kept) if first else None)


ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
state = None
for workers, steps in ((2, 3), (3, -1)):
    result = DataParallelTrainer(
        loop,
        train_loop_config={"uri": uri, "folder": folder, "state": state, "steps": steps},
        scaling_config=train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
        run_config=train.RunConfig(storage_path=folder, name=f"with-{workers}"),
    ).fit()
    with result.checkpoint.as_directory() as kept:
        state = json.loads(Path(kept, "stream.json").read_text())
print(json.dumps(state))
"""


def test_two_workers_then_three_see_each_row_once(jpegs: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", TRAIN, jpegs.uri, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert set(rows) == {"2-0", "2-1", "3-0", "3-1", "3-2"}
    assert [len(rows[name]) for name in ("2-0", "2-1")] == [48, 48]
    alone = [row for batch in FaceStream(jpegs, cache="bytes", batch_size=16, seed=3) for row in batch.rows.tolist()]
    assert sorted(row for part in rows.values() for row in part) == sorted(alone)
    assert sorted(rows["2-0"] + rows["2-1"]) == sorted(alone[:96])
    assert json.loads(done.stdout.splitlines()[-1])["epoch"] == 1
