"""What every registered solver must do: its order, exactness on straight lines, finite weights, the asked cost."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.parts import find, parts
from fewer.plan import Plan
from fewer.solvers import Solver, compile_plan, standard
from fewer.solvers.trace import Level, Trace
from fewer.solvers.unipc import UniPC
from fewer.steps import Range, levels

NAMES = [part.name for part in parts("solvers")]
GAUSSIAN = GaussianMixture.random(2, components=1, seed=3)
MIXTURE = GaussianMixture.random(2, components=3, seed=4)


def compiled(solver: Solver, taus: np.ndarray | list[float]) -> Plan:
    """The solver on these levels, with the most calls that it can make there."""
    n = len(taus)
    calls = max(calls for calls in range(1, 2 * n + 2) if solver.steps(calls) == n)
    return compile_plan(solver, [Level(float(tau), 0.0) for tau in taus], calls)


def is_stochastic(name: str) -> bool:
    return compiled(find("solvers", name).make(), [0.9, 0.5]).stochastic


def output(mixture: GaussianMixture, x: Tensor, tau: float) -> Tensor:
    return (x - mixture.denoise(x, tau)) / tau


def flow(mixture: GaussianMixture, x: Tensor, tau0: float, tau1: float) -> Tensor:
    """The probability flow: in closed form, or by the classical Runge-Kutta method in steps of about 0.002."""
    if mixture.components == 1:
        return mixture.flow(x, tau0, tau1)
    taus = np.linspace(tau0, tau1, 2 + int(abs(tau1 - tau0) / 0.002))
    for here, there in pairwise(taus.tolist()):
        h = there - here
        k1 = output(mixture, x, here)
        k2 = output(mixture, x + h / 2 * k1, here + h / 2)
        k3 = output(mixture, x + h / 2 * k2, here + h / 2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + output(mixture, x + h * k3, there))
    return x


@cache
def trajectories(mixture: GaussianMixture, taus: tuple[float, ...]) -> list[Tensor]:
    """64 exact states (64, 2) at each of the levels."""
    noise = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    states = [taus[0] * noise + (1 - taus[0]) * mixture.sample(64, seed=1)[0]]
    for here, there in pairwise(taus):
        states.append(flow(mixture, states[-1], here, there))
    return states


def error(solver: Solver, mixture: GaussianMixture, taus: np.ndarray) -> float:
    """RMSE at the last of these levels, with exact states and outputs on the first three rows (float64).

    Solvers of several stages a step have no history and start from the first level.
    """
    plan = compiled(solver, taus)
    rows = plan.rows[:-1]  # the last goes on to level 0
    first = 3 if len(plan.rows) == len(taus) else 0
    exact = trajectories(mixture, tuple(taus.tolist()))
    outputs = {n: output(mixture, exact[n], float(taus[n])) for n in range(first)}
    x = exact[first]
    for n in range(first, len(rows)):
        outputs[n] = output(mixture, x, float(rows[n].tau))
        x = x + sum(b * outputs[j] for j, b in rows[n].b.items())
    return float((x - exact[-1]).square().mean().sqrt())


def in_log_s(n: int) -> np.ndarray:
    """N + 1 levels, regular in log s but for a ripple, from 0.85 to 0.15."""
    part = np.linspace(0, 1, n + 1)
    log_s = 1.734601 * (1 - 2 * (part + 0.03 * np.sin(2 * np.pi * part)))
    return 1 / (1 + np.exp(-log_s))


def measured_order(solver: Solver, mixture: GaussianMixture, grid: Any, coarse: int = 32) -> float:
    return float(np.log2(error(solver, mixture, grid(coarse)) / error(solver, mixture, grid(2 * coarse))))


@pytest.mark.parametrize("mixture", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("name", [name for name in NAMES if not is_stochastic(name)])
def test_order(name: str, mixture: GaussianMixture) -> None:
    solver = find("solvers", name).make()
    assert measured_order(solver, mixture, in_log_s, coarse=64) >= solver.order - 0.15


def test_order_of_variants() -> None:
    for p in (1, 2, 3):
        assert measured_order(UniPC(p, "bh1"), GAUSSIAN, in_log_s) >= p - 0.15


def test_ipndm_is_of_fourth_order_on_regular_steps() -> None:
    def regular(n: int) -> np.ndarray:
        s = np.linspace(2, 1, n + 1)
        return s / (1 + s)

    ipndm = find("solvers", "ipndm").make()
    assert measured_order(ipndm, GAUSSIAN, regular) >= 4 - 0.15
    assert measured_order(ipndm, GAUSSIAN, in_log_s) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", [name for name in NAMES if is_stochastic(name)])
def test_weak_order(name: str) -> None:
    """The variance of one Gaussian direction, carried exactly through the rows, nears the true one at this order."""
    solver, v = find("solvers", name).make(), 0.3

    def wrong(n: int) -> float:
        plan = compiled(solver, in_log_s(n))
        variance = (1 - plan.start.tau) ** 2 * v + plan.start.tau**2
        for k, row in enumerate(plan.rows[:-1]):
            a = (1 - row.tau) ** 2 * v + row.tau**2
            slope = (1 - (1 - row.tau) * v / a) / row.tau  # du/dx
            gain = (row.a or {k: 1.0}).get(k, 0.0) + row.b[k] * slope
            variance = gain**2 * variance + row.noise**2
        end = plan.rows[-1].tau
        return abs(variance - (1 - end) ** 2 * v - end**2)

    assert np.log2(wrong(64) / wrong(128)) >= solver.order - 0.15


@st.composite
def falling_levels(draw: Any) -> list[float]:
    """1 to 12 levels that fall by at least 5 % in s, from anywhere up to pure noise (exactly 1 in some)."""
    drops = draw(st.lists(st.floats(0.05, 4.0), min_size=0, max_size=11))
    log_s = draw(st.floats(-2.0, 10.0)) - np.cumsum([0.0, *drops])
    taus = (1 / (1 + np.exp(-log_s))).tolist()
    return [1.0, *taus[1:]] if draw(st.booleans()) else taus


@pytest.mark.parametrize("name", NAMES)
@given(taus=falling_levels())
@settings(deadline=None)
def test_point_mass_and_straight_lines(name: str, taus: list[float]) -> None:
    """Where the data are one point y the state before each row has mean (1 - tau) y and noise of deviation tau.

    From there follows x = y at the end; for deterministic solvers a = 1 and the weights of a row sum to the step in tau.
    """
    plan = compiled(find("solvers", name).make(), taus).check()
    size = 2 + len(plan.rows)  # coefficients of y, of the starting noise, of the noise after each row
    y, start = np.eye(size)[0], np.eye(size)[1]
    states = [(1 - plan.start.tau) * y + plan.start.scale * start]
    outputs: list[np.ndarray] = []
    for n, row in enumerate(plan.rows):
        outputs.append((states[n] - y) / row.tau)
        new = row.noise * np.eye(size)[2 + n]
        new = new + sum(a * states[j] for j, a in (row.a or {n: 1.0}).items())
        states.append(new + sum(b * outputs[j] for j, b in row.b.items()))
    for state, tau in zip(states, plan.levels, strict=True):
        assert state[0] == pytest.approx(1 - tau, abs=1e-9)
        assert np.linalg.norm(state[1:]) == pytest.approx(tau, abs=1e-9)
    if not plan.stochastic and not is_stochastic(name):
        for row, there in zip(plan.rows, plan.levels[1:], strict=True):
            assert row.a is None
            assert sum(row.b.values()) == pytest.approx(there - row.tau, abs=1e-9)


def a_model(**fields: Any) -> Model:
    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        raise AssertionError("compiling runs no network")

    return Model.from_denoiser(network, discrete(betas("linear")), (1, 2, 2), "noise", **fields)


@pytest.mark.parametrize("steps", [part.name for part in parts("steps")])
def test_cost_is_the_budget(steps: str) -> None:
    model = a_model()
    for name in NAMES:
        for nfe in range(1, 13):
            plan = standard(name, model, nfe, steps).check()
            assert plan.nfe == nfe == len(plan.rows)
            assert plan.end == 0
            assert plan.levels[0] <= model.start
            times = [float(model.schedule.time(row.tau)) for row in plan.rows]
            assert [row.t for row in plan.rows] == pytest.approx(times, abs=1e-9)


SPANS = {
    "discrete": Range(discrete(betas("scaled_linear")), discrete(betas("scaled_linear")).tau_max),
    "discrete, safe start": Range(discrete(betas("squaredcos_cap_v2")), 64 / 65),
    "discrete, pure noise": Range(discrete(betas("linear"), zero_terminal_snr=True), 1.0),
    "flow": Range(Flow(), 1.0),
    "told sigma": Range(VarianceExploding(), VarianceExploding().tau_max),
    "told log sigma": Range(VarianceExploding(told="quarter-log"), VarianceExploding().tau_max),
}


@pytest.mark.parametrize("steps", [part.name for part in parts("steps")])
@pytest.mark.parametrize("span", SPANS)
def test_grids_stay_where_the_network_was_trained(steps: str, span: str) -> None:
    """They fall from the start or below it, and end at the cleanest trained level or above it."""
    if (steps, span) == ("quadratic", "told log sigma"):
        with pytest.raises(InputError, match="cannot place"):  # these times are negative
            levels(steps, SPANS[span], 5)
        return
    for n in (1, 2, 5, 12):
        found = levels(steps, SPANS[span], n)
        assert found.shape == (n,)
        assert (np.diff(found) < 0).all()
        assert SPANS[span].schedule.tau_min * (1 - 1e-9) <= found[-1] <= found[0] <= SPANS[span].start + 1e-12
        if steps != "leading":
            assert found[0] == pytest.approx(SPANS[span].start, abs=1e-12)


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
        ({"nfe": 2.0}, "nfe is 2.0"),
        ({"nfe": True}, "nfe is True"),
        ({"guidance": 3.0}, "guidance 3 needs a model with labels"),
        ({"guidance": float("nan")}, "guidance scale is nan"),
    ],
)
def test_what_cannot_be_asked(arguments: dict[str, Any], says: str) -> None:
    asked = {"name": "ddim", "nfe": 4, "steps": "karras", **arguments}
    with pytest.raises(InputError, match=says) as caught:
        standard(model=a_model(), **asked)
    assert "\n" not in str(caught.value)


def test_history_across_noise_is_refused() -> None:
    """A solver whose state needs an earlier one's noise cannot be put into rows that name the current state only."""
    trace = Trace()
    first = trace.call(trace.start, Level(0.9, 900.0))
    noisy = 0.5 * trace.start + 0.1 * first.u + 0.3 * trace.noise()
    second = trace.call(noisy, Level(0.5, 500.0))
    with pytest.raises(ValueError, match="history reaches across noise"):
        trace.plan(trace.start + 0.1 * second.u, "odd")


def test_a_safe_start_is_used() -> None:
    """Noise prediction on the cosine schedule starts at s = 64, not at s = 2e4, unless a level is given."""
    model = replace(a_model(), schedule=discrete(betas("squaredcos_cap_v2")))
    assert standard("ddim", model, 5).start.tau == pytest.approx(64 / 65)
    assert standard("ddim", model, 5, start=0.9).start.tau == pytest.approx(0.9)
    assert standard("ddim", replace(model, predicts="velocity"), 5).start.tau == pytest.approx(model.schedule.tau_max)
