"""Figure 2.15: whether XMONET told the halves of the split toy apart, asked of the networks that its sweeps left.

N rows, T tasks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from duchenne.boards.networks import networks_of
from duchenne.figures.order_search import finds_couple
from duchenne.figures.source import SweepData, read_sweep
from duchenne.records import RecordStore
from duchenne_jobs.data import open_dataset
from duchenne_jobs.data.builtin import parse_builtin
from duchenne_jobs.data.schema import matrix
from duchenne_jobs.models.inputs import Inputs
from duchenne_jobs.prediction.networks import load_ensemble

Couple: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # sigma1 where x2 >= 0, sigma2 below; 0-based


def couples_found(store: RecordStore, home: Path, name: str) -> tuple[dict[Couple, float], int]:
    """What the finished sweeps called `name` found, each on a couple of its own (Tallec 2023, fig. 2.15).

    The newest sweep of a couple counts. Its networks are asked about every row: what pi(x) makes of a half is no
    question of rows held out.

    Returns:
        (sigma1, sigma2) -> share of the runs that found the couple, in [0, 1]; and the fewest runs of a couple.
    """
    shares: dict[Couple, float] = {}
    fewest = 0
    for summary in store.summaries():  # the newest first
        if summary.name != name or summary.state != "succeeded":
            continue
        data = read_sweep(store, summary.id, home)
        couple = _couple(data.sweep.data.uri)
        if couple is None or couple in shares:
            continue
        found = [found for method in data.own_methods for found in _runs(store, home, data, method, couple)]
        if found:
            shares[couple] = float(np.mean(found))
            fewest = min(fewest, len(found)) if fewest else len(found)
    return shares, fewest


def _couple(uri: str) -> Couple | None:
    """The best orders of the two halves; None for a dataset that is no split toy."""
    name, options = parse_builtin(uri) or ("", {})
    if name != "toy" or not {"sigma1", "sigma2"} & options.keys():
        return None
    plain = "".join(map(str, range(int(options["tasks"]))))
    upper, lower = (tuple(map(int, str(options.get(key, plain)))) for key in ("sigma1", "sigma2"))
    return upper, lower


def _runs(store: RecordStore, home: Path, data: SweepData, method: str, couple: Couple) -> list[bool]:
    """Whether each run of a method found the couple; nothing for a method whose mixture is the same for every row."""
    networks = load_ensemble(networks_of(store.get_entry(f"{data.record.id}.{method}"), home), torch.device("cpu"))
    rows = open_dataset(data.record.dataset_uri).rows(["features"])
    features = matrix(rows, "features").astype(np.float32)
    found = []
    for member in networks.members:
        orders = member.network.row_orders(Inputs(features=torch.from_numpy(features)))  # type: ignore[operator, union-attr]
        if orders is not None:
            found.append(finds_couple(orders.numpy(), features[:, 1] >= 0, *couple))
    return found
