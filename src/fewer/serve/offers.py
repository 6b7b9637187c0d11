"""The plans that the page offers: those of a tune folder, an uploaded one, or the standard plans of a model alone."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.report.folder import Folder
from fewer.results import Baseline, Entry, error_of
from fewer.samplers import standard
from fewer.transfer import transferred

CALLS = (4, 5, 6, 8, 10, 15, 20)  # rows of the standard plans of a model alone
MOST = 1000  # network evaluations of an uploaded plan
UPLOADED = "uploaded.json"


@dataclass(frozen=True)
class Offer:
    """A plan as the model plays it, the standard sampler of its cost beside it, and what there is to say of them."""

    plan: Plan
    standard: Plan
    origin: str
    notes: tuple[str, ...] = ()


def of_folder(model: Model, folder: Folder) -> list[Offer]:
    """The front of a tune folder; each plan beside the standard sampler that its verdict names, else the best of its cost."""
    guidance = folder.results.budget.guidance
    return [
        offer(model, plan, entry.plan, guidance, _standard_names(entry, folder.results.baselines))
        for plan, entry in zip(folder.front, folder.results.front, strict=True)
    ]


def of_model(model: Model, guidance: float | None) -> list[Offer]:
    """UniPC's plans at a few numbers of calls, each beside DDIM's."""
    passes = 1 if guidance is None else 2
    return [
        offer(model, standard("unipc", model, passes * calls, "logsnr", guidance=guidance), "standard plan",
              guidance, ["ddim uniform"])
        for calls in CALLS
    ]  # fmt: skip


def uploaded(model: Model, content: bytes, guidance: float | None) -> Offer:
    """An uploaded plan file, read as `Plan.load` reads it; raises InputError where it refuses, or the model cannot play it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / UPLOADED
        path.write_bytes(content)
        try:
            plan = Plan.load(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), UPLOADED).replace(f"{folder}/", "")) from error
    if plan.nfe > MOST:
        raise InputError(f"plan {UPLOADED} makes {plan.nfe} network evaluations; the page plays up to {MOST}")
    return offer(model, plan, "uploaded", guidance)


def offer(model: Model, plan: Plan, origin: str, guidance: float | None, names: Sequence[str] = ()) -> Offer:
    """The plan beside the first of the named standard plans that can be made at its cost, else UniPC's on a log-SNR grid."""
    played, notes = transferred(model, plan)
    return Offer(played, _beside(model, plan.nfe, guidance, [*names, "unipc logsnr"]), origin, tuple(notes))


def _beside(model: Model, nfe: int, guidance: float | None, names: Sequence[str]) -> Plan:
    for name in names[:-1]:
        solver, _, grid = name.partition(" ")
        try:
            return standard(solver, model, nfe, grid, guidance=guidance)
        except InputError:  # a name that this version does not know, or that cannot be made of so few calls
            continue
    solver, _, grid = names[-1].partition(" ")
    return standard(solver, model, nfe, grid, guidance=guidance)


def _standard_names(entry: Entry, baselines: Sequence[Baseline]) -> list[str]:
    """Standard samplers of an entry's cost: the one that its verdict names, then from the closest on."""

    def error(row: Baseline) -> tuple[bool, float]:
        figure = error_of(row.quality)
        return row.name != entry.verdict.against, float("inf") if figure is None else figure.value

    rows = [row for row in baselines if row.kind == "standard" and row.nfe == entry.nfe]
    return [row.name for row in sorted(rows, key=error)]
