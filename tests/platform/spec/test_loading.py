"""What a sweep file may say, and that all its errors come at once, each on its line."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from duchenne.spec import Asha, Fifo, MedianStopping, SpecError, Sweep, load_sweep, load_sweep_text, notes, rungs
from duchenne.spec.reading import read_yaml
from duchenne.spec.writing import to_yaml

MINIMAL = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: a}
data: {uri: builtin://yeast}
budget: {wall_seconds: 60}
"""


def test_a_minimal_file_takes_the_defaults() -> None:
    sweep = load_sweep_text(MINIMAL)
    assert sweep.metadata.team == "default"
    assert sweep.board == "yeast"
    assert sweep.seeds == (0, 1, 2)
    assert (sweep.folds.count, sweep.folds.inner, sweep.folds.workers_per_fold) == (3, 3, 1)
    assert isinstance(sweep.search.scheduler, Fifo)
    assert sweep.search.space == {}
    assert sweep.cluster == "local"
    assert sweep.base.model == sweep.model


def test_short_forms() -> None:
    sweep = load_sweep_text(MINIMAL + "seeds: 2\nsearch: {scheduler: asha}\n")
    assert sweep.seeds == (0, 1)
    assert sweep.search.scheduler == Asha()
    assert sweep == load_sweep_text(MINIMAL + "seeds: [0, 1]\nsearch: {scheduler: {name: asha}}\n")


@pytest.mark.parametrize(
    ("text", "number"), [("5e-4", 5e-4), ("1E3", 1000.0), (".5", 0.5), ("2.", 2.0), ("+1_0.5", 10.5), ("3", 3.0)]
)
def test_numbers_as_people_write_them(text: str, number: float) -> None:
    assert load_sweep_text(f"{MINIMAL}training: {{weight_decay: {text}}}\n").training.weight_decay == number


@pytest.mark.parametrize(
    ("uri", "board"),
    [
        ("s3://bucket/team/DISFA_v2/", "disfa-v2"),
        ("builtin://toy?count=9&tasks=3", "toy"),
        ("../data/bp4d", "bp4d"),
        ("/", None),
    ],
)
def test_the_board_is_named_after_the_dataset(uri: str, board: str | None) -> None:
    text = MINIMAL.replace("builtin://yeast", f"'{uri}'")
    if board is None:
        with pytest.raises(SpecError, match="must name a dataset"):
            load_sweep_text(text)
    else:
        assert load_sweep_text(text).board == board


def test_the_board_of_the_metadata_wins() -> None:
    assert load_sweep_text(MINIMAL.replace("name: a", "name: a, board: mine")).board == "mine"


def test_all_errors_come_at_once_by_line() -> None:
    text = """\
apiVersion: duchenne/v1
kind: Sweeep
metadata:
  name: Bad Name
  name: again
data: {uri: builtin://yeast}
model:
  orders: {count: 4, active: 8}
training:
  epocs: 3
  learning_rate: -1
search:
  space:
    training.epochs: {choice: [0, 5]}
    loss.dice: {choise: [1]}
    model.order.count: {choice: [4]}
  algorithm: bayes
folds: {count: 2418, inner: 0}
comparators: [mrn]
budget: {usd: 0}
"""
    with pytest.raises(SpecError) as caught:
        load_sweep_text(text, "S.yaml")
    places = [(problem.line, problem.field) for problem in caught.value.problems]
    assert places == [
        (2, "kind"),
        (4, "metadata.name"),
        (5, "metadata.name"),
        (8, "model.orders"),
        (10, "training.epocs"),
        (11, "training.learning_rate"),
        (14, "search.space.training.epochs.choice[0]"),
        (15, "search.space.loss.dice"),
        (16, "search.space.model.order.count"),
        (17, "search.algorithm"),
        (18, "folds.count"),
        (18, "folds.inner"),
        (19, "comparators[0]"),
        (20, "budget.usd"),
    ]
    assert len(str(caught.value).splitlines()) == len(places)


def test_rules_across_sections_show_beside_errors_elsewhere() -> None:
    added = "training: {batch_size: 0}\nsearch: {space: {loss.dice: {uniform: [0, 1]}}}\nfolds: {count: 9999}\n"
    with pytest.raises(SpecError) as caught:
        load_sweep_text(MINIMAL.replace("budget: {wall_seconds: 60}\n", added))
    assert [problem.field for problem in caught.value.problems] == [
        "budget",
        "training.batch_size",
        "search.trials",
        "folds.count",
    ]


def test_a_broken_field_is_not_judged_by_its_default() -> None:
    """grace_epochs 40 goes with the epochs that were meant (60x), not with the default of 30."""
    text = MINIMAL + "training: {epochs: 60x}\nsearch: {scheduler: {name: asha, grace_epochs: 40}}\n"
    with pytest.raises(SpecError) as caught:
        load_sweep_text(text)
    assert [problem.field for problem in caught.value.problems] == ["training.epochs"]


