"""`fewer.compress`: a lighter network of a model, repaired, with its evidence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fewer.arguments import as_count, as_count_or_none, as_data, as_model, as_number_or_none
from fewer.compression import Allocator, Recovery, Score, WithLoss
from fewer.compression.asked import check_read, check_suited, default_recoveries, named_as, recoveries, resolve_as
from fewer.compression.calibration import SAMPLES, Calibration, calibration_of
from fewer.compression.clocked import allotted_within, clocked_costs
from fewer.compression.costs import Costs, Unit, counted_costs
from fewer.compression.cut import cut, narrowing
from fewer.compression.evidence import Evidence, evidence_of
from fewer.compression.folder import narrowed_before, save, stored_dtype
from fewer.compression.masks import MaskLearner
from fewer.compression.subject import Subject, check_called, with_network
from fewer.compression.units import WIDTHS, Group, Kind, find_patterns, find_units
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.scoring import scoring_of
from fewer.models.denoiser import LONGEST_NAME
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.models.pipelines.narrow import Light
from fewer.models.pipelines.network_files import hashes_of
from fewer.registry import ROLES, guarded, name_of
from fewer.versions import versions

UNITS: dict[str, tuple[Kind, ...]] = {"widths": WIDTHS, "blocks": ("blocks",), "weights": ("weights",)}
BATCH, NOISES = 64, 512  # NOISES: that the evidence is from
FEWEST, FEWEST_SAMPLES = 64, 8
LONGEST = 64  # M of N:M


@dataclass(frozen=True)
class Compressed:
    """A light `model` of a `full` one, with what was done for it.

    kept      group of units -> (units that stay, units that there were)
    steps     gradient steps of the recovery; `loss` is the mean squared difference of outputs before and after it
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
        repair = f"mean squared difference of outputs {before:.4g} after the cut, {after:.4g} after the recovery"
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
    score: str | Score | MaskLearner = "taylor",
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
    score       what a unit is worth, or a mask learner, which learns that in gradient steps of its own, with the weights;
                `allocator` how many of each group stay, by default the exact knapsack (`fewer methods --room compress`)
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
    model = as_model(model)
    unit, share = _budget(macs, size, ms, pattern_of(units) is not None)
    own_batch, steps = as_count_or_none(batch, "batch"), as_count_or_none(tune_steps, "tune_steps", 0)
    count, size_of_batch = as_count(noises, "noises", FEWEST), own_batch or BATCH
    number = SAMPLES if samples is None else as_count(samples, "samples", FEWEST_SAMPLES)
    images = as_data(data, model)
    scoring = scoring_of(model, images, features, None)
    scoring.check(count)
    if images is not None:
        check_read({"samples": samples}, "states are made of the data")
    if share is None:
        check_read({"allocator": allocator}, f"without a budget all layers have {units}")
    rated = named_as(score, "score", "mask learner", batch=own_batch)
    allotted = resolve_as("knapsack" if allocator is None else allocator, "allocator")
    listed = default_recoveries(model.predicts, units == "widths", steps) if recovery is None else recovery
    repairs = recoveries(listed, steps, own_batch)
    if model.dtype != torch.float32:
        raise InputError(
            f"dtype of {model.name} is {str(model.dtype).removeprefix('torch.')}; networks are made lighter in float32"
        )
    check_called(model)
    groups = _groups(model, units)
    check_suited((rated, allotted, *repairs), groups)
    report = progress or (lambda stage, done, total: None)
    bare = Subject(model, tuple(groups), Calibration(model, torch.empty(0), None, seed), size_of_batch, progress=report)
    costs = _costs(bare, unit, share)
    report("calibration states", 0, 1)
    states = calibration_of(model, images, seed, number)
    subject = replace(bare, calibration=states)
    light, kept, loss, made = lightened(subject, rated, allotted, repairs, costs)
    named = light_model(model, light, stored_dtype(model))
    report("samples of both networks", 0, 1)
    evidence = evidence_of(model, named, scoring, count, size_of_batch, seed)
    numbers = {g.name: (len(kept[g.name]), g.size) for g in groups}
    choice = {
        "unit": unit, "limit": share, "units": units, "score": name_of("compress", rated),
        "allocator": name_of("compress", allotted),
        "recovery": [name_of("compress", each) for each in repairs],
        "data": "the data given" if images is not None else "samples of the model", "seed": seed,
    }  # fmt: skip
    narrowed = narrowed_before(model)
    if units == "widths":
        narrowed = narrowing(groups, {name: some for name, (some, _) in numbers.items()}).after(narrowed)
    return Compressed(named, model, evidence, numbers, made, loss, choice, narrowed)


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


def _budget(macs: float | None, size: float | None, ms: float | None, optional: bool) -> tuple[Unit, float | None]:
    """Of what how much may stay: a share of multiply-adds or weights, or milliseconds; None: as little as can be."""
    given = {name: value for name, value in (("macs", macs), ("size", size), ("ms", ms)) if value is not None}
    if optional and not given:
        return "weights", None
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) or 'none of macs, size and ms'} given; expected one of macs, size and ms"
        )
    (name, value), = given.items()  # fmt: skip
    number = as_number_or_none(value, name)
    if name == "ms":
        if number is None or not 0 < number < math.inf:
            raise InputError(f"ms is {value}; expected milliseconds above 0, of a call of one sample")
        return "milliseconds", number
    if number is None or not 0 < number < 1:
        raise InputError(
            f"{name} is {value}; expected a share between 0 and 1, such as 0.5, of what the network has now"
        )
    return "multiply-adds" if name == "macs" else "weights", number


def _costs(subject: Subject, unit: Unit, limit: float | None) -> Costs:
    """What the subject's units cost. Raises InputError for a limit below what is left without all units that can go."""
    name = subject.model.name
    if limit is None:
        whole = float(subject.model.parameters or 0)
        costs = counted_costs(subject.groups, unit, whole, 0.0)
        return replace(costs, limit=costs.least)
    if unit == "milliseconds":
        costs = clocked_costs(subject, limit)
        if limit >= costs.whole:
            raise InputError(f"ms is {limit:g}, and a call of {name} takes {costs.whole:.3g} ms a sample here already")
    else:
        whole = float(call_macs(subject.model) if unit == "multiply-adds" else subject.model.parameters or 0)
        costs = counted_costs(subject.groups, unit, whole, limit * whole)
    costs.check(name)
    return costs


def pattern_of(units: str) -> tuple[int, int] | None:
    """N and M of N:M; None of other units. Raises InputError for numbers that make no pattern."""
    n, colon, m = units.partition(":")
    if not colon:
        return None
    if not (n.isdecimal() and m.isdecimal() and 0 < int(n) < int(m) <= LONGEST):
        raise InputError(f"units is {units!r:.80}; expected N:M with 0 < N < M <= {LONGEST}, such as 2:4")
    return int(n), int(m)


def _groups(model: Model, units: str) -> list[Group]:
    pattern = pattern_of(units)
    if pattern is not None:
        return find_patterns(model, *pattern)
    if units not in UNITS:
        raise InputError(f"units is {units!r:.80}; expected one of {', '.join(UNITS)}, or N:M such as 2:4")
    return find_units(model, UNITS[units])
