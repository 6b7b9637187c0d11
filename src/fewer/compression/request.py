"""What `compress` is asked for, checked before anything is computed, and what it would take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_count_or_none, as_data, as_model, as_number_or_none
from fewer.compression import Allocator, Recovery, Score
from fewer.compression.asked import (
    check_read,
    check_suited,
    default_allocator,
    default_recoveries,
    default_score,
    named_as,
    recoveries,
    resolve_as,
)
from fewer.compression.calibration import SAMPLES, Calibration
from fewer.compression.clocked import clocked_costs
from fewer.compression.costs import Costs, Unit, counted_costs
from fewer.compression.masks import MaskLearner
from fewer.compression.subject import Subject, check_called
from fewer.compression.units import WIDTHS, Group, Kind, find_patterns, find_units
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.scoring import Scoring, scoring_of
from fewer.models.model import Model
from fewer.registry import name_of

UNITS: dict[str, tuple[Kind, ...]] = {"widths": WIDTHS, "blocks": ("blocks",), "weights": ("weights",)}
BATCH, NOISES = 64, 512  # NOISES: that the evidence is from
FEWEST, FEWEST_SAMPLES = 64, 8
LONGEST = 64  # M of N:M


@dataclass(frozen=True)
class Request:
    """What is asked for, of which nothing has been computed yet and all of which can be done.

    subject  the model with its units, and no states
    score, allocator, repairs   the parts
    units    their granularity by name; `share` of the unit of `costs` that may stay, or milliseconds; None: as little as can be
    costs    of the units, and what may stay
    images   clean samples (N, *shape); None: `samples` of the model's own
    scoring  of the evidence, from so many `noises`
    """

    subject: Subject
    score: Score | MaskLearner
    allocator: Allocator
    repairs: tuple[Recovery, ...]
    units: str
    share: float | None
    costs: Costs
    images: Tensor | None
    samples: int
    scoring: Scoring
    noises: int
    seed: int

    @property
    def model(self) -> Model:
        """The full one."""
        return self.subject.model

    @property
    def choice(self) -> dict[str, Any]:
        """The budget and the names of the parts, for evidence.json."""
        return {
            "unit": self.costs.unit, "limit": self.share, "units": self.units, "score": name_of("compress", self.score),
            "allocator": name_of("compress", self.allocator),
            "recovery": [name_of("compress", each) for each in self.repairs],
            "data": "the data given" if self.images is not None else "samples of the model", "seed": self.seed,
        }  # fmt: skip


def requested(
    model: Model | str | Path, macs: float | None = None, size: float | None = None, ms: float | None = None, *,
    units: str = "widths", score: str | Score | MaskLearner | None = None, allocator: str | Allocator | None = None,
    recovery: Sequence[str | Recovery] | None = None, tune_steps: int | None = None,
    data: Tensor | str | Path | None = None, samples: int | None = None, features: Any = None, noises: int = NOISES,
    batch: int | None = None, seed: int = 0, progress: Callable[[str, int, int], object] | None = None,
) -> Request:  # fmt: skip
    """The arguments of `fewer.compress`, checked. Raises InputError as that does; milliseconds are timed for it."""
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
    widths = units == "widths"
    rated = named_as(
        default_score(model.predicts, widths) if score is None else score, "score", "mask learner", batch=own_batch
    )
    allotted = resolve_as(default_allocator(rated) if allocator is None else allocator, "allocator")
    listed = default_recoveries(model.predicts, widths, steps) if recovery is None else recovery
    repairs = recoveries(listed, steps, own_batch)
    if model.dtype != torch.float32:
        raise InputError(
            f"dtype of {model.name} is {str(model.dtype).removeprefix('torch.')}; networks are made lighter in float32"
        )
    check_called(model)
    groups = _groups(model, units)
    check_suited((rated, allotted, *repairs), groups)
    report = progress or (lambda stage, done, total: None)
    subject = Subject(
        model, tuple(groups), Calibration(model, torch.empty(0), None, seed), size_of_batch, progress=report
    )
    costs = _costs(subject, unit, share)
    return Request(subject, rated, allotted, tuple(repairs), units, share, costs, images, number, scoring, count, seed)


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
