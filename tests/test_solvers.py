"""What every registered solver must do: its order, exactness on straight lines, finite weights, the asked cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.claims.solvers.orders import compiled, in_log_s, measured_order, one_call_a_step, weak_order
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, betas, discrete
from fewer.registry import find, parts
from fewer.samplers import standard
from fewer.solvers.ode.unipc import UniPC
from fewer.solvers.trace import Level, Trace
from fewer.testing import solvers

NAMES = [part.name for part in parts("solvers")]
GAUSSIAN = GaussianMixture.random(2, components=1, seed=3)
MIXTURE = GaussianMixture.random(2, components=3, seed=4)


def is_stochastic(name: str) -> bool:
    return compiled(find("solvers", name).make(), [0.9, 0.5]).stochastic


@pytest.mark.parametrize(
    "mixture", [pytest.param(GAUSSIAN, marks=pytest.mark.slow), MIXTURE], ids=["gaussian", "mixture"]
)
@pytest.mark.parametrize("name", [name for name in NAMES if not is_stochastic(name)])
def test_order(name: str, mixture: GaussianMixture) -> None:
    solver = find("solvers", name).make()
    coarse = 144 if one_call_a_step(solver) else 48
    assert measured_order(solver, mixture, coarse=coarse).value >= solver.order - 0.15


def test_order_of_variants() -> None:
    for p in (1, 2, 3):
        assert measured_order(UniPC(p, "bh1"), GAUSSIAN, coarse=32).value >= p - 0.15


def test_ipndm_is_of_fourth_order_on_regular_steps() -> None:
    def regular(n: int) -> np.ndarray:
        s = np.linspace(2, 1, n + 1)
        return s / (1 + s)

    ipndm = find("solvers", "ipndm").make()
    assert measured_order(ipndm, GAUSSIAN, regular, coarse=48).value >= 4 - 0.15
    assert measured_order(ipndm, GAUSSIAN, coarse=32).value == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", [name for name in NAMES if is_stochastic(name)])
def test_weak_order(name: str) -> None:
    solver = find("solvers", name).make()
    assert weak_order(solver, seed=0).low >= solver.order - 0.15


STOCHASTIC = [name for name in NAMES if is_stochastic(name) and find("solvers", name).make().order >= 1]


@pytest.mark.parametrize("name", STOCHASTIC)
def test_law_on_a_gaussian(name: str) -> None:
    """Mean and variance along each axis, carried exactly through the rows, without a sample: the mean is the data's at every
    level, to 1 / n where a solver is not exact on points, and the variance comes nearer with more steps.
    """
    mean, variance, wrong = 0.8, 0.3, []
    for n in (16, 64):
        plan = compiled(find("solvers", name).make(), in_log_s(n))
        tau = float(plan.start.tau)
        size = len(plan.rows) + 1
        states = [np.array([(1 - tau) * mean, np.hypot((1 - tau) * variance**0.5, tau), *np.zeros(size)])]
        outputs = []
        for k, row in enumerate(plan.rows[:-1]):  # states are a mean, then weights of the noises
            tau = float(row.tau)
            off = states[k] - (1 - tau) * mean * np.eye(1, size + 2)[0]
            data = mean * np.eye(1, size + 2)[0] + (1 - tau) * variance / ((1 - tau) ** 2 * variance + tau**2) * off
            outputs.append((states[k] - data) / tau)
            new = float(row.noise) * np.eye(1, size + 2, 2 + k)[0]
            new = new + sum(float(a) * states[j] for j, a in (row.a or {k: 1.0}).items())
            states.append(new + sum(float(b) * outputs[j] for j, b in row.b.items()))
        taus = np.array([float(row.tau) for row in plan.rows])
        means, variances = (
            np.array([part(state) for state in states]) for part in (lambda x: x[0], lambda x: x[1:] @ x[1:])
        )
        off = np.abs(means - (1 - taus) * mean).max()
        assert off < (1e-9 if solvers.exact_on_points(find("solvers", name).make()) else 1 / n)
        wrong.append(float(np.abs(variances - (1 - taus) ** 2 * variance - taus**2)[-1]))
    assert wrong[1] < wrong[0] / 2


@st.composite
def falling_levels(draw: Any) -> list[float]:
    """1 to 12 levels that fall by at least 5 % in s, from anywhere up to pure noise (exactly 1 in some)."""
    drops = draw(st.lists(st.floats(0.05, 4.0), min_size=0, max_size=11))
    log_s = draw(st.floats(-2.0, 10.0)) - np.cumsum([0.0, *drops])
    taus = (1 / (1 + np.exp(-log_s))).tolist()
    return [1.0, *taus[1:]] if draw(st.booleans()) else taus


@pytest.mark.parametrize("name", NAMES)
@given(taus=falling_levels())
@settings(deadline=None, max_examples=10)  # besides those of the conformance suite
def test_point_mass_and_straight_lines(name: str, taus: list[float]) -> None:
    """Exact where the data are one point; for deterministic solvers a = 1 and a row's weights sum to the step in tau."""
    solver = find("solvers", name).make()
    plan = compiled(solver, taus).check()
    if solvers.exact_on_points(solver):
        solvers.check_point_mass(plan)
    # levels that nearly coincide give polynomials large weights, whose sums lose as many digits as these have
    rounding = 1e-9 + 1e-11 * max(abs(b) for row in plan.rows for b in row.b.values())
    if not plan.stochastic and not is_stochastic(name):
        for row, there in zip(plan.rows, plan.levels[1:], strict=True):
            assert row.a is None
            assert sum(row.b.values()) == pytest.approx(there - row.tau, abs=rounding)


