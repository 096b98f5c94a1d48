"""What travels with a sweep, and what it means where it arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.clusters.limits import Limits
from duchenne.clusters.portable import entrypoint_words, portable_files
from duchenne.plan.teams import TEAMS_VARIABLE, team_limits
from duchenne.records import Amounts
from duchenne.spec import load_sweep_text

TEXT = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: small, team: faces}
data: {uri: "builtin://toy"}
budget: {wall_seconds: 60}
"""


@pytest.mark.parametrize(
    ("there", "shipped", "expected"),
    [
        ("faces: {usd_per_month: 100}", None, Amounts(usd=100)),
        (None, "faces: {usd_per_month: 50}", Amounts(usd=50)),
        ("faces: {usd_per_month: 100}", "faces: {usd_per_month: 50}", Amounts(usd=50)),
        ("faces: {usd_per_month: 100}", "faces: {usd_per_month: 500}", Amounts(usd=100)),  # nobody raises their own
        ("faces: {usd_per_month: 9}", "faces: {gpu_hours_per_month: 1}", Amounts(usd=9, gpu_seconds=3600)),
        ("video: {usd_per_month: 1}", None, None),
    ],
)
def test_the_tighter_of_the_homes_limits_and_the_submitters_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str | None, shipped: str | None, expected: Amounts | None
) -> None:
    if there is not None:
        (tmp_path / "teams.yaml").write_text(there)
    if shipped is not None:
        (tmp_path / "shipped.yaml").write_text(shipped)
        monkeypatch.setenv(TEAMS_VARIABLE, str(tmp_path / "shipped.yaml"))
    assert team_limits(tmp_path, "faces") == expected


def test_files_are_the_spec_and_the_teams_own_limits(tmp_path: Path) -> None:
    sweep = load_sweep_text(TEXT)
    assert set(portable_files(sweep, None)) == set(portable_files(sweep, tmp_path)) == {"sweep.yaml"}
    (tmp_path / "teams.yaml").write_text("faces: {usd_per_month: 100}\nvideo: {usd_per_month: 1}\n")
    files = portable_files(sweep, tmp_path)
    assert files["teams.yaml"] == "faces:\n  usd_per_month: 100.0\n"
    assert load_sweep_text(files["sweep.yaml"]) == sweep


def test_new_limits_are_options_of_the_entrypoint() -> None:
    words = entrypoint_words("s.yaml", "small-0", Limits(usd=2.5, gpu_hours=3))
    assert words == ["run", "s.yaml", "--id", "small-0", "--supervised", "--usd", "2.5", "--gpu-hours", "3"]
    assert entrypoint_words("s.yaml", "small-0") == words[:5]
