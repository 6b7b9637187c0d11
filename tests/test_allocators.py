"""Numbers of units: exact choices are those of brute force, and no allocator exceeds a budget, whatever its unit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer.compression.allocate.erdos_renyi import ErdosRenyi
from fewer.compression.allocate.knapsack import Global, Knapsack, Uniform, least_loss
from fewer.compression.calibration import Calibration
from fewer.compression.costs import Costs, counted_costs
from fewer.compression.subject import Subject
from fewer.compression.units import Group, find_patterns
from fewer.knapsack import UNITS
from fewer.testing.compression import subject_of
from fewer.testing.models import transformer

MODEL = transformer()
STATES = Calibration(MODEL, torch.zeros(1, 1, 8, 8), None)


@dataclass
class Instance:
    """Groups with a table of losses and one of savings (steps + 1,) each, and importances of their units."""

    groups: tuple[Group, ...]
    losses: dict[str, np.ndarray]
    costs: Costs
    importance: dict[str, torch.Tensor]

    @property
    def subject(self) -> Subject:
        return Subject(MODEL, self.groups, STATES)

    def least(self, limit: float) -> float:
        """The least loss of all choices within a limit, one after another."""
        every = itertools.product(*(range(g.steps + 1) for g in self.groups))
        rest = self.costs.whole - limit
        return min(
            sum(self.losses[g.name][n] for g, n in zip(self.groups, steps, strict=True))
            for steps in every
            if sum(self.costs.saved[g.name][n] for g, n in zip(self.groups, steps, strict=True)) >= rest
        )


@st.composite
def instances(draw: st.DrawFn, whole: bool) -> Instance:
    """Up to four groups with steps, parts and fewest units of their own; costs are whole numbers, or any."""
    groups, losses, saved, importance = [], {}, {}, {}
    for n in range(draw(st.integers(1, 4))):
        parts = draw(st.integers(1, 2))
        step, steps, least = parts * draw(st.integers(1, 3)), draw(st.integers(1, 4)), parts * draw(st.integers(0, 2))
        group = Group("width", f"g{n}", (), steps * step + least, 1, 1, parts, step, least=least)
        number = st.integers(0, 9) if whole else st.floats(0, 9)
        rises = [draw(st.lists(each, min_size=steps, max_size=steps)) for each in (st.floats(0, 1), number)]
        losses[group.name], saved[group.name] = (np.cumsum([0.0, *each]) for each in rises)
        importance[group.name] = torch.tensor(
            draw(st.lists(st.floats(0, 1), min_size=group.size, max_size=group.size)), dtype=torch.float64
        )
        groups.append(group)
    most = float(sum(each[-1] for each in saved.values()))
    limit = 5.0 + (1 - draw(st.floats(0, 1))) * most
    costs = Costs("milliseconds", 5.0 + most, np.floor(limit) if whole else limit, saved)
    return Instance(tuple(groups), losses, costs, importance)


@given(instances(whole=True))
@settings(max_examples=40, deadline=None)
def test_whole_costs_are_chosen_as_by_brute_force(given: Instance) -> None:
    kept = least_loss(given.subject, given.losses, given.costs)
    assert given.costs.of(given.groups, kept) <= given.costs.limit
    assert lost(given, kept) == pytest.approx(given.least(given.costs.limit), abs=1e-9)


@given(instances(whole=False))
@settings(max_examples=40, deadline=None)
def test_measured_costs_are_chosen_as_by_brute_force_but_for_their_rounding(given: Instance) -> None:
    """Milliseconds are rounded up to parts of what may stay: no choice within a limit that is lower by as much is better."""
    costs = given.costs
    kept = least_loss(given.subject, given.losses, costs)
    assert costs.of(given.groups, kept) <= costs.limit + 1e-9
    lower = costs.limit - (len(given.groups) + 1) * (costs.limit - costs.least) / UNITS
    assert lost(given, kept) <= given.least(max(lower, costs.least)) + 1e-9


@given(instances(whole=False))
@settings(max_examples=40, deadline=None)
def test_no_allocator_exceeds_a_budget_and_all_keep_whole_steps(given: Instance) -> None:
    for allocator in (Knapsack(), Global(), Uniform()):
        kept = allocator.allocate(given.subject, given.importance, given.costs)
        assert given.costs.of(given.groups, kept) <= given.costs.limit + 1e-9
        check_steps(given.groups, kept)


@pytest.mark.parametrize("pattern", [(2, 4), (3, 4), (1, 4), (5, 8)])
def test_layers_are_whole_or_have_the_pattern(pattern: tuple[int, int]) -> None:
    of = subject_of(MODEL, ("weights",))
    groups = tuple(find_patterns(MODEL, *pattern))
    subject, whole = Subject(MODEL, groups, of.calibration), float(sum(g.size for g in groups))
    sizes = {g.name: torch.arange(g.size, dtype=torch.float64) for g in groups}
    for share in (pattern[0] / pattern[1], 0.5 + pattern[0] / pattern[1] / 2):
        costs = counted_costs(groups, "weights", whole, share * whole)
        for allocator in (Knapsack(), Global(), Uniform(), ErdosRenyi(), ErdosRenyi("balanced")):
            kept = allocator.allocate(subject, sizes, costs)
            assert costs.of(groups, kept) <= costs.limit
            check_steps(groups, kept)


@given(st.integers(1, 64), st.integers(1, 8), st.floats(0, 1))
def test_at_most_a_share_stays(units: int, step: int, share: float) -> None:
    group = Group("width", "g", (), units * step, 1, 1, step=step)
    number = group.at_most(share)
    assert number % step == 0
    assert number == step or (number <= share * group.size + 1e-6 and number + step > share * group.size - 1e-6)


def lost(given: Instance, kept: dict[str, int]) -> float:
    return float(sum(given.losses[g.name][(g.size - kept[g.name]) // g.step] for g in given.groups))


def check_steps(groups: tuple[Group, ...], kept: dict[str, int]) -> None:
    for group in groups:
        assert group.fewest <= kept[group.name] <= group.size
        assert (group.size - kept[group.name]) % group.step == 0
