"""Samplers with noise against ComfyUI's update equations, written down step by step, on an exact model, given the same draws.

Each equation is one for a state x = alpha D + sigma eps with s = sigma / alpha and lambda = -log s; flows have alpha = 1 - sigma,
and models of sigmas alpha = 1. The differences that remain:

- From pure noise on (s infinite) ComfyUI starts a little below it, or puts the inner call of a two-stage step at sigma 0.9999.
- `sample_er_sde` sums its integrals over 200 points, from the left; here they are exact. The difference falls as 1 / points.
- `sample_sa_solver` integrates the line through two outputs exactly, unless `simple_order_2` is set; here, as in diffusers, it has
  the simple weights. It lowers its orders earlier towards the end than diffusers and this package do, and asks for the noise of a
  step at the step's end: states are compared as long as its orders are the highest, under noise that is the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from fewer.levels import s_of_tau
from fewer.plan import Plan
from fewer.solvers import Solver, compile_plan
from fewer.solvers.sde.ddim_eta import DDIMEta, EulerAncestralFlow
from fewer.solvers.sde.dpmpp_multistep import SDEDPMSolverPP2M, SDEDPMSolverPP3M
from fewer.solvers.sde.er_sde import ERSDE
from fewer.solvers.sde.sa_solver import SASolver
from fewer.solvers.sde.seeds import SEEDS2, SEEDS3, DPMSolverPPSDE
from fewer.solvers.sde.two_stage_ancestral import (
    DPMSolverPP2SAncestral,
    DPMSolverPP2SAncestralFlow,
    KDPM2Ancestral,
    KDPM2AncestralFlow,
)
from fewer.solvers.trace import Level

TAUS = (0.985, 0.93, 0.8, 0.61, 0.4, 0.22, 0.09, 0.02)
MEANS, SPREAD = np.array([-1.1, 0.4, 1.3]), 0.15
Data = Callable[[float, float], float]  # D at a state of a level


def data(x: float, tau: float) -> float:
    """E[D | x] of three Gaussians on the line, x = (1 - tau) D + tau eps."""
    a, total = 1 - tau, (1 - tau) ** 2 * SPREAD + tau**2
    shares = np.exp(-((x - a * MEANS) ** 2) / (2 * total))
    each = MEANS + a * SPREAD / total * (x - a * MEANS)
    return float((shares * each).sum() / shares.sum())


def ours(plan: Plan, x: float, z: np.ndarray) -> list[float]:
    """Every state of a plan's rows."""
    states, outputs = [x], list[float]()
    for n, row in enumerate(plan.rows):
        tau = float(row.tau)
        outputs.append((states[n] - data(states[n], tau)) / tau)
        after = sum(float(a) * states[j] for j, a in (row.a or {n: 1.0}).items())
        states.append(after + sum(float(b) * outputs[j] for j, b in row.b.items()) + float(row.noise) * z[n])
    return states


class Process:
    """A state's own frame: alpha and sigma of a level, and D of its state."""

    def __init__(self, flow: bool) -> None:
        self.flow = flow

    def alpha(self, tau: float) -> float:
        return 1 - tau if self.flow else 1.0

    def sigma(self, tau: float) -> float:
        return tau if self.flow else s_of_tau(tau)

    def data(self, x: float, tau: float) -> float:
        return data(x * (1 - tau) / self.alpha(tau), tau)

    def to_flow(self, x: float, tau: float) -> float:
        return x * (1 - tau) / self.alpha(tau)


def lam(tau: float) -> float:
    return -math.log(s_of_tau(tau))


def at_lambda(value: float) -> float:
    """The level of lambda."""
    s = math.exp(-value)
    return s / (1 + s)


Steps = Iterator[tuple[float, float]]  # the states and levels after each step


def euler_ancestral(p: Process, x: float, z: Iterator[float], eta: float) -> Steps:
    """To a lower level along the flow, and up by noise; the lower level's s by DDIM's eta, or in flows its tau in proportion."""
    for tau, there in pairwise((*TAUS, 0.0)):
        d = p.data(x, tau)
        if there == 0:
            yield d, there
            return
        low = lower(p, tau, there, eta)
        x = up(p, along(p, x, d, tau, low), low, there, z)
        yield x, there


