"""CFG++ on multistep rows and its inversion: the sampler written out, identities, passes, bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import reuse, small_dit
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.cfg_plus_plus_multistep import manifold_multistep
from fewer.guidance.policies.cfg_plus_plus import manifold_constrained
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.tasks.inversion import explicit_inversion, invert

SHAPE = (1, 4, 4)
EXACT = GaussianMixture.random(SHAPE, components=6, seed=3, classes=3)
MODEL = Model.from_mixture(EXACT, discrete(betas("scaled_linear"), name="scaled_linear"), conditional=True)
N = 6


def noise(seed: int = 0) -> Tensor:
    return unit_noise(seed, range(N), SHAPE)


def a_plan(solver: str = "dpmpp-2m", rows: int = 5) -> fewer.Plan:
    return fewer.standard(solver, MODEL, rows, "logsnr")


def both(x: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """D(label) and D(empty) at a state of the flow frame."""
    labels = MODEL.labels(N)
    assert labels is not None
    return EXACT.denoise(x, tau, labels), EXACT.denoise(x, tau, torch.full_like(labels, 3))


def written_out(plan: fewer.Plan, strength: float) -> Tensor:
    """DPM-Solver++ 2M with CFG++ in X = x / (1 - tau) and s = tau / (1 - tau), the paper's sampler."""
    levels = [float(tau) / (1 - float(tau)) for tau in plan.levels]
    x = float(plan.start.scale) * noise().double() * (1 + levels[0])
    last, h_last = None, math.inf
    for s, then in pairwise(levels):
        label, empty = both(x / (1 + s), s / (1 + s))
        guided = empty + strength * (label - empty)
        h = math.log(s / then) if then > 0 else math.inf
        x = guided + then / s * (x - empty)
        if last is not None and then > 0:
            x = x + (1 - math.exp(-h)) * h / h_last / 2 * (guided - last)
        last, h_last = empty, h
    return x


@settings(deadline=None, max_examples=15)
@given(st.floats(0.0, 1.0), st.integers(1, 6))
def test_dpm_solver_2m_is_the_papers(strength: float, rows: int) -> None:
    plan = a_plan(rows=rows)
    ours = fewer.sample(MODEL, manifold_multistep(plan, strength), noise=noise())
    torch.testing.assert_close(ours, written_out(plan, strength).float(), atol=2e-3, rtol=1e-3)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.0, 1.0), st.integers(1, 5))
def test_on_first_order_rows_it_is_a_scale_per_row(strength: float, rows: int) -> None:
    plan = a_plan("ddim", rows)
    one, other = (
        fewer.sample(MODEL, make(plan, strength), noise=noise()) for make in (manifold_multistep, manifold_constrained)
    )
    torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-3m", "deis", "ipndm"])
def test_without_strength_it_is_the_unconditional_model(solver: str) -> None:
    plan = a_plan(solver)
    alone = fewer.sample(MODEL, guide(plan, 0.0), noise=noise())
    torch.testing.assert_close(fewer.sample(MODEL, manifold_multistep(plan, 0.0), noise=noise()), alone)


@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-3m", "deis", "ipndm"])
def test_a_label_that_changes_nothing_guides_nowhere(solver: str) -> None:
    """The step's weights sum to the level's, whatever the strength: with D(label) = D(empty) any plan is itself."""
    blind = replace(EXACT, labels=None)
    model = replace(Model.from_mixture(blind, MODEL.schedule), classes=3, empty_label=3)
    model = replace(model, network=lambda x, t, labels: Model.from_mixture(blind, MODEL.schedule).network(x, t, None))
    plan = a_plan(solver)
    alone = fewer.sample(model, guide(plan, 1.0), noise=noise())
    guided = fewer.sample(model, manifold_multistep(plan, 1.0), noise=noise())
    torch.testing.assert_close(guided, alone, atol=1e-4, rtol=1e-4)


def test_it_costs_two_passes_a_level(tmp_path: Path) -> None:
    plan = manifold_multistep(a_plan(), 0.5)
    assert plan.nfe == guide(a_plan(), 3.0).nfe == 10
    assert fewer.Plan.load(plan.save(tmp_path / "p.json")).rows == plan.rows


def test_shortcuts_of_blocks_stay_within_their_pass() -> None:
    """A block reused in both passes of a guided row is reused in both of its rows."""
    model = small_dit()
    plan = fewer.standard("ddim", model, 3, "logsnr")
    rows = [replace(row, blocks={"block.1": reuse(0)} if n == 2 else {}) for n, row in enumerate(plan.rows)]
    plan = replace(plan, rows=tuple(rows))
    z = unit_noise(0, range(3), model.shape)
    one, other = (fewer.sample(model, make(plan, 0.5), noise=z) for make in (manifold_multistep, manifold_constrained))
    torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-3)


