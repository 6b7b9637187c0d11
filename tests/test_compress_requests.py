"""What `fewer.compress` and `fewer compress` refuse before anything is computed: units that a part is not for, and options that
nothing would read. And what is asked for reaches every part that is given by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pytest
import torch

import fewer
from fewer.compression import compress as room
from fewer.compression.asked import ForSomeFormats, check_suited, knows, named_as
from fewer.compression.calibration import Calibration
from fewer.compression.cut import cut
from fewer.compression.masks.learning import Learning
from fewer.compression.quantise import quantise as quantise_room
from fewer.compression.quantise.compress import compress_bits
from fewer.compression.quantise.hawq import HawqV2
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject
from fewer.compression.units import WIDTHS, find_patterns, find_units
from fewer.errors import InputError
from fewer.noise import unit_noise
from fewer.registry import Part, parts
from fewer.testing.compression import costs_of
from fewer.testing.models import transformer

GRANULARITIES = ("widths", "blocks", "weights", "2:4")
ROLES = ("score", "mask learner", "allocator", "recovery")


class Computed(Exception):
    """The first states are made."""


def computes(*given: object, **named: object) -> Any:
    raise Computed


def refusal(run: Callable[[], object]) -> str:
    """What a call is refused with; nothing where it goes through, or begins to compute."""
    try:
        with torch.enable_grad():
            run()
    except InputError as error:
        return str(error)
    except Computed:
        pass
    return ""


def of_roles(*roles: str) -> list[Part]:
    return [part for part in parts("compress") if part.role in roles]


@cache
def subject_with(units: str) -> Subject:
    """One group of these units, and two states."""
    model = transformer(4)
    kinds = WIDTHS if units == "widths" else (units,)
    groups = find_patterns(model, 2, 4) if units == "2:4" else find_units(model, kinds)
    return Subject(
        model, tuple(groups[:1]), Calibration(model, unit_noise(1, range(4), model.shape), model.labels(4)), 2, 1
    )


@pytest.mark.parametrize("units", GRANULARITIES)
def test_units_that_a_part_is_not_for_are_refused_by_its_name_without_a_call(units):
    subject = subject_with(units)
    for part in of_roles(*ROLES):
        said = refusal(partial(check_suited, [part.make()], subject.groups))
        assert bool(said) == bool(refusal(partial(called, part, subject))), (part.name, said)
        assert not said or said.startswith(part.name)


def called(part: Part, subject: Subject) -> None:
    """Let a part do its work on a subject."""
    few = {"steps": 1, "batch": 2, "points": 1, "calls": 2, "probes": 1}
    made = part.make(**{name: value for name, value in few.items() if knows(part.make(), name)})
    importance = Magnitude().rate(subject)
    costs = costs_of(subject, 1.0)
    if part.role == "score":
        made.rate(subject)
    elif part.role == "mask learner":
        made.learn(subject, costs)
    elif part.role == "allocator":
        made.allocate(subject, importance, costs)
    else:
        kept = {g.name: g.kept(importance[g.name], g.fewest or g.size) for g in subject.groups}
        made.recover(subject, cut(subject.network, subject.groups, kept), kept)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"macs": 0.8, "data": unit_noise(2, range(64), (1, 8, 8)), "samples": 512}, "samples is given"),
        ({"units": "2:4", "allocator": "knapsack"}, "allocator is given"),
        ({"macs": 0.8, "recovery": ["least-squares"], "tune_steps": 100}, "tune_steps is 100, and least-squares would"),
        ({"macs": 0.8, "recovery": [], "tune_steps": 3}, "tune_steps is 3, and no recovery would"),
        ({"macs": 0.8, "units": "weights", "recovery": ["least-squares", "distillation"]}, "least-squares is for"),
    ],
)  # fmt: skip
def test_options_that_nothing_would_read_are_refused(given, says, monkeypatch):
    """Their defaults too, where they are given."""
    monkeypatch.setattr(room, "calibration_of", computes)
    with pytest.raises(InputError, match=says):
        fewer.compress(transformer(), **given, noises=64)


def test_two_four_needs_no_budget_and_no_allocator(monkeypatch):
    monkeypatch.setattr(room, "calibration_of", computes)
    with pytest.raises(Computed):
        fewer.compress(transformer(), units="2:4", noises=64)
    with pytest.raises(Computed):
        fewer.compress(transformer(), units="2:4", size=0.8, allocator="global", noises=64)


@pytest.mark.parametrize("part", of_roles("mask learner", "recovery", "rounding"), ids=lambda part: part.name)
def test_the_batch_reaches_parts_by_name(part):
    made = named_as(part.name, part.role, batch=5)
    assert getattr(made, "batch", 5) == 5
    assert named_as(part.name, part.role, batch=None) == part.make()


@dataclass(frozen=True)
class Recorded:
    """A rounding that says how many states it was to have, and makes nothing."""

    seen: list[int]
    batch: int = 7

    def rounded(self, task: object) -> Any:
        self.seen.append(self.batch)
        raise InputError("seen")


@pytest.mark.parametrize(("batch", "reaches"), [(5, 5), (None, 7)])
def test_a_batch_is_that_of_what_is_given_by_name_alone(batch, reaches, monkeypatch):
    """A part that comes as an object keeps its own, and so does any where none is given."""
    part = Recorded([])
    own = {"recorded": part, "hawq-v2": HawqV2()}
    monkeypatch.setattr("fewer.compression.asked.resolve", lambda where, given: own.get(str(given), given))
    monkeypatch.setattr(quantise_room, "states_of", lambda *given: None)
    for rounding in ("recorded", part):
        with pytest.raises(InputError, match="seen"):
            quantise_room.quantised(transformer(), 8, rounding=named_as(rounding, "rounding", batch=batch))
    assert part.seen == [reaches, 7]


@pytest.mark.parametrize(
    "score", [part for part in of_roles("mask learner") if knows(part.make(), "batch")], ids=lambda part: part.name
)
def test_mask_learners_have_the_batch_of_the_call(score, monkeypatch):
    def learn(self: Learning, subject: object, costs: object) -> None:
        raise Computed(self.batch)

    monkeypatch.setattr(Learning, "learn", learn)
    with pytest.raises(Computed, match=r"^5$"):
        fewer.compress(transformer(), macs=0.9, score=score.name, batch=5, samples=8, noises=64)


@pytest.mark.parametrize("part", of_roles("rounding"), ids=lambda part: part.name)
def test_formats_that_a_rounding_does_not_make_are_refused_before_states_are(part, monkeypatch):
    monkeypatch.setattr(quantise_room, "states_of", computes)
    choices = ((1, None), (8, None), (4, 8))
    asked_for = partial(compress_bits, transformer(), rounding=part.name, noises=64)
    said = [refusal(partial(asked_for, bits, group=group)) for bits, group in choices]
    assert "" in said
    assert all(not each or part.name in each for each in said)
    assert isinstance(part.make(), ForSomeFormats) or not any(said)


def test_a_size_that_cannot_be_is_refused_before_states_are(monkeypatch):
    monkeypatch.setattr(quantise_room, "states_of", computes)
    for size, says in ((2.0, "share between 0 and 1"), (1e-4, "not quantised takes")):
        with pytest.raises(InputError, match=says):
            compress_bits(transformer(), "mixed", size, noises=64)