def test_problems_carry_line_field_rule_value_and_hint(tmp_path: Path) -> None:
    path = tmp_path / "S.yaml"
    path.write_text(MINIMAL + "training:\n  epochs: 0\n")
    with pytest.raises(SpecError) as caught:
        load_sweep(str(path))
    (problem,) = caught.value.problems
    assert (problem.line, problem.field, problem.value) == (7, "training.epochs", "0")
    assert (problem.rule, problem.hint) == ("must be >= 1", "raise it")
    assert str(caught.value) == f"{path}:7: training.epochs: must be >= 1, got 0, raise it"
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert again.problems == caught.value.problems
    assert isinstance(caught.value, ValueError)


def test_rules_also_hold_for_sweeps_built_in_python() -> None:
    data = load_sweep_text(MINIMAL).model_dump(mode="json")
    data["search"] |= {"space": {"model.nam": {"choice": ["vmnc"]}}, "trials": 1}
    with pytest.raises(ValidationError, match=r"did you mean `model\.name`\?"):
        Sweep.model_validate(data)


def test_a_sweep_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_sweep_text(MINIMAL).cluster = "other"  # type: ignore[misc]


def test_notes_name_what_is_not_there_yet(tmp_path: Path) -> None:
    assert notes(load_sweep_text(MINIMAL)) == []
    uri, folds = tmp_path / "faces", tmp_path / "folds.yaml"
    text = MINIMAL.replace("builtin://yeast", f"{uri}, protocol: {folds}")
    data, protocol = notes(load_sweep_text(text))
    assert data.startswith(f"data.uri: {uri} has no manifest.json yet; ")
    assert protocol.startswith(f"data.protocol: there is no file {folds} yet; ")
    (remote,) = notes(load_sweep_text(MINIMAL.replace("builtin://yeast", "s3://bucket/faces")))
    assert "was not looked at" in remote
    uri.mkdir()
    (uri / "manifest.json").write_text("{}")
    assert "can't be read" in notes(load_sweep_text(text))[0]


def test_weights_that_are_not_there_yet_are_a_note(tmp_path: Path) -> None:
    (tmp_path / "there.pt").write_bytes(b"")
    encoder = "{name: resnet50, weights: WEIGHTS}"
    text = MINIMAL.replace("builtin://yeast", "builtin://faces") + f"model: {{name: vmnc, encoder: {encoder}}}\n"
    variant = encoder.replace("WEIGHTS", "s3://bucket/not-looked-at.pt")
    text += f"comparators: [{{name: other, change: {{model.encoder: {variant}}}}}]\n"
    (said,) = notes(load_sweep_text(text.replace("WEIGHTS", f"{tmp_path}/missing.pt")))
    assert said == f"model.encoder.weights: there is no file {tmp_path}/missing.pt yet; `run` refuses until then"
    assert notes(load_sweep_text(text.replace("WEIGHTS", f"{tmp_path}/there.pt"))) == []


def test_notes_name_limits_that_never_bind() -> None:
    text = MINIMAL.replace("wall_seconds: 60", "usd: 5, gpu_hours: 1")
    assert [note.split(":")[0] for note in notes(load_sweep_text(text))] == ["budget.usd", "budget.gpu_hours"]
    priced = text + "prices: {gpu_hour_usd: 2}\nfolds: {resources: {gpu: 0.5}}\n"
    assert notes(load_sweep_text(priced)) == []


def test_a_local_manifest_bounds_the_folds(tmp_path: Path) -> None:
    from duchenne_jobs.data import ingest

    uri = str(tmp_path / "toy")
    ingest("toy", None, uri, count=7, tasks=2, seed=0)
    text = MINIMAL.replace("builtin://yeast", uri)
    assert notes(load_sweep_text(text + "folds: {count: 7}\n")) == []
    with pytest.raises(
        SpecError, match=r"6: folds\.count: folds <= subjects must hold, and the dataset has 7 subjects"
    ):
        load_sweep_text(text + "folds: {count: 8}\n")
    folds = tmp_path / "folds.yaml"
    folds.write_text("parts: [[a, b, c], [d, e], [f, g]]\n")
    with pytest.raises(SpecError, match=r"4: data\.protocol: protocol folds: subject 'a' is not in the dataset"):
        load_sweep_text(text.replace(uri, f"{uri}, protocol: {folds}"))


def test_rungs() -> None:
    assert rungs(Fifo(), 9) == (9,)
    assert rungs(Asha(grace_epochs=1, reduction_factor=3), 10) == (1, 3, 9, 10)
    assert rungs(Asha(grace_epochs=1, reduction_factor=3), 9) == (1, 3, 9)
    assert rungs(Asha(grace_epochs=5), 5) == (5,)
    assert rungs(MedianStopping(grace_epochs=3), 6) == (3, 4, 5, 6)
    assert rungs(MedianStopping(grace_epochs=9), 6) == (6,)


