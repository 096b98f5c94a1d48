"""Looks where a trained network attends on some held-out faces.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from duchenne_jobs.config import RunConfig
from duchenne_jobs.evaluation.attention import AttentionSample, write_attention
from duchenne_jobs.models.attention import Attended
from duchenne_jobs.models.inputs import Inputs
from duchenne_jobs.models.priors.losses import log_attention
from duchenne_jobs.training.batches import as_floats
from duchenne_jobs.training.job import JobKey
from duchenne_jobs.training.split import Rows

FACES = 6


@runtime_checkable
class Attending(Protocol):
    """A network with cross-attention."""

    def attend(self, inputs: Inputs) -> Attended:
        """B rows -> their scores, among others."""


def attention_path(folder: Path, key: JobKey) -> Path:
    """Where a job of the evaluation leaves the attention of some held-out faces."""
    return folder / "attention" / f"{key.slug}.npz"


@torch.no_grad()
def save_attention(
    path: Path, network: nn.Module, rows: Rows, tasks: tuple[str, ...], config: RunConfig, device: torch.device
) -> None:
    """Write the attention of up to `FACES` of the rows, one a subject; nothing for a network without attention.

    Raises:
        OSError: the file can't be written.
    """
    chosen = shown_rows(rows)
    if not isinstance(network, Attending) or not len(chosen):
        return
    network.eval()
    scores = network.attend(as_floats(rows.batch(chosen).to(device))).scores
    attention = torch.stack([log_attention(layer).exp() for layer in scores], dim=1)
    places = chosen.numpy()
    sample = AttentionSample(
        attention=attention.cpu().numpy().astype(np.float16),
        tasks=np.array(tasks),
        subjects=rows.subjects[places].astype(str),
        sequences=rows.sequences[places].astype(str),
        frames=rows.frames[places],
        labels=rows.labels[chosen].numpy(),
        config=config.model_dump_json(),
    )
    write_attention(path, sample)


def shown_rows(rows: Rows) -> Tensor:
    """Up to `FACES` rows with a face, evenly spread over the subjects, each subject's one with the most positives."""
    positives = (rows.labels == 1).sum(dim=1)
    best: dict[str, int] = {}
    for index in torch.nonzero(rows.has_face).flatten().tolist():
        subject = str(rows.subjects[index])
        if subject not in best or positives[index] > positives[best[subject]]:
            best[subject] = index
    found = [best[subject] for subject in sorted(best)]
    places = np.linspace(0, len(found) - 1, min(FACES, len(found))).round().astype(int)
    return torch.tensor([found[place] for place in places], dtype=torch.int64)
