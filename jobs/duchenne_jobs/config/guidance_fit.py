"""Whether the guidance of a configuration fits a dataset and a network.

`duchenne validate` asks before anything runs, as far as it can see, and the network asks again when it is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from duchenne_jobs.config.action_units import without_centres
from duchenne_jobs.config.guidance import GuidanceTerm
from duchenne_jobs.config.model import ATTENTION_NAMES, RECURRENT_NAMES, ModelConfig

LANDMARK_SCHEMES = (49, 68)  # points that table 3.2 is known for


@dataclass(frozen=True)
class Misfit:
    """A term that does not fit: the field, the rule broken, the value seen, the next action."""

    path: tuple[str | int, ...]
    rule: str
    value: str
    hint: str

    def __str__(self) -> str:
        place, *field = self.path
        return f"model.guidance[{place}].{'.'.join(map(str, field))}: {self.rule}, but got {self.value}; {self.hint}"


@dataclass(frozen=True)
class AttentionShape:
    """The cross-attention of a network.

    Attributes:
        layers: N_CA.
        heads: n, of each layer.
        width: d, of all heads together.
        per_task: whether each task has a query of its own (MTTS) or they share one (MTTC).
    """

    layers: int
    heads: int
    width: int
    per_task: bool


def data_misfits(
    terms: Sequence[GuidanceTerm],
    tasks: Sequence[str],
    landmark_points: int | None,
    parsing_classes: Sequence[str],
) -> Iterator[Misfit]:
    """Terms whose prior a dataset does not have.

    Args:
        terms: `model.guidance`.
        tasks: names of the labels.
        landmark_points: P, None without landmarks.
        parsing_classes: names of the parsing map's ids, empty without.
    """
    for place, term in enumerate(terms):
        if term.prior == "parsing":
            yield from _parsing_misfits(place, term, parsing_classes)
            continue
        if landmark_points is None:
            rule = f"{term.prior} needs a dataset with landmarks"
            yield Misfit((place, "prior"), rule, "one without", "choose another dataset, or remove the term")
        elif term.prior == "landmarks_multi" and landmark_points not in LANDMARK_SCHEMES:
            rule = f"landmarks_multi needs {' or '.join(map(str, LANDMARK_SCHEMES))} landmarks"
            yield Misfit((place, "prior"), rule, str(landmark_points), "take landmarks_mono or another dataset")
        missing = without_centres(tasks) if (term.kind, term.prior) == ("pattel", "landmarks_multi") else ()
        if missing:
            rule = "landmarks_multi needs tasks with centres of interest (table 3.2)"
            hint = "take landmarks_mono, or kind head_to_prior, whose priors are not those of the tasks"
            yield Misfit((place, "prior"), rule, ", ".join(missing), hint)


def _parsing_misfits(place: int, term: GuidanceTerm, parsing_classes: Sequence[str]) -> Iterator[Misfit]:
    if not parsing_classes:
        rule = "parsing needs a dataset with face-parsing maps"
        yield Misfit((place, "prior"), rule, "one without", "choose another dataset, or guide by landmarks")
        return
    missing = [name for name in term.parsing_classes if name not in parsing_classes]
    if missing:
        rule = f"classes must be among the dataset's ({', '.join(parsing_classes)})"
        yield Misfit((place, "classes"), rule, ", ".join(missing), "list classes of this dataset")


def model_misfits(model: ModelConfig) -> Iterator[Misfit]:
    """Terms that the network of a configuration can't follow."""
    yield from network_misfits(model.guidance, _attention_of(model))
    channels = model.name not in RECURRENT_NAMES and model.encoder.has_tokens
    for place, term in enumerate(model.guidance):
        if term.kind == "pal" and not channels:
            rule = "pal needs a network without recurrence on an encoder of faces"
            seen = f"{model.name} on {model.encoder.name}"
            yield Misfit((place, "kind"), rule, seen, "take vmnc on conv, for instance, or another kind")


def _attention_of(model: ModelConfig) -> AttentionShape | None:
    if model.name not in ATTENTION_NAMES:
        return None
    attention = model.attention
    per_task = model.name != "mttc" and model.labels != "exclusive"
    return AttentionShape(attention.cross_layers, attention.heads, attention.width, per_task)


def network_misfits(terms: Sequence[GuidanceTerm], attention: AttentionShape | None) -> Iterator[Misfit]:
    """Terms that a network's cross-attention can't follow; it is None for a network without."""
    soft: set[int] = set()
    for place, term in enumerate(terms):
        if term.kind == "pal":
            continue
        if attention is None:
            rule = f"{term.kind} needs a network with cross-attention"
            yield Misfit((place, "kind"), rule, "one without", "choose another model.name, or kind pal")
            continue
        yield from _attention_misfits(place, term, attention)
        layers = set(term.on_layers(attention.layers)) if term.kind == "soft_prior" else set()
        if layers & soft:
            listed = ", ".join(map(str, sorted(layers & soft)))
            rule = "a layer takes one soft_prior"
            yield Misfit((place, "layers"), rule, f"two on layer {listed}", "give the terms different layers")
        soft |= layers


def _attention_misfits(place: int, term: GuidanceTerm, attention: AttentionShape) -> Iterator[Misfit]:
    beyond = [layer for layer in term.on_layers(attention.layers) if layer >= attention.layers]
    if beyond:
        rule = f"layers are counted from 0, and the network has {attention.layers} of cross-attention"
        yield Misfit((place, "layers"), rule, ", ".join(map(str, beyond)), "list layers that there are")
    if len(term.heads or ()) > attention.heads:
        rule = f"no more heads can be assigned than there are, {attention.heads}"
        yield Misfit((place, "heads"), rule, str(len(term.heads or ())), "remove some, or add heads to the network")
    if term.kind != "pattel":
        return
    if term.guided_fraction > 0 and guided_count(term.guided_fraction, attention.heads) == 0:
        rule = f"fraction must guide one of the {attention.heads} heads at least, or be 0"
        yield Misfit((place, "fraction"), rule, f"{term.guided_fraction:g}", f"raise it to {1 / attention.heads:.3g}")
    if term.prior == "landmarks_multi" and not attention.per_task:
        rule = "landmarks_multi with pattel needs a query for each task (mtts)"
        yield Misfit((place, "prior"), rule, "one for all", "take landmarks_mono, or kind head_to_prior")


def guided_count(fraction: float, total: int) -> int:
    """n_fh = floor(f x N) (Tallec 2023, before eq. 3.32). Rounding of f does not lose one: floor(0.29 x 100) is 29."""
    return math.floor(fraction * total + 1e-9)