def lower(p: Process, tau: float, there: float, eta: float) -> float:
    if p.flow:
        return there * (1 - eta * (1 - there / tau))
    s, end = s_of_tau(tau), s_of_tau(there)
    added = min(end, eta * end * math.sqrt(1 - (end / s) ** 2))
    low = math.sqrt(end**2 - added**2)
    return low / (1 + low)


def along(p: Process, x: float, d: float, tau: float, there: float) -> float:
    """With D held: x' = alpha' D + sigma' (x - alpha D) / sigma."""
    return p.alpha(there) * d + p.sigma(there) * (x - p.alpha(tau) * d) / p.sigma(tau)


def up(p: Process, x: float, low: float, there: float, z: Iterator[float]) -> float:
    """The signal scaled to alpha', and noise of the variance that is missing in sigma'^2."""
    scale = p.alpha(there) / p.alpha(low)
    return scale * x + math.sqrt(p.sigma(there) ** 2 - (scale * p.sigma(low)) ** 2) * next(z)


def two_stage_ancestral(p: Process, x: float, z: Iterator[float], eta: float) -> Steps:
    """The same with a step of two calls: the D of the middle in lambda."""
    for tau, there in pairwise((*TAUS, 0.0)):
        d = p.data(x, tau)
        if there == 0:
            yield d, there
            return
        low = lower(p, tau, there, eta)
        middle = at_lambda((lam(tau) + lam(low)) / 2)
        x = along(p, x, p.data(along(p, x, d, tau, middle), middle), tau, low)
        x = up(p, x, low, there, z)
        yield x, there


def sde_step(p: Process, x: float, d: float, levels: tuple[float, float], eta: float) -> float:
    """The reverse SDE's with D held, without its noise."""
    tau, there = levels
    h = lam(there) - lam(tau)
    kept = p.sigma(there) / p.sigma(tau) * math.exp(-eta * h)
    return kept * x - p.alpha(there) * math.expm1(-(1 + eta) * h) * d


def fresh(p: Process, levels: tuple[float, float], eta: float, z: float) -> float:
    tau, there = levels
    return p.sigma(there) * math.sqrt(-math.expm1(-2 * eta * (lam(there) - lam(tau)))) * z


def multistep(p: Process, x: float, z: Iterator[float], eta: float, outputs: int, heun: bool) -> Steps:
    """SDE-DPM-Solver++ with two or three outputs: phi_1 D and, of the differences over lambda, phi_2 and phi_3 or half of phi_1."""
    past: list[tuple[float, float]] = []  # lambda and D, newest last
    for tau, there in pairwise((*TAUS, 0.0)):
        past.append((lam(tau), p.data(x, tau)))
        if there == 0:
            yield past[-1][1], there
            return
        h = lam(there) - lam(tau)
        decay = (1 + eta) * h
        phi_1 = -math.expm1(-decay)
        phi_2 = 1 - phi_1 / decay
        after = sde_step(p, x, past[-1][1], (tau, there), eta)
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) * h for a, b in pairwise(past)]  # in units of the step
        if slopes and outputs == 2:
            after += p.alpha(there) * (phi_2 if heun else phi_1 / 2) * slopes[-1]
        elif len(slopes) == 1:
            after += p.alpha(there) * phi_2 * slopes[-1]
        elif slopes:
            last, before = ((b[0] - a[0]) / h for a, b in (past[-2:], past[-3:-1]))
            bend = (slopes[-1] - slopes[-2]) / (last + before)
            first = slopes[-1] + bend * last
            after += p.alpha(there) * (phi_2 * first - (phi_2 / decay - 0.5) * bend)
        x = after + fresh(p, (tau, there), eta, next(z))
        yield x, there


