"""Where a sweep's checkpoints go: an option that changes no digest where it is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.search import SweepContext
from duchenne.search.jobs import baseline_jobs, search_jobs
from duchenne.spec.errors import SpecError
from duchenne.spec.loading import load_sweep_text

TEXT = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: s, team: t}
data: {uri: "builtin://toy"}
search: {space: {training.learning_rate: {grid: [0.1]}}, algorithm: grid}
comparators: [classifier_chain]
budget: {wall_seconds: 60}
"""


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("", None),
        ("checkpoints: {uri: 's3://bucket/kept/'}\n", "s3://bucket/kept/s-1"),
        ("checkpoints: {uri: /mnt/kept}\n", "/mnt/kept/s-1"),
    ],
)
def test_each_sweep_has_a_folder_of_its_own_there(line: str, place: str | None, tmp_path: Path) -> None:
    sweep = load_sweep_text(TEXT + line)
    context = SweepContext("s-1", sweep, "nowhere", "sha256:0", str(tmp_path))
    jobs = [*search_jobs(context, 0, sweep.base), *baseline_jobs(context)]
    assert {job.checkpoints for job in jobs} == {place}
    assert ("checkpoints" in sweep.model_dump(mode="json")) is (place is not None)


@pytest.mark.parametrize("uri", ["kept", "ftp://host/x", "s3://", "s3://key:secret@bucket/x", "builtin://toy"])
def test_a_place_that_workers_can_not_share_is_refused_by_name(uri: str) -> None:
    with pytest.raises(SpecError, match=r"checkpoints\.uri"):
        load_sweep_text(f"{TEXT}checkpoints: {{uri: '{uri}'}}\n")