def a_model(**fields: Any) -> Model:
    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        raise AssertionError("compiling runs no network")

    return Model.from_denoiser(network, discrete(betas("linear")), (1, 2, 2), "noise", **fields)


# one of each way to spend calls: one or more a level, a start of its own, levels that rise
WAYS = ("ddim", "heun", "dpmpp-2s", "dpm-3s", "kdpm2", "pndm", "rk4", "nested", "seeds-3", "restart")


@pytest.mark.parametrize("steps", [part.name for part in parts("grids")])
def test_cost_is_the_budget(steps: str) -> None:
    """Of all solvers on one grid, and of each way to spend calls on all."""
    model = a_model()
    for name in NAMES if steps == "logsnr" else WAYS:
        for nfe in (1, 2, 3, 4, 5, 12):
            plan = standard(name, model, nfe, steps).check()
            assert plan.nfe == nfe == len(plan.rows)
            assert plan.end == 0
            assert plan.levels[0] <= model.start
            assert all(row.t is None for row in plan.rows)
            assert plan.model == model.signature


@pytest.mark.parametrize("name", NAMES)
def test_cost_with_guidance(name: str) -> None:
    model = a_model(labels=3, empty_label=3)
    for nfe in range(1, 8):
        plan = standard(name, model, nfe, guidance=4.0)
        assert plan.nfe == nfe
        scales = [row.guidance.scale for row in plan.rows if isinstance(row.guidance, ClassifierFree)]
        assert scales == [4.0] * (nfe // 2) + [1.0] * (nfe % 2)
        assert standard(name, model, nfe, guidance=1.0).nfe == nfe


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "dopri"}, "ddim"),
        ({"steps": "cosine"}, "karras"),
        ({"nfe": 0}, "nfe is 0"),
        ({"nfe": 2.5}, "nfe is 2.5"),
        ({"nfe": True}, "nfe is True"),
        ({"guidance": 3.0}, "guidance 3 needs a model with labels"),
        ({"guidance": float("nan")}, "guidance is nan"),
    ],
)
def test_what_cannot_be_asked(arguments: dict[str, Any], says: str) -> None:
    asked = {"name": "ddim", "nfe": 4, "steps": "karras", **arguments}
    with pytest.raises(InputError, match=says) as caught:
        standard(model=a_model(), **asked)
    assert "\n" not in str(caught.value)


def test_history_across_noise_names_the_earlier_state() -> None:
    """A state that needs an earlier one's noise, or its own without it, names earlier states; never more than three."""
    trace = Trace()
    x, kept = trace.start, []
    for n in range(6):
        kept.append(x)
        out = trace.call(x, Level(0.9 - 0.1 * n))
        x = 0.5 * x + 0.1 * out.u + 0.3 * trace.noise()
    last = trace.call(x, Level(0.2))
    for others in ([], [0], [3], [1, 3], [2, 3, 4], [0, 1, 3]):
        then = 0.4 * x + 0.1 * last.u + 0.2 * trace.noise()
        for j in others:
            then = then + (0.1 + j) * kept[j]
        row = trace.plan(then, "odd").rows[-1]
        assert row.a == pytest.approx({6: 0.4, **{j: 0.1 + j for j in others}}, abs=1e-9)
        assert row.b == pytest.approx({6: 0.1})
        assert row.noise == pytest.approx(0.2)
    with pytest.raises(ValueError, match="more than 4 states"):
        trace.plan(0.4 * x + 0.1 * kept[0] + 0.1 * kept[1] + 0.1 * kept[3] + 0.1 * kept[4], "odd")


def test_a_safe_start_is_used() -> None:
    """Noise prediction on the cosine schedule starts at s = 64, not at s = 2e4, unless a level is given."""
    model = replace(a_model(), schedule=discrete(betas("squaredcos_cap_v2")))
    assert standard("ddim", model, 5).start.tau == pytest.approx(64 / 65)
    assert standard("ddim", model, 5, start=0.9).start.tau == pytest.approx(0.9)
    assert standard("ddim", replace(model, predicts="velocity"), 5).start.tau == pytest.approx(model.schedule.tau_max)


def test_a_state_without_a_part_of_the_start_is_followed_by_rows_that_name_an_earlier_one():
    """Two orders cancel in it; of data at one point samples end there all the same."""
    model = fewer.Model.from_denoiser(lambda x, s, labels: torch.full_like(x, 0.3), Flow(), (1, 2, 2), hash="point")
    plan = fewer.standard("dpm-2m-sde", model, nfe=4, steps="uniform")
    assert len(plan.rows[2].a or {}) > 1
    torch.testing.assert_close(fewer.sample(model, plan, 4), torch.full((4, 1, 2, 2), 0.3), rtol=0, atol=1e-5)
