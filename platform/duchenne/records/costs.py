"""What a sweep cost, by what it was spent on: sums over its leases, which say what they were for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from duchenne.records.port import RunRecords
from duchenne.records.rows import Amounts, Lease

NODE_KIND = "node"
JOB_KIND = "fold_job"


@dataclass(frozen=True)
class Part:
    """What one trial, fold or phase took. A comparator has no trial, and what no fold job spent no phase."""

    name: str
    trial: int | None
    fold: int | None
    amounts: Amounts


@dataclass(frozen=True)
class Costs:
    """The costs of a sweep, in the ledger's units; None is unknown.

    Attributes:
        left: what the budget still allows; None where a unit has no limit.
        phases: `search`, `evaluation`, and what else spent, such as `driver`.
        trials, folds: of fold jobs of both phases; leases older than their attribution are left out.
        retries: spent on segments whose worker or holder was lost.
        idle: what nodes cost while no fold job held them; None where no node was leased.
        early_stopped: spent by trials that were stopped before their last epoch. They did their part: it is no
            waste of the ledger's.
    """

    left: Amounts
    phases: tuple[Part, ...]
    trials: tuple[Part, ...]
    folds: tuple[Part, ...]
    retries: Amounts
    idle: Amounts
    early_stopped: Amounts

    def as_json(self) -> dict[str, object]:
        """The keys that `duchenne cost --json` adds to the balance."""
        return {
            "left": self.left.as_json(),
            "per_phase": {part.name: part.amounts.as_json() for part in self.phases},
            "per_trial": [{"trial": part.trial, "method": part.name, **part.amounts.as_json()} for part in self.trials],
            "per_fold": [{"fold": part.fold, **part.amounts.as_json()} for part in self.folds],
            "wasted_by": {
                "retries": self.retries.as_json(),
                "idle": self.idle.as_json(),
                "early_stopped": self.early_stopped.as_json(),
            },
        }


def costs_of(store: RunRecords, sweep: str) -> Costs:
    """Sum the settled leases of a sweep by what they were for."""
    totals = store.ledger.totals(sweep)
    leases = [lease for lease in store.ledger.leases(sweep) if lease.settled_at is not None]
    jobs = [lease for lease in leases if lease.kind == JOB_KIND]
    named = [lease for lease in jobs if "phase" in lease.resource]
    stopped = {trial.number for trial in store.trials(sweep) if trial.state == "stopped"}
    return Costs(
        left=_left(totals),
        phases=_parts(leases, lambda lease: (str(lease.resource.get("phase", lease.kind)), None, None)),
        trials=_parts(named, lambda lease: (str(lease.resource["method"]), lease.resource["trial"], None)),
        folds=_parts(named, lambda lease: (f"fold {lease.resource['fold']}", None, lease.resource["fold"])),
        retries=_sum((lease for lease in jobs if lease.wasted), among=jobs),
        idle=_idle(leases, jobs),
        early_stopped=_sum((lease for lease in named if lease.resource["trial"] in stopped), among=named),
    )


def _left(totals: dict[str, Amounts]) -> Amounts:
    def left(unit: str) -> float | None:
        limit: float | None = getattr(totals["budget"], unit)
        used = sum(getattr(totals[side], unit) or 0.0 for side in ("spent", "reserved"))
        return None if limit is None else max(0.0, limit - used)

    return Amounts(usd=left("usd"), gpu_seconds=left("gpu_seconds"), wall_seconds=left("wall_seconds"))


def _parts(leases: Iterable[Lease], place: Callable[[Lease], tuple[str, int | None, int | None]]) -> tuple[Part, ...]:
    grouped: dict[tuple[str, int | None, int | None], list[Lease]] = {}
    for lease in leases:
        grouped.setdefault(place(lease), []).append(lease)
    # Trials by number, then the comparators by name.
    ordered = sorted(grouped, key=lambda key: (key[1] is None, key[1] or 0, key[2] or 0, key[0]))
    return tuple(Part(name, trial, fold, _sum(grouped[name, trial, fold])) for name, trial, fold in ordered)


def _idle(leases: list[Lease], jobs: list[Lease]) -> Amounts:
    nodes = [lease for lease in leases if lease.kind == NODE_KIND]
    if not nodes:
        return Amounts()
    held, used = _sum(nodes), _sum(jobs)

    def idle(unit: str) -> float | None:
        whole: float | None = getattr(held, unit)
        return None if whole is None else max(0.0, whole - (getattr(used, unit) or 0.0))

    return Amounts(usd=idle("usd"), gpu_seconds=idle("gpu_seconds"))


def _sum(leases: Iterable[Lease], among: Iterable[Lease] = ()) -> Amounts:
    """The sum of each unit over the leases that counted it; None where none of them, nor of `among`, did."""
    spent, others = [lease.spent for lease in leases], [lease.spent for lease in among]

    def total(unit: str) -> float | None:
        known = [amount for amounts in spent if (amount := getattr(amounts, unit)) is not None]
        return sum(known) if known or any(getattr(amounts, unit) is not None for amounts in others) else None

    # Fold jobs run side by side and reserve no wall time: a sum of 0 would say that they took none.
    return Amounts(usd=total("usd"), gpu_seconds=total("gpu_seconds"), wall_seconds=total("wall_seconds") or None)