def er_sde(p: Process, x: float, z: Iterator[float], stages: int, points: int | None = None) -> Steps:
    """With phi(s) = s (e^(s^0.3) + 10); integrals over s exactly, or as the sum of so many points from the left."""

    def phi(s: np.ndarray | float) -> np.ndarray:
        return s * (np.exp(np.power(s, 0.3)) + 10)

    def integral(f: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> float:
        if points is None:
            return float(integrate.quad(f, low, high, epsabs=0, epsrel=1e-11, limit=400)[0])
        width = (high - low) / points
        return float(f(low + width * np.arange(points)).sum() * width)

    past: list[tuple[float, float]] = []
    slopes: list[float] = []
    for tau, there in pairwise((*TAUS, 0.0)):
        past.append((s := s_of_tau(tau), p.data(x, tau)))
        if there == 0:
            yield past[-1][1], there
            return
        end = s_of_tau(there)
        kept = float(phi(end) / phi(s))
        x = p.alpha(there) * (kept * x / p.alpha(tau) + (1 - kept) * past[-1][1])
        if len(past) > 1:
            slopes.append((past[-1][1] - past[-2][1]) / (past[-1][0] - past[-2][0]))
        if slopes and stages > 1:
            weight = end - s + float(phi(end)) * integral(lambda r: 1 / phi(r), end, s)
            x += p.alpha(there) * weight * slopes[-1]
        if len(slopes) > 1 and stages > 2:
            weight = (end - s) ** 2 / 2 + float(phi(end)) * integral(lambda r, s=s: (r - s) / phi(r), end, s)
            x += p.alpha(there) * weight * (slopes[-1] - slopes[-2]) / ((s - past[-3][0]) / 2)
        x += p.alpha(there) * math.sqrt(end**2 - (s * kept) ** 2) * next(z)
        yield x, there


def seeds(p: Process, x: float, z: Iterator[float], eta: float, stages: int) -> Steps:
    """Exponential stages at halves or thirds of the step in lambda, whose noises are of one path."""

    def path(noise: float, length: float) -> float:
        return math.exp(-eta * length) * noise + math.sqrt(-math.expm1(-2 * eta * length)) * next(z)

    for tau, there in pairwise((*TAUS, 0.0)):
        first = p.data(x, tau)
        if there == 0:
            yield first, there
            return
        h, late, noise = lam(there) - lam(tau), first, 0.0
        for k in range(1, stages + 1):
            level = there if k == stages else at_lambda(lam(tau) + h * k / stages)
            decay = (1 + eta) * h * k / stages
            phi_1 = -math.expm1(-decay)
            if k == 1:
                weight = 0.0
            elif stages == 2:
                weight = phi_1 * k / 2  # the D of the middle in the place of the start's
            else:
                weight = (1 - phi_1 / decay) * k / (k - 1)  # the line through both
            noise = path(noise, h / stages)
            state = sde_step(p, x, first, (tau, level), eta) + p.alpha(level) * weight * (late - first)
            state += p.sigma(level) * noise
            late = p.data(state, level) if k < stages else late
        x = state
        yield x, there


def dpmpp_sde(p: Process, x: float, z: Iterator[float], eta: float) -> Steps:
    """Two DDIM steps with eta from the start, to the middle and to the end, whose noises are increments of a path in s."""
    for tau, there in pairwise((*TAUS, 0.0)):
        d = p.data(x, tau)
        if there == 0:
            yield d, there
            return
        middle = at_lambda((lam(tau) + lam(there)) / 2)
        s, half, end = (s_of_tau(each) for each in (tau, middle, there))
        w = next(z), next(z)
        drawn = {middle: w[0], there: (math.sqrt(s - half) * w[0] + math.sqrt(half - end) * w[1]) / math.sqrt(s - end)}

        def to(level: float, d: float, drawn: dict[float, float] = drawn, x: float = x, tau: float = tau) -> float:
            here, low = s_of_tau(tau), s_of_tau(level)
            added = min(low, eta * low * math.sqrt(1 - (low / here) ** 2))
            kept = math.sqrt(low**2 - added**2)
            return p.alpha(level) * (d + kept * (x / p.alpha(tau) - d) / here + added * drawn[level])

        x = to(there, p.data(to(middle, d), middle))
        yield x, there


def sa_solver(p: Process, x: float, z: Iterator[float], tau_noise: float, predictor: int, corrector: int) -> Steps:
    """Adams: D a polynomial in lambda through the last outputs, and again with the one at the step's end and the same noise."""
    power = 1 + tau_noise**2

    def adams(nodes: list[tuple[float, float]], levels: tuple[float, float]) -> float:
        """alpha' (1 + tau^2) int e^((1 + tau^2) (l - l')) P(l) dl, P through the nodes."""
        tau, there = levels
        if len(nodes) == 2:  # the simple weights: half of (1 + tau^2) h for the slope in units of the step
            h, (start, end) = lam(there) - lam(tau), nodes
            slope = (end[1] - start[1]) / (end[0] - start[0]) * h
            held = end[1] if end[0] == lam(tau) else start[1]
            return p.alpha(there) * (-math.expm1(-power * h) * held + power * h / 2 * slope)
        points, weights = np.polynomial.legendre.leggauss(40)
        half, middle = (lam(there) - lam(tau)) / 2, (lam(there) + lam(tau)) / 2
        total = 0.0
        for j, (own, d) in enumerate(nodes):
            at = middle + half * points
            basis = np.prod(
                [(at - q) / (own - q) for i, (q, _) in enumerate(nodes) if i != j] or [np.ones_like(at)], axis=0
            )
            total += d * float(half * weights @ (np.exp(power * (at - lam(there))) * basis))
        return p.alpha(there) * power * total

    def kept(levels: tuple[float, float]) -> float:
        tau, there = levels
        return p.sigma(there) / p.sigma(tau) * math.exp(-(tau_noise**2) * (lam(there) - lam(tau)))

    past: list[tuple[float, float]] = []
    predicted, noise, calls = x, 0.0, len(TAUS)
    for i, (tau, there) in enumerate(pairwise((*TAUS, 0.0))):
        past.append((lam(tau), p.data(predicted, tau)))
        used = min(corrector, len(past), calls - i)
        if i == 0 or there == 0 or used == 0:
            x = predicted
        else:
            step = TAUS[i - 1], tau
            x = kept(step) * x + adams(past[-used:], step) + noise
        if there == 0:
            yield past[-1][1], there
            return
        noise = fresh(p, (tau, there), tau_noise**2, next(z))
        predicted = (
            kept((tau, there)) * x + adams(past[-min(predictor, len(past), calls - 1 - i) :], (tau, there)) + noise
        )
        yield predicted, there


FLOW, SIGMAS = Process(flow=True), Process(flow=False)
Formula = Callable[[Process, float, Iterator[float]], Steps]
CASES: list[tuple[str, Solver, Formula, tuple[Process, ...]]] = [
    ("euler_ancestral", DDIMEta(0.7), lambda p, x, z: euler_ancestral(p, x, z, 0.7), (SIGMAS,)),
    ("euler_ancestral of flows", EulerAncestralFlow(0.7), lambda p, x, z: euler_ancestral(p, x, z, 0.7), (FLOW,)),
    ("euler_ancestral eta 1", DDIMEta(1.0), lambda p, x, z: euler_ancestral(p, x, z, 1.0), (SIGMAS,)),
    ("dpmpp_2s_ancestral", DPMSolverPP2SAncestral(0.8), lambda p, x, z: two_stage_ancestral(p, x, z, 0.8), (SIGMAS,)),
    (
        "dpmpp_2s_ancestral of flows", DPMSolverPP2SAncestralFlow(0.8),
        lambda p, x, z: two_stage_ancestral(p, x, z, 0.8), (FLOW,),
    ),
    ("dpmpp_2m_sde", SDEDPMSolverPP2M(eta=0.6), lambda p, x, z: multistep(p, x, z, 0.6, 2, False), (FLOW, SIGMAS)),
    (
        "dpmpp_2m_sde_heun", SDEDPMSolverPP2M(eta=1.0, variant="heun"),
        lambda p, x, z: multistep(p, x, z, 1.0, 2, True), (FLOW, SIGMAS),
    ),
    ("dpmpp_3m_sde", SDEDPMSolverPP3M(eta=0.9), lambda p, x, z: multistep(p, x, z, 0.9, 3, True), (FLOW, SIGMAS)),
    ("dpmpp_sde", DPMSolverPPSDE(0.9), lambda p, x, z: dpmpp_sde(p, x, z, 0.9), (FLOW, SIGMAS)),
    *(
        (f"er_sde {stages}", ERSDE(stages), lambda p, x, z, n=stages: er_sde(p, x, z, n), (FLOW, SIGMAS))
        for stages in (1, 2, 3)
    ),
    ("seeds_2", SEEDS2(0.8), lambda p, x, z: seeds(p, x, z, 0.8, 2), (FLOW, SIGMAS)),
    ("seeds_3", SEEDS3(0.8), lambda p, x, z: seeds(p, x, z, 0.8, 3), (FLOW, SIGMAS)),
    *(
        (
            f"sa_solver {a}, {b}", SASolver(0.9, 0.0, predictor=a, corrector=b),
            lambda p, x, z, a=a, b=b: sa_solver(p, x, z, 0.9, a, b), (FLOW, SIGMAS),
        )
        for a, b in ((3, 4), (2, 3))
    ),
]  # fmt: skip


def states(solver: Solver, formula: Formula, p: Process) -> list[tuple[float, float]]:
    """Ours and the formula's state after every step, in the flow frame, from the same start and draws."""
    calls = next(calls for calls in range(40, 0, -1) if solver.steps(calls) == len(TAUS))
    plan = compile_plan(solver, [Level(tau) for tau in TAUS], calls)
    rng = np.random.default_rng(3)
    x, z = rng.standard_normal(), rng.standard_normal(calls)
    made = ours(plan, x, z)
    after = {float(there): state for there, state in zip(plan.levels, made, strict=True)}
    drawn = iter([z[n] for n, row in enumerate(plan.rows) if row.noise])
    start = x * p.alpha(TAUS[0]) / (1 - TAUS[0])
    found = [(after[there], p.to_flow(state, there)) for state, there in formula(p, start, drawn)]
    assert next(drawn, None) is None  # as many draws
    assert len(found) == len(TAUS)
    return found


@pytest.mark.parametrize(
    ("solver", "formula", "p"),
    [
        pytest.param(solver, formula, p, id=f"{name} {'flow' if p.flow else 'sigmas'}")
        for name, solver, formula, processes in CASES
        for p in processes
    ],
)
def test_every_state_is_that_of_the_update_equation(solver: Solver, formula: Formula, p: Process) -> None:
    whole = states(solver, formula, p)
    same = whole[:-3] if isinstance(solver, SASolver) else whole
    for own, its in same:
        assert own == pytest.approx(its, rel=1e-9, abs=1e-9)


def test_sums_over_points_come_to_the_integrals() -> None:
    """ComfyUI's 200 points are off by less than 2 % of the samples' size, and ten times as many by a tenth of that."""
    off = [
        max(abs(a - b) for a, b in states(ERSDE(3), lambda p, x, z, n=n: er_sde(p, x, z, 3, n), FLOW))
        for n in (200, 2000)
    ]
    assert off[0] < 0.02
    assert off[1] == pytest.approx(off[0] / 10, rel=0.3)


def test_the_midpoint_of_kdpm2_ancestral() -> None:
    """In models of sigmas Euler's step to the root of s s_d, and eps there for the whole step."""

    def midpoint(p: Process, x: float, z: Iterator[float]) -> Steps:
        for tau, there in pairwise((*TAUS, 0.0)):
            d = p.data(x, tau)
            if there == 0:
                yield d, there
                return
            low = lower(p, tau, there, 0.8)
            middle = at_lambda((lam(tau) + lam(low)) / 2)
            inner = along(p, x, d, tau, middle)
            s, half, end = (s_of_tau(each) for each in (tau, middle, low))
            x = up(p, x + (end - s) * (inner - p.data(inner, middle)) / half, low, there, z)
            yield x, there

    for own, its in states(KDPM2Ancestral(0.8), midpoint, SIGMAS):
        assert own == pytest.approx(its, rel=1e-9, abs=1e-9)


def test_the_midpoint_of_kdpm2_ancestral_of_flows() -> None:
    """Euler's step to the root of sigma sigma_d, and the velocity there for the whole step."""

    def midpoint(p: Process, x: float, z: Iterator[float]) -> Steps:
        for tau, there in pairwise((*TAUS, 0.0)):
            d = p.data(x, tau)
            if there == 0:
                yield d, there
                return
            low = lower(p, tau, there, 0.8)
            middle = math.sqrt(tau * low)
            inner = along(p, x, d, tau, middle)
            x = up(p, x + (low - tau) * (inner - p.data(inner, middle)) / middle, low, there, z)
            yield x, there

    for own, its in states(KDPM2AncestralFlow(0.8), midpoint, FLOW):
        assert own == pytest.approx(its, rel=1e-9, abs=1e-9)
