"""Workers that share a GPU: as many as Ray places on a device, and who pays for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from duchenne.clusters.local import Machine
from duchenne.plan.packing import gpu_share, most_by_cores, most_by_gpus
from duchenne.plan.rates import rate_of
from duchenne.spec.sections import NodeType, Prices, Resources


@settings(max_examples=80, deadline=None)
@given(sharers=st.integers(2, 64), devices=st.integers(1, 16))
def test_a_device_is_shared_to_the_full_and_paid_for_once(sharers: int, devices: int) -> None:
    each = Resources(gpu=int(10_000 / sharers) / 10_000).gpu  # as people write it: 0.3333
    most = most_by_gpus(devices, each)
    assert most >= devices * sharers
    assert most % devices == 0  # no share lies on two devices
    assert most * int(each * 10_000 + 1e-6) <= devices * 10_000  # as Ray counts
    assert most * gpu_share(each) == pytest.approx(devices)
    assert most_by_gpus(float(f"{most * each:g}"), each) == most  # what a cluster tells its driver


def test_ten_workers_of_a_tenth_fit_whatever_floating_point_says() -> None:
    assert int(1.0 // 0.1) == 9  # the trap
    assert (most_by_gpus(1, 0.1), most_by_cores(0.7, 0.1)) == (10, 7)
    assert Machine(cpus=8, gpus=1).workers(0.5, 0.1) == 10
    assert Machine(cpus=8, gpus=2).workers(0.5, 0.3333) == 6
    assert Machine(cpus=8, gpus=2).workers(1, 2) == 1


@pytest.mark.parametrize(("gpu", "better"), [(0.4, "0.5"), (0.33, "0.3333"), (0.75, "1"), (1.5, "2"), (0.7, "1")])
def test_a_share_that_leaves_a_part_idle_is_refused(gpu: float, better: str) -> None:
    with pytest.raises(ValidationError, match=rf"but got {gpu:g}, which leaves .* idle; set it to {better}"):
        Resources(gpu=gpu)


def test_three_who_share_a_node_pay_for_all_of_it() -> None:
    node = NodeType(cpu=12, gpu=1, memory_gib=64, on_demand_usd_per_hour=3.6, billing_quantum_seconds=1)
    rate = rate_of(Prices(listed=node), Resources(cpu=1, gpu=0.3333))
    assert 3 * rate.usd_per_second == pytest.approx(3.6 / 3600, rel=1e-12)
    assert rate_of(Prices(gpu_hour_usd=3.6), Resources(gpu=0.3333)).usd_per_second == pytest.approx(1.2 / 3600)
