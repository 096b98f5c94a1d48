"""Every refusal names the argument, the rule and the value."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from duchenne_kernels import GRUCells, explain, order_log_likelihood, sample_orders
from duchenne_kernels.recurrence.validation import check_size

BAD_LABELS = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.5, 0.0]])
NAN_LABELS = torch.tensor([[0.0, float("nan"), 0.0], [0.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": torch.randn(2, 3, 4)}, r"`hidden` must be \(B, H\), but got shape \(2, 3, 4\)"),
        ({"hidden": torch.randn(0, 4)}, "`hidden` must hold at least one example"),
        ({"hidden": torch.randn(2, 5)}, "hidden size 4 on its last axis, but got 5"),
        ({"hidden": torch.ones(2, 4, dtype=torch.int64)}, "`hidden` must be a float tensor, but got torch.int64"),
        ({"hidden": torch.randn(2, 4, dtype=torch.float64)}, "dtype torch.float32, but got torch.float64"),
        ({"hidden": torch.randn(2, 4, device="meta")}, "device cpu, but got meta"),
        (
            {"orders": torch.tensor([[0, 1, 2], [0, 2, 2]])},
            r"permutation of 0..2 in each row, but row 1 is \[0, 2, 2\]",
        ),
        ({"orders": torch.tensor([[0, 1, 3]])}, r"row 0 is \[0, 1, 3\]"),
        ({"orders": torch.tensor([[-1, 1, 2]])}, r"row 0 is \[-1, 1, 2\]"),
        ({"orders": torch.tensor([[0, 1]])}, r"`orders` must be \(M, 3\)"),
        ({"orders": torch.empty(0, 3, dtype=torch.int64)}, r"`orders` must be \(M, 3\) with M >= 1"),
        ({"orders": torch.tensor([[0, 1, 2]], dtype=torch.int32)}, "`orders` must be int64, but got torch.int32"),
        ({"labels": BAD_LABELS}, r"`labels` must lie within \[0, 1\] where the mask holds, but \[1, 1\] is 1.5"),
        ({"labels": NAN_LABELS}, r"`labels` must lie within \[0, 1\].* \[0, 1\] is nan"),
        ({"orders": torch.tensor([[0, 1, 2]], device="meta")}, "`orders` must be on hidden's device cpu, but got meta"),
        ({"labels": torch.zeros(2, 3, device="meta")}, "`labels` must be on hidden's device cpu, but got meta"),
        ({"labels": torch.zeros(2, 3, dtype=torch.complex64)}, "`labels` must be real, but got torch.complex64"),
        ({"labels": torch.zeros(2, 4)}, r"`labels` must be \(B, T\) = \(2, 3\), but got shape \(2, 4\)"),
        ({"conditioning": BAD_LABELS}, r"`conditioning` must lie within"),
        ({"mask": torch.ones(2, 3)}, r"`mask` must be bool \(B, T\) = \(2, 3\), but got torch.float32"),
        ({"mask": torch.ones(2, 2, dtype=torch.bool)}, r"`mask` must be bool"),
        ({"mask": torch.ones(2, 3, dtype=torch.bool, device="meta")}, "`mask` must be on hidden's device cpu"),
        ({"active": torch.tensor([0], device="meta")}, "`active` must be on hidden's device cpu, but got meta"),
        ({"active": torch.tensor([0, 2])}, "`active` must index orders 0..1, but got 2"),
        ({"active": torch.tensor([[0], [-1]])}, "`active` must index orders 0..1, but got -1"),
        ({"active": torch.tensor([[0]])}, r"`active` must be \(K,\) or \(B, K\) with B = 2"),
        ({"active": torch.tensor([0.0])}, "`active` must be int64, but got torch.float32"),
        ({"backend": "tpu"}, "`backend` must be auto, reference, cpu, triton, cuda, but got 'tpu'"),
        ({"backend": "cuda"}, "`backend` can't take these arguments: cuda: "),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "hidden": torch.randn(2, 4),
        "labels": torch.zeros(2, 3),
        "orders": torch.tensor([[0, 1, 2], [2, 1, 0]]),
        "cells": GRUCells(3, 4),
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        order_log_likelihood(**arguments)  # type: ignore[arg-type]


def test_values_behind_the_mask_are_not_checked() -> None:
    mask = torch.tensor([[True, False, True], [True, True, True]])
    found = order_log_likelihood(torch.randn(2, 4), NAN_LABELS, torch.tensor([[0, 1, 2]]), GRUCells(3, 4), mask)
    assert found.isfinite().all()


def test_an_overflowing_product_is_refused_before_anything_is_allocated() -> None:
    check_size(64, 512, 12, 64)
    with pytest.raises(ValueError, match=r"B x M x T x H must stay below .* 4294967296 x 4294967296"):
        check_size(2**32, 2**32, 1, 1)
    cells = GRUCells(3, 4)
    # A stride of 0 makes a batch of 2^60 without memory.
    huge = torch.zeros(1, 4).expand(2**60, 4)
    with pytest.raises(ValueError, match="B x M x T x H must stay below"):
        sample_orders(huge, torch.tensor([[0, 1, 2]]), cells)


def test_sampling_refuses_a_row_that_is_no_permutation() -> None:
    with pytest.raises(ValueError, match=r"row 1 is \[0, 0, 1\]"):
        sample_orders(torch.randn(2, 4), torch.tensor([[0, 1, 2], [0, 0, 1]]), GRUCells(3, 4))


def test_explain_says_why(make) -> None:  # type: ignore[no-untyped-def]
    problem = make()
    reasons = explain(problem.hidden, problem.orders, problem.cells)
    assert reasons["reference"] is None
    assert reasons["cpu"] is None
    assert reasons["cuda"] is not None
    assert reasons["cuda"].startswith("cuda: ")
    elsewhere = replace(problem, hidden=problem.hidden.to("meta"))
    reason = explain(elsewhere.hidden, elsewhere.orders, elsewhere.cells)["cpu"]
    assert reason == "cpu: hidden is on meta, neither on the CPU nor on a GPU"
