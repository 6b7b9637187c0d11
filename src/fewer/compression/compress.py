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
from fewer.compression.masks import Learnt, MaskLearner
from fewer.compression.request import NOISES, requested
from fewer.compression.subject import Subject, with_network
from fewer.models.denoiser import LONGEST_NAME
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.models.pipelines.narrow import Light
from fewer.models.pipelines.network_files import hashes_of
from fewer.registry import ROLES, guarded, name_of
from fewer.versions import versions


@dataclass(frozen=True)
class Compressed:
    """A light `model` of a `full` one, with what was done for it.

    kept      group of units -> (units that stay, units that there were)
    steps     gradient steps of the recovery; `loss` is the mean squared difference of outputs on its calibration states
            before and after it
    choice    the budget and the names of the parts
    taken     what was taken of the choice: the score, of one that chooses among several, and the recoveries that were not taken
            back
    narrowed  what is narrower than the configuration can say; None where it says all
    """

    model: Model
    full: Model
    evidence: Evidence
    kept: dict[str, tuple[int, int]]
    steps: int
    loss: tuple[float, float]
    choice: dict[str, Any]
    taken: dict[str, Any]
    narrowed: Light | None

    @property
    def lines(self) -> list[str]:
        """What came of it, in words."""
        before, after = self.loss
        repair = (
            f"mean squared difference of outputs on its calibration states {before:.4g} after the cut, {after:.4g} after the "
            "recovery"
        )
        return [*self.evidence.lines, *self._taken, f"{repair} ({self.steps} gradient steps)"]

    @property
    def _taken(self) -> list[str]:
        """What was taken where that is not all that was chosen."""
        score, took = self.choice["score"], self.taken["score"]
        chosen = [f"score of the units: {took}, which {score} took"] if took != score else []
        back = [name for name in self.choice["recovery"] if name not in self.taken["recovery"]]
        return [*chosen, *(f"{name} was taken back, since it raised the loss that it is to lower" for name in back)]

    def to_dict(self) -> dict[str, Any]:
        """For evidence.json."""
        kept = {name: {"kept": some, "of": all_} for name, (some, all_) in self.kept.items()}
        recovery = {"steps": self.steps, "loss": {"cut": self.loss[0], "recovered": self.loss[1]}}
        return {
            "model": self.full.name, "choice": self.choice, "taken": self.taken, "kept": kept, "recovery": recovery,
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
    made = lightened(subject, asked.score, asked.allocator, asked.repairs, asked.costs)
    named = light_model(full, made.network, stored_dtype(full))
    bare.progress("samples of both networks", 0, 1)
    evidence = evidence_of(full, named, asked.scoring, asked.noises, bare.batch, seed)
    numbers = {g.name: (len(made.kept[g.name]), g.size) for g in bare.groups}
    narrowed = narrowed_before(full)
    if units == "widths":
        narrowed = narrowing(bare.groups, {name: some for name, (some, _) in numbers.items()}).after(narrowed)
    taken = {
        "score": made.score or asked.choice["score"],
        "recovery": [name_of("compress", each) for each in made.repairs],
    }
    return Compressed(named, full, evidence, numbers, made.steps, made.loss, asked.choice, taken, narrowed)


@dataclass(frozen=True)
class Lightened:
    """A light network that was repaired.

    kept     group name -> the units that it keeps
    loss     before and after the recovery; `steps` are the gradient steps of all parts
    score    name of the score that was taken, where one chose among several
    repairs  those that were not taken back
    """

    network: nn.Module
    kept: dict[str, Tensor]
    loss: tuple[float, float]
    steps: int
    score: str | None
    repairs: tuple[Recovery, ...]


def lightened(
    subject: Subject, score: Score | MaskLearner, allocator: Allocator, repairs: Sequence[Recovery], costs: Costs
) -> Lightened:
    """The network, cut and repaired; a recovery that raises the loss that it is to lower is taken back."""
    with guarded("compress", score):
        network, found = rated(subject, score, costs)
    importance, made, helped = found.importance, found.steps, list[Recovery]()
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
        else:
            helped.append(repair)
    return Lightened(light.eval(), kept, (before, subject.loss(light)), made, found.score, tuple(helped))


def lowered(subject: Subject, repair: Recovery, light: nn.Module) -> float:
    """What a recovery is to lower: its own loss, where it has one, else the mean squared difference of outputs."""
    return repair.own_loss(subject, light) if isinstance(repair, WithLoss) else subject.loss(light)


def rated(subject: Subject, score: Score | MaskLearner, costs: Costs) -> tuple[nn.Module, Learnt]:
    """The network to cut, which a mask learner may have trained, and the importance of its units."""
    if ROLES["mask learner"].missing(score):
        return subject.network, Learnt(cast("Score", score).rate(subject), {}, 0)
    learnt = cast("MaskLearner", score).learn(subject, costs)
    network = copy.deepcopy(subject.network)
    with torch.no_grad():
        for name, values in learnt.weights.items():
            network.get_parameter(name).copy_(values)
    return network, learnt


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
