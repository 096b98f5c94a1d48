"""The price file: what it refuses, with the line, and how a sweep takes a node type from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.plan import worker_rate
from duchenne.spec import SpecError, Sweep, load_sweep_text
from duchenne.spec.prices import load_prices

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "jobs" / "sweeps" / "prices.yaml"
PRICES = """\
nodes:
  small:
    cpu: 8
    gpu: 2
    memory_gib: 32
    on_demand_usd_per_hour: 3.6
    spot_usd_per_hour: 1.8
  plain:
    cpu: 16
    memory_gib: 64
    on_demand_usd_per_hour: 0.8
    billing_quantum_seconds: 60
"""
SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: a}
data: {uri: builtin://yeast}
budget: {usd: 60}
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return path


def refused(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_sweep_text(text, "S.yaml")
    return str(caught.value).splitlines()


def test_a_worker_pays_its_larger_share_of_the_node(prices: Path) -> None:
    text = SWEEP + f"folds: {{resources: {{cpu: 2, gpu: 1}}}}\nprices: {{file: {prices}, node: small}}\n"
    assert worker_rate(load_sweep_text(text)).usd_per_second == pytest.approx(3.6 / 2 / 3600)
    spot = load_sweep_text(text.replace("node: small", "node: small, spot: true"))
    assert worker_rate(spot).usd_per_second == pytest.approx(1.8 / 2 / 3600)
    plain = load_sweep_text(SWEEP + f"folds: {{resources: {{cpu: 4}}}}\nprices: {{file: {prices}, node: plain}}\n")
    assert worker_rate(plain).usd_per_second == pytest.approx(0.2 / 3600)
    assert worker_rate(plain).usd(61.0) == pytest.approx(120 * 0.2 / 3600)


def test_a_recorded_sweep_keeps_its_price_without_the_file(prices: Path) -> None:
    sweep = load_sweep_text(SWEEP + f"prices: {{file: {prices}, node: plain}}\n")
    prices.unlink()
    again = Sweep.model_validate(sweep.model_dump(mode="json"))
    assert again == sweep
    assert worker_rate(again) == worker_rate(sweep)


@pytest.mark.parametrize(
    ("wrong", "right", "line"),
    [
        ("gpu: -2", "gpu: 2", "4: nodes.small.gpu: must be >= 0, got -2, raise it"),
        (
            "on_demand_usd_per_hour: -1",
            "on_demand_usd_per_hour: 3.6",
            "6: nodes.small.on_demand_usd_per_hour: must be >= 0, got -1, raise it",
        ),
        (
            "    spot_usd_per_hour: 1.8\n",
            "    on_demand_usd_per_hour: 3.6\n    spot_usd_per_hour: 1.8\n",
            "2: nodes.small.on_demand_usd_per_hour: required field is missing, add `on_demand_usd_per_hour:`",
        ),
        (
            "memory: 32",
            "memory_gib: 32",
            "5: nodes.small.memory: unknown field, got memory, did you mean `memory_gib`?",
        ),
        (
            "billing_quantum_seconds: 0",
            "billing_quantum_seconds: 60",
            "12: nodes.plain.billing_quantum_seconds: must be",
        ),
        (
            "on_demand_usd_per_hour: .inf",
            "on_demand_usd_per_hour: 3.6",
            "6: nodes.small.on_demand_usd_per_hour: a number",
        ),
        ("two words:", "plain:", "8: nodes.two words: a node type's name must be"),
    ],
)
def test_a_wrong_price_file_is_refused_at_its_line(prices: Path, wrong: str, right: str, line: str) -> None:
    assert right in PRICES
    prices.write_text(PRICES.replace(right, wrong, 1))
    with pytest.raises(SpecError) as caught:
        load_sweep_text(SWEEP + f"prices: {{file: {prices}, node: small}}\n", "S.yaml")
    lines = str(caught.value).splitlines()
    assert any(found.startswith(f"{prices}:{line}") for found in lines), lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ":1: (document): must be a mapping, got an empty file, write `nodes:` and node types below it"),
        ("nodes: {}\n", ":1: nodes: must not be empty, got {}, add a value"),
        ("- 1\n", ":1: (document): must be a mapping, got something else, write `nodes:` and node types below it"),
        ("nodes: [\n", ":2: (document): must be valid YAML"),
    ],
)
def test_what_is_no_price_file_is_refused(prices: Path, text: str, line: str) -> None:
    prices.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_prices(str(prices))
    assert str(caught.value).startswith(f"{prices}{line}")


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (
            "{file: {prices}, node: smal}",
            "S.yaml:6: prices.node: must be a node type of {prices}, got smal, did you mean",
        ),
        (
            "{file: nowhere.yaml, node: small}",
            "S.yaml:6: prices.file: must exist, got nowhere.yaml, see docs/budget.md",
        ),
        ("{file: {prices}}", "S.yaml:6: prices: `file` and `node` go together, got file alone, add the other one"),
        ("{node: small}", "S.yaml:6: prices: `file` and `node` go together, got node alone, add the other one"),
        ("{spot: true}", "S.yaml:6: prices: `spot` needs a node type, got none, add file and node"),
        (
            "{file: {prices}, node: plain, spot: true}",
            "S.yaml:6: prices: `spot` needs a node type with spot_usd_per_hour, got plain without, set spot to false",
        ),
        (
            "{file: {prices}, node: plain, cpu_hour_usd: 1}",
            "S.yaml:6: prices: a price is that of a node type or of cores and GPUs, got both, remove",
        ),
        (
            "{file: {prices}, node: plain}\nfolds: {resources: {gpu: 1}}",
            "S.yaml:7: folds.resources.gpu: a worker must fit its node, and plain has 0 gpu, got 1, lower it",
        ),
    ],
)
def test_a_sweep_that_names_no_price_is_refused_at_its_line(prices: Path, section: str, line: str) -> None:
    (found,) = refused(SWEEP + f"prices: {section.replace('{prices}', str(prices))}\n")
    assert found.startswith(line.replace("{prices}", str(prices)))


def test_the_worked_example_is_a_price_file() -> None:
    nodes = load_prices(str(EXAMPLE)).nodes
    assert {"cpu-16", "gpu-small", "gpu-large"} == set(nodes)
    assert all(node.on_demand_usd_per_hour > (node.spot_usd_per_hour or 0) for node in nodes.values())