# inversion


def test_explicit_inversion_is_the_papers() -> None:
    """x = (1 - tau) D(empty) + tau (eps(empty) + strength (eps(label) - eps(empty))), outputs at the cleaner state."""
    plan, strength = a_plan("ddim", 4), 0.6
    images, _ = EXACT.sample(N, 5, MODEL.labels(N))
    x, levels = images.double(), [float(row.tau) for row in reversed(plan.rows)]
    for seen, here, there in zip([levels[0], *levels], [0.0, *levels], levels, strict=False):
        label, empty = both(x, seen)
        eps, more = ((x - (1 - seen) * data) / seen for data in (empty, label))
        # the image is not at the level at which it is seen: what it is made of follows from u alone there
        d = x - here * (eps - empty) if here == 0 else empty
        x = (1 - there) * d + there * (d + (eps - empty)) + there * strength * (1 - here) / (1 - seen) * (more - eps)
    found = invert(MODEL, manifold_constrained(plan, strength), images, iterations=0)
    torch.testing.assert_close(found, (x / float(plan.start.scale)).float(), atol=1e-3, rtol=1e-3)


def test_a_step_keeps_its_scale_on_the_way_up() -> None:
    plan = manifold_constrained(a_plan("ddim", 4), 0.5)
    assert [row.guidance for row in explicit_inversion(plan).rows] == [row.guidance for row in reversed(plan.rows)]


# bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: manifold_multistep(a_plan(), 1.5), r"guidance strength is 1.5; expected a number in \[0, 1\]"),
        (lambda: manifold_multistep(a_plan("heun", 5), 0.5), "needs rows of a multistep solver; row 1 of plan"),
        (lambda: manifold_multistep(a_plan("ancestral"), 0.5), "needs rows of a multistep solver; row 0 of plan"),
        (lambda: manifold_multistep(manifold_multistep(a_plan(), 0.5), 0.5), "row 0 of plan"),
    ],
)
def test_bad_input_is_told_in_one_line(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make()
    assert "\n" not in str(told.value)


def from_the_middle(plan: fewer.Plan, tau: float, solver: str, strength: float) -> tuple[Tensor, Tensor]:
    """Samples from one state in the middle: by the plan's part below, and by CFG++ of the solver's own part below."""
    x = unit_noise(5, range(N), SHAPE)
    init = EXACT.sample(N, 7, MODEL.labels(N))[0].float()
    direct = manifold_multistep(a_plan(solver).from_level(tau), strength)
    return tuple(fewer.sample(MODEL, p, noise=x, init=init, strength=tau) for p in (plan, direct))  # type: ignore[return-value]


@settings(deadline=None, max_examples=10)
@given(st.floats(0.0, 1.0), st.integers(1, 3))
def test_from_a_level_the_first_step_is_guided_too(strength: float, first: int) -> None:
    """At first order the part of a plan is the plan of the part; the pass without the label is kept, and used."""
    plan = manifold_multistep(a_plan("ddim"), strength)
    tau = float(plan.rows[2 * first].tau)
    below = plan.from_level(tau)
    assert len(below.rows) == len(plan.rows) - 2 * first
    assert [row.guidance for row in below.rows] == [row.guidance for row in plan.rows[2 * first :]]
    torch.testing.assert_close(*from_the_middle(plan, tau, "ddim", strength), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-3m", "unipc"])
def test_history_that_was_not_made_is_stood_in_for_by_the_same_pass(solver: str) -> None:
    """Each step of the part weighs the pass with the label as the plan does, and that without it too."""
    plan = manifold_multistep(a_plan(solver), 0.6)
    below = plan.from_level(float(plan.rows[4].tau))
    for mine, its in zip(below.rows, plan.rows[4:], strict=True):
        for which in range(2):
            own, whole = (sum(w for j, w in row.b.items() if j % 2 == which) for row in (mine, its))
            assert own == pytest.approx(whole, abs=1e-12)
    assert below.rows[1].b[1] != 0


def test_a_plan_cannot_start_between_the_two_passes_of_a_level() -> None:
    plan = manifold_multistep(a_plan(), 0.6)
    with pytest.raises(InputError, match=r"cannot start at row 3, whose step takes the pass of row 2") as told:
        plan.from_row(3)
    assert "\n" not in str(told.value)
