"""`fewer.compress`: a lighter network of a model, repaired, with its evidence."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fewer.compression import Allocator, Recovery, Score, WithLoss
from fewer.compression.calibration import calibration_of
from fewer.compression.clocked import allotted_within
from fewer.compression.costs import Costs
from fewer.compression.cut import cut, narrowing
from fewer.compression.evidence import Evidence, evidence_of
from fewer.compression.folder import narrowed_before, save, stored_dtype
from fewer.compression.masks import MaskLearner
from fewer.compression.request import NOISES, requested
from fewer.compression.subject import Subject, with_network
from fewer.models.denoiser import LONGEST_NAME
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.models.pipelines.narrow import Light
from fewer.models.pipelines.network_files import hashes_of
from fewer.registry import ROLES, guarded
from fewer.versions import versions


@dataclass(frozen=True)
class Compressed:
    """A light `model` of a `full` one, with what was done for it.

    kept      group of units -> (units that stay, units that there were)
    steps     gradient steps of the recovery; `loss` is the mean squared difference of outputs on its calibration states
            before and after it
    choice    the budget and the names of the parts
    narrowed  what is narrower than the configuration can say; None where it says all
    """

    model: Model
    full: Model
    evidence: Evidence
    kept: dict[str, tuple[int, int]]
    steps: int
    loss: tuple[float, float]
    choice: dict[str, Any]
    narrowed: Light | None

    @property
    def lines(self) -> list[str]:
        """What came of it, in words."""
        before, after = self.loss
        repair = (
            f"mean squared difference of outputs on its calibration states {before:.4g} after the cut, {after:.4g} after the "
            "recovery"
        )
        return [*self.evidence.lines, f"{repair} ({self.steps} gradient steps)"]

    def to_dict(self) -> dict[str, Any]:
        """For evidence.json."""
        kept = {name: {"kept": some, "of": all_} for name, (some, all_) in self.kept.items()}
        recovery = {"steps": self.steps, "loss": {"cut": self.loss[0], "recovered": self.loss[1]}}
        return {
            "model": self.full.name, "choice": self.choice, "kept": kept, "recovery": recovery,
            **self.evidence.to_dict(), "versions": versions(),
        }  # fmt: skip

    @property
    def reads(self) -> str:
        """Who reads its folder."""
        if self.narrowed is None:
            return "diffusers and fewer read it"
        return "fewer reads it (fewer.load(..).network.module)"

    def save(self, folder: str | Path, force: bool = False) -> Path:
        """Write it as a folder that `fewer.load` reads, whole or not at all; `force`: though it has others' files."""
        return save(self, Path(folder), force)


@in_own_precision
def compress(
    model: Model | str | Path,
    macs: float | None = None,
    size: float | None = None,
    ms: float | None = None,
    *,
    units: str = "widths",
    score: str | Score | MaskLearner | None = None,
    allocator: str | Allocator | None = None,
    recovery: Sequence[str | Recovery] | None = None,
    tune_steps: int | None = None,
    data: Tensor | str | Path | None = None,
    samples: int | None = None,
    features: Any = None,
    noises: int = NOISES,
    batch: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], object] | None = None,
) -> Compressed:
    """A lighter network of a model: units are removed, what reads them is refitted, and all of it learns from the full one.

    macs, size  share in (0, 1) of the multiply-adds, or of the weights, that may stay
    ms          milliseconds that a call of one sample may take here, in batches of `batch`; one of the three is given, and
                with N:M none if all layers are to have it
    units       widths: channels, heads and hidden neurons inside of blocks; blocks: whole ones of a transformer; weights:
                single ones, which become 0 and save nothing on the clock; N:M, such as 2:4: of every M neighbouring weights N stay
    score       what a unit is worth, or a mask learner, which learns that in gradient steps of its own, with the weights; by
                default `better-end` for widths of networks that predict noise or score, and `taylor` for others
    allocator   how many of each group stay, by default the exact knapsack (`fewer methods --room compress`), or
                `global` for scores that only order units (`ecodiff`)
    recovery    what is done after the cut, one after another; by default least squares, of widths, then distillation where there
                are `tune_steps`, of networks that predict noise or score `end-distillation`. Those given by name make as many
                gradient steps (by default 100), if they make any. One that raises the loss that it is to lower is taken back
    data        (N, *shape) or a path: clean samples that states are made of, by default the model's own samples; the Frechet
                distance of the evidence is to them
    samples     of the model itself, where no data is given; by default 512
    features    that distance's, as `fewer.measure` has them
    noises      held-out ones that both networks sample from for the evidence
    batch       states of a batch, those of parts given by name too, and samples of a timed call; by default 64, and of a part
                its own number

    The given model is not changed. Raises InputError, before anything is computed, for shares out of range, networks that have no
    such units, whose layers share weights or that do not run in float32, budgets below what is left without all units that can
    go, parts that are not for the units, and options that nothing would read.
    """
    asked = requested(
        model, macs, size, ms, units=units, score=score, allocator=allocator, recovery=recovery, tune_steps=tune_steps,
        data=data, samples=samples, features=features, noises=noises, batch=batch, seed=seed, progress=progress,
    )  # fmt: skip
    full, bare = asked.model, asked.subject
    bare.progress("calibration states", 0, 1)
    subject = replace(bare, calibration=calibration_of(full, asked.images, seed, asked.samples))
    light, kept, loss, made = lightened(subject, asked.score, asked.allocator, asked.repairs, asked.costs)
    named = light_model(full, light, stored_dtype(full))
    bare.progress("samples of both networks", 0, 1)
    evidence = evidence_of(full, named, asked.scoring, asked.noises, bare.batch, seed)
    numbers = {g.name: (len(kept[g.name]), g.size) for g in bare.groups}
    narrowed = narrowed_before(full)
    if units == "widths":
        narrowed = narrowing(bare.groups, {name: some for name, (some, _) in numbers.items()}).after(narrowed)
    return Compressed(named, full, evidence, numbers, made, loss, asked.choice, narrowed)


