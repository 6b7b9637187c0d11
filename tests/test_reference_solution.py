"""How many calls a reference solution takes, on solutions whose error at so many calls is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan
from fewer.evaluate.reference import Doubling, reference_solution, remaining
from fewer.models.schedules import Flow

MODEL = Model.from_mixture(GaussianMixture.random((2,), components=2, seed=0), Flow())
PROBE = 8
CANDIDATE = torch.full((PROBE, 2), 0.1, dtype=torch.float64)  # whose error is asked for a share of


def solution(order: float, scale: float, flipped: int = 0) -> Callable[[Plan, int, int], Tensor]:
    """Plays whose samples are off by scale / calls^order; the first `flipped` of them end elsewhere at every other doubling."""

    def play(plan: Plan, first: int, last: int) -> Tensor:
        x = torch.full((last - first, 2), scale / len(plan.rows) ** order, dtype=torch.float64)
        x[:flipped] += float(math.log2(len(plan.rows)) % 2)
        return x

    return play


@pytest.mark.parametrize("frugal", [False, True])
@pytest.mark.parametrize("order", [1, 1.5, 2, 3])
@pytest.mark.parametrize("scale", [0.05, 0.3])
def test_the_fewest_calls_that_are_enough_are_as_near_as_was_asked_for(
    frugal: bool, order: float, scale: float
) -> None:
    """The change from half the calls is 1 - 2^-p of the error at these, and what it foretells is what is left or more."""
    asked = Doubling(share=0.1, probe=PROBE, frugal=frugal)
    found = reference_solution(MODEL, solution(order, scale), 2 * PROBE, [CANDIDATE], doubling=asked)
    least = 0.1 * abs(0.1 - scale / found.calls**order)
    error = scale / found.enough**order
    assert error <= least / (1 if found.enough == found.calls else 1 - 2**-order)
    assert found.enough in (found.calls, found.calls // 2)
    assert found.error <= least * (1 + 1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_few_evaluations_are_asked_for_no_more_calls(order: float) -> None:
    """A frugal reference of the same goal has at most as many."""
    usual, frugal = (
        reference_solution(MODEL, solution(order, 0.3), PROBE, [CANDIDATE], doubling=Doubling(probe=PROBE, frugal=f))
        for f in (False, True)
    )
    assert frugal.calls <= usual.calls


def test_a_sample_at_the_border_of_two_modes_does_not_double_the_calls_of_a_frugal_reference() -> None:
    """Three of eight that end elsewhere at every doubling leave the median sample's error as it is."""
    asked = Doubling(probe=PROBE, frugal=True)
    calls = [
        reference_solution(MODEL, solution(2, 1, flipped), PROBE, [CANDIDATE], doubling=asked).calls
        for flipped in (0, 3)
    ]
    assert calls[0] == calls[1]


@pytest.mark.parametrize("r", [0.25, 0.4, 0.5])
def test_what_is_left_after_a_change_is_the_sum_of_those_to_come(r: float) -> None:
    """R + r^2 + r^3 + .. of the change; no more than the change itself where they fall more slowly."""
    assert remaining(r) == pytest.approx(sum(r**k for k in range(1, 200)))
    assert remaining(0.01) == remaining(0.25)
    assert remaining(0.9) == remaining(2.0) == 1.0


def test_errors_that_do_not_fall_yet_at_few_calls_end_no_doubling() -> None:
    """Under strong guidance samples of 8, 16 and 32 calls may lie equally far from each other."""

    def play(plan: Plan, first: int, last: int) -> Tensor:
        calls = len(plan.rows)
        off = math.log2(calls) if calls <= 32 else 5 + 1 / calls**2
        return torch.full((last - first, 2), off, dtype=torch.float64)

    asked = Doubling(share=0.1, probe=PROBE, frugal=True)
    assert reference_solution(MODEL, play, PROBE, [CANDIDATE], doubling=asked).calls > 32


def test_an_error_is_extrapolated_only_where_that_ended_the_doubling() -> None:
    """Where the time allows no further doubling, the error is the whole change."""
    asked = Doubling(share=1e-9, probe=PROBE, may=lambda calls: calls <= 64, frugal=True)
    found = reference_solution(MODEL, solution(2, 1.0), PROBE, [CANDIDATE], doubling=asked)
    assert found.calls == 64
    assert found.error == pytest.approx(32**-2 - 64**-2, rel=1e-6)
