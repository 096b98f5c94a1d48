"""Published and own fold protocols."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from duchenne_jobs.data import FoldError, load_protocol
from duchenne_jobs.data.protocol import packaged_protocols

SHARED = Path(__file__).parents[4] / "shared" / "protocols" / "folds.yaml"


def test_the_packaged_protocols_have_the_fields_subjects_and_tasks() -> None:
    assert packaged_protocols() == ("bp4d", "disfa")
    bp4d, disfa = load_protocol("bp4d"), load_protocol("disfa")
    assert [len(part) for part in bp4d.parts] == [14, 14, 13]
    assert {subject for part in bp4d.parts for subject in part} == {
        *(f"F{index:03d}" for index in range(1, 24)),
        *(f"M{index:03d}" for index in range(1, 19)),
    }
    assert bp4d.tasks == tuple(f"AU{unit}" for unit in (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24))
    assert [len(part) for part in disfa.parts] == [9, 9, 9]
    assert disfa.tasks == tuple(f"AU{unit}" for unit in (1, 2, 4, 6, 9, 12, 25, 26))
    assert disfa.subject_count == 27


def test_the_packaged_protocols_are_the_shared_facts() -> None:
    if not SHARED.exists():
        pytest.skip(f"no shared facts beside the repository ({SHARED.parent.name}/{SHARED.name})")
    for name, facts in yaml.safe_load(SHARED.read_text(encoding="utf-8")).items():
        protocol = load_protocol(name)
        assert [list(part) for part in protocol.parts] == facts["parts"]
        assert list(protocol.tasks or ()) == facts["tasks"]


def test_fold_k_tests_on_part_k() -> None:
    protocol = load_protocol("disfa")
    subjects = [subject for part in protocol.parts for subject in part]
    plan = protocol.plan(reversed(subjects), seed=3)
    assert [fold.test for fold in plan.folds] == [tuple(sorted(part)) for part in protocol.parts]
    assert plan.digest != protocol.plan(subjects, seed=4).digest
    assert len(plan.inner_folds(0, 3)) == 3


def test_both_sides_must_name_the_same_subjects() -> None:
    protocol = load_protocol("disfa")
    subjects = [subject for part in protocol.parts for subject in part]
    with pytest.raises(
        FoldError, match=r"protocol disfa: subject 'SN001' is not in the dataset \(1 of 27 are missing\)"
    ):
        protocol.plan([subject for subject in subjects if subject != "SN001"])
    with pytest.raises(FoldError, match="the dataset's subject 'SN099' is in no part"):
        protocol.plan([*subjects, "SN099"])


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_file_of_ones_own(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    content = {"parts": [["a", "b"], ["c"]]}
    path.write_text(json.dumps(content) if suffix == ".json" else yaml.safe_dump(content), encoding="utf-8")
    protocol = load_protocol(path)
    assert (protocol.name, protocol.parts, protocol.tasks) == ("mine", (("a", "b"), ("c",)), None)
    assert protocol.plan(["c", "a", "b"]).folds[1].train == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parts: [[a, b], [b]]", "subject 'b' is in part 0 and in part 1; leave it in one"),
        ("parts: [[a, 7], [b]]", "every name in `parts` must be a text, but got 7; put it in quotes"),
        ("parts: [[a, no], [b]]", "must be a text, but got False; put it in quotes"),
        ("parts: [[a], []]", "part 1 has no subject"),
        ("parts: [[a, b]]", "at least 2 parts are needed, but got 1"),
        ("parts: a", "`parts` must be a list of lists of subjects"),
        ("folds: [[a], [b]]", "must hold `parts` .* but holds: folds"),
        ("- a", "must hold `parts` .* but holds: list"),
        ("", "must hold `parts` .* but holds: NoneType"),
        ("parts: [[a], [b]]\nseed: 3", "must hold `parts` .* but holds: parts, seed"),
        ("parts: [[a], [b", "is no YAML or JSON in UTF-8"),
        ("parts: !!python/object/apply:os.getcwd []", "is no YAML or JSON in UTF-8"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FoldError, match=message) as caught:
        load_protocol(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_neither_known_nor_a_file(tmp_path: Path) -> None:
    with pytest.raises(FoldError, match=r"no protocol 'bp4'.*bp4d, disfa, and there is no file"):
        load_protocol("bp4")
    binary = tmp_path / "mine.yaml"
    binary.write_bytes(b"parts: [[\xff\xfe]]")
    with pytest.raises(FoldError, match="is no YAML or JSON in UTF-8"):
        load_protocol(binary)