def lightened(
    subject: Subject, score: Score | MaskLearner, allocator: Allocator, repairs: Sequence[Recovery], costs: Costs
) -> tuple[nn.Module, dict[str, Tensor], tuple[float, float], int]:
    """The light network, the units that it keeps, its loss before and after the recovery, and the gradient steps of all parts."""
    with guarded("compress", score):
        network, importance, made = rated(subject, score, costs)
    with guarded("compress", allocator):
        if costs.unit == "milliseconds":
            numbers = allotted_within(subject, allocator, importance, costs)
        else:
            numbers = allocator.allocate(subject, importance, costs)
    kept = {g.name: g.kept(importance[g.name], numbers[g.name]) for g in subject.groups}
    light = cut(network, subject.groups, kept)
    before = subject.loss(light)
    for repair in repairs:
        earlier, loss = copy.deepcopy(light.state_dict()), lowered(subject, repair, light)
        with guarded("compress", repair), torch.inference_mode(False), torch.enable_grad():
            made += repair.recover(subject, light, kept)
        raised = (
            not lowered(subject, repair, light) <= loss
        )  # as by few steps at a high rate, and where it is not finite
        if raised:
            light.load_state_dict(earlier)
    return light.eval(), kept, (before, subject.loss(light)), made


def lowered(subject: Subject, repair: Recovery, light: nn.Module) -> float:
    """What a recovery is to lower: its own loss, where it has one, else the mean squared difference of outputs."""
    return repair.own_loss(subject, light) if isinstance(repair, WithLoss) else subject.loss(light)


def rated(subject: Subject, score: Score | MaskLearner, costs: Costs) -> tuple[nn.Module, dict[str, Tensor], int]:
    """The network to cut, which a mask learner may have trained, the importance of its units, and gradient steps made for that."""
    if ROLES["mask learner"].missing(score):
        return subject.network, cast("Score", score).rate(subject), 0
    learnt = cast("MaskLearner", score).learn(subject, costs)
    network = copy.deepcopy(subject.network)
    with torch.no_grad():
        for name, values in learnt.weights.items():
            network.get_parameter(name).copy_(values)
    return network, learnt.importance, learnt.steps


@torch.no_grad()
def light_model(model: Model, network: nn.Module, dtype: torch.dtype) -> Model:
    """The model with a light network in its place, under a hash of its own, with weights rounded to what they are stored in."""
    for parameter in network.parameters():
        parameter.copy_(parameter.to(dtype))
    known = hashes_of(network)
    return replace(
        with_network(model, network), name=f"light {model.name}"[:LONGEST_NAME], hash=next(iter(known), ""), known_as=tuple,
        loaded=None,
    )  # fmt: skip