@given(grace=st.integers(1, 50), factor=st.integers(2, 9), epochs=st.integers(1, 200))
@settings(max_examples=50)
def test_rungs_rise_to_the_last_epoch(grace: int, factor: int, epochs: int) -> None:
    steps = rungs(Asha(grace_epochs=grace, reduction_factor=factor), epochs)
    assert steps[-1] == epochs
    assert list(steps) == sorted(set(steps))
    assert all(later == earlier * factor for earlier, later in pairwise(steps[:-1]))


SLUGS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
AMOUNTS = st.none() | st.floats(1e-6, 1e9)
SCHEDULERS = st.one_of(
    st.sampled_from(["fifo", "asha", "median_stopping"]),
    st.builds(
        lambda grace, factor: {"name": "asha", "grace_epochs": grace, "reduction_factor": factor},
        st.integers(1, 9),
        st.integers(2, 5),
    ),
)
SPACES = st.fixed_dictionaries(
    {},
    optional={
        "training.learning_rate": st.tuples(st.floats(1e-6, 1e-3), st.floats(1e-2, 1.0)).map(
            lambda bounds: {"loguniform": list(bounds)}
        ),
        "model.hidden_size": st.sets(st.integers(1, 512), min_size=1, max_size=4).map(lambda v: {"grid": sorted(v)}),
        "model.orders.active": st.just({"choice": [None, 1]}),
        "loss.smoothing": st.just({"choice": [{"name": "none"}, {"name": "rhls", "beta": 0.5}]}),
        "training.batch_size": st.integers(2, 99).map(lambda high: {"randint": [1, high]}),
    },
)
SWEEPS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("duchenne/v1"),
        "kind": st.just("Sweep"),
        "metadata": st.fixed_dictionaries({"name": SLUGS}, optional={"team": SLUGS, "board": SLUGS}),
        "data": st.fixed_dictionaries({"uri": st.sampled_from(["builtin://yeast", "s3://b/x", "some where/ünder"])}),
        "search": st.fixed_dictionaries(
            {"space": SPACES, "trials": st.just(1), "scheduler": SCHEDULERS},
            optional={"metric": st.sampled_from(["f1_macro", "log_loss"]), "concurrency": st.integers(1, 9)},
        ),
        "budget": st.tuples(AMOUNTS, AMOUNTS, st.floats(1e-3, 1e9)).map(
            lambda limits: dict(zip(("usd", "gpu_hours", "wall_seconds"), limits, strict=True))
        ),
    },
    optional={
        "seeds": st.integers(1, 5) | st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
        "comparators": st.lists(st.sampled_from(["vmnc", "mrnn", "chain_ensemble"]), unique=True, max_size=3),
        "training": st.fixed_dictionaries({"epochs": st.integers(9, 99), "decay": st.floats(1e-3, 1.0)}),
        "prices": st.fixed_dictionaries({"gpu_hour_usd": st.floats(0, 99)}),
    },
)


@given(data=SWEEPS)
@settings(max_examples=60, deadline=None)
def test_sweeps_round_trip(data: dict[str, object]) -> None:
    sweep = load_sweep_text(to_yaml(data))
    dumped = sweep.model_dump(mode="json")
    assert Sweep.model_validate(dumped) == sweep
    assert load_sweep_text(to_yaml(dumped)) == sweep
    assert Sweep.model_validate_json(sweep.model_dump_json()) == sweep


@given(text=st.text(alphabet="0123456789eE+-._", min_size=1, max_size=6) | st.text(max_size=9))
def test_text_that_looks_like_a_number_stays_text(text: str) -> None:
    assume(text.isprintable())
    document = read_yaml(to_yaml({"name": text}))
    assert document.root is not None
    assert document.root.plain() == {"name": text}


@given(text=st.text(max_size=200) | st.text(alphabet="a:&*{}[]-!<>'\" \n#|?,%@`", max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_sweep_or_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_sweep_text(text, "S.yaml")
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.problems)
    assert all(line.startswith("S.yaml:") and line.isprintable() for line in lines)


@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    section=st.sampled_from(sorted(Sweep.model_json_schema()["properties"])),
)
@settings(max_examples=150, deadline=None)
def test_anything_in_any_section_is_read_or_refused_in_lines(data: object, section: str) -> None:
    fields: dict[str, object] = yaml.safe_load(MINIMAL)
    fields[section] = data
    try:
        load_sweep_text(yaml.safe_dump(fields), "S.yaml")
    except SpecError as error:
        assert all(line.startswith("S.yaml:") for line in str(error).split("\n"))  # noqa: PT017 - either way is right
