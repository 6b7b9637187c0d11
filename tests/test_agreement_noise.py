"""Samplers with noise: at zero noise their deterministic members to the bit, and with noise diffusers' own rows.

diffusers' rows are read off its schedulers (`from_diffusers`), and compared in the unrolled form with the weights of every noise.
The differences that remain:

- SDE-DPM-Solver++ of three outputs: diffusers subtracts 1/2 in the weight of the curvature where the integral adds it.
- SDE-DPM-Solver in noise form, and SA-Solver, end at the cleanest trained level in diffusers: all states before are compared.
- EulerDiscrete and EDMEuler give their network the state without the churn; here it has it, as in EDM's algorithm 2.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from fewer.errors import InputError
from fewer.integrations.probe import from_diffusers
from fewer.levels import tau_of_s
from fewer.plan.unrolled import unrolled
from fewer.registry import find
from fewer.solvers import Solver, compile_plan
from fewer.solvers.ode.ddim import DDIM
from fewer.solvers.ode.dpm import DPMSolver2M
from fewer.solvers.ode.dpmpp import DPMSolverPP2M, DPMSolverPP3M
from fewer.solvers.ode.heun import Heun
from fewer.solvers.ode.kdpm2 import KDPM2
from fewer.solvers.ode.singlestep import DPMSolverPP2S
from fewer.solvers.ode.unipc import UniPC
from fewer.solvers.sde.churn import EulerChurn, HeunChurn
from fewer.solvers.sde.ddim_eta import DDPM, DDIMEta, EulerAncestralFlow
from fewer.solvers.sde.dpmpp_multistep import (
    ExponentialEulerMaruyama,
    SDEDPMSolver2M,
    SDEDPMSolverPP2M,
    SDEDPMSolverPP3M,
)
from fewer.solvers.sde.er_sde import ERSDE
from fewer.solvers.sde.euler_maruyama import EulerMaruyama
from fewer.solvers.sde.flow import FlowCPS, FlowSDE, Overshoot
from fewer.solvers.sde.restart import Restart
from fewer.solvers.sde.sa_solver import SASolver
from fewer.solvers.sde.seeds import SEEDS1, SEEDS2, SEEDS3, DPMSolverPPSDE
from fewer.solvers.sde.two_stage_ancestral import DPMSolverPP2SAncestral, KDPM2Ancestral
from fewer.solvers.trace import Level

TAUS = {
    "from above": (0.985, 0.93, 0.8, 0.61, 0.4, 0.22, 0.09, 0.02),
    "from pure noise": (1.0, 0.9, 0.77, 0.5, 0.31, 0.2, 0.1, 0.05),
}
OWN = DPMSolverPP2S(inner="own")
WITHOUT_NOISE: list[tuple[Solver, Solver]] = [
    (DDIMEta(0.0), DDIM()), (EulerAncestralFlow(0.0), DDIM()), (FlowCPS(0.0), DDIM()), (Overshoot(0.0), DDIM()),
    (FlowSDE(0.0), DDIM()), (ExponentialEulerMaruyama(0.0), DDIM()), (SEEDS1(0.0), DDIM()), (EulerChurn(churn=0.0), DDIM()),
    (ERSDE(1, "flow"), DDIM()), (SDEDPMSolverPP2M(eta=0.0), DPMSolverPP2M()),
    (SDEDPMSolverPP2M(eta=0.0, variant="heun"), DPMSolverPP2M(variant="heun")),
    (SDEDPMSolverPP3M(eta=0.0), DPMSolverPP3M(variant="heun")),
    (SDEDPMSolverPP3M(eta=0.0, variant="midpoint"), DPMSolverPP3M()),
    (SDEDPMSolver2M(eta=0.0), DPMSolver2M()), (SASolver(0.0, predictor=2, corrector=3), UniPC(2, "bh1")),
    (SASolver(0.0), UniPC(3, "bh1")), (SASolver(0.0, corrector=0), UniPC(3, "bh1", corrector=False)),
    (SEEDS2(0.0), OWN), (SEEDS3(0.0), DPMSolverPP2S(3, "paper", "own")), (DPMSolverPPSDE(0.0), OWN),
    (DPMSolverPP2SAncestral(0.0), OWN), (KDPM2Ancestral(0.0), KDPM2()), (HeunChurn(churn=0.0), Heun()),
    (Restart(times=0), Heun()),
]  # fmt: skip


@pytest.mark.parametrize("taus", TAUS.values(), ids=TAUS)
@pytest.mark.parametrize(("solver", "member"), WITHOUT_NOISE, ids=[repr(solver) for solver, _ in WITHOUT_NOISE])
def test_without_noise_it_is_its_deterministic_member(solver: Solver, member: Solver, taus: tuple[float, ...]) -> None:
    calls = next(calls for calls in range(31, 0, -1) if solver.steps(calls) == len(taus) == member.steps(calls))
    ours, its = (compile_plan(each, [Level(tau) for tau in taus], calls) for each in (solver, member))
    assert not ours.stochastic
    assert ours.rows == its.rows


class DDIMWithEta(diffusers.DDIMScheduler):  # type: ignore[misc]
    """With an eta of its own, which pipelines give to `step`."""

    eta = 0.5

    def step(self, *args: Any, **given: Any) -> Any:
        return super().step(*args, **{"eta": self.eta, **given})


MULTI = diffusers.DPMSolverMultistepScheduler
MIN = {"final_sigmas_type": "sigma_min"}
LATE = {"timestep_spacing": "trailing"}
CASES: dict[str, tuple[Any, Solver, int | None]] = {  # scheduler, our solver, the states that are compared
    "ddpm": (diffusers.DDPMScheduler(clip_sample=False), DDPM(), None),
    "ddpm large": (diffusers.DDPMScheduler(clip_sample=False, variance_type="fixed_large"), DDPM(variance="large"), None),
    "ddim eta": (DDIMWithEta(clip_sample=False), DDIMEta(0.5), None),
    "euler ancestral": (diffusers.EulerAncestralDiscreteScheduler(), DDIMEta(1.0), None),
    "kdpm2 ancestral": (diffusers.KDPM2AncestralDiscreteScheduler(), KDPM2Ancestral(), None),
    "sde-dpm++ 1": (MULTI(algorithm_type="sde-dpmsolver++", solver_order=1), SEEDS1(), None),
    "sde-dpm++ 2m": (MULTI(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True), SDEDPMSolverPP2M(), None),
    "sde-dpm++ 2m heun": (MULTI(algorithm_type="sde-dpmsolver++", solver_type="heun"), SDEDPMSolverPP2M(variant="heun"), None),
    "sde-dpm 1": (MULTI(algorithm_type="sde-dpmsolver", solver_order=1, **MIN), ExponentialEulerMaruyama(), -1),
    "sde-dpm 2m": (MULTI(algorithm_type="sde-dpmsolver", **MIN), SDEDPMSolver2M(), -1),
    "sde-dpm 2m heun": (MULTI(algorithm_type="sde-dpmsolver", solver_type="heun", **MIN), SDEDPMSolver2M(variant="heun"), -1),
    "sa-solver": (diffusers.SASolverScheduler(tau_func=lambda t: 1), SASolver(1.0, 0.0, predictor=2, corrector=2), -1),
    "sa-solver 3, 4": (
        diffusers.SASolverScheduler(tau_func=lambda t: 0.7, predictor_order=3, corrector_order=4), SASolver(0.7, 0.0), -1,
    ),
    "flow euler with noise": (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True), find("solvers", "lcm").make(), None,
    ),
}  # fmt: skip


def outer(case: str, rows: list[Level]) -> list[Level]:
    """The levels of whole steps, among those of all calls."""
    rows = rows[::2] if case == "kdpm2 ancestral" else rows
    return [next(same) for _, same in groupby(rows, key=lambda level: level.tau)]


@pytest.mark.parametrize("n", [2, 6, 20])
@pytest.mark.parametrize("case", CASES)
def test_rows_are_diffusers_own(case: str, n: int) -> None:
    """The weights of every state on the start, on the outputs and on the noise of every row."""
    scheduler, solver, last = CASES[case]
    theirs = from_diffusers(scheduler, n)
    places = outer(case, [Level(float(row.tau), t=float(row.t or 0.0)) for row in theirs.rows])
    ours = replace(compile_plan(solver, places, len(theirs.rows)), start=theirs.start)
    coarse = (
        1e-3 if (case, n) == ("kdpm2 ancestral", 2) else 1e-5
    )  # whose float32 lower level is a difference of like numbers
    np.testing.assert_allclose(unrolled(ours)[:last], unrolled(theirs)[:last], rtol=coarse, atol=1e-5)


def test_dpm_solver_sde_is_diffusers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """DPMSolverSDEScheduler, whose noise comes of an increment of a path in sigma: here of the two parts of a step.

    Its module imports torchsde, for the path alone, which is not drawn from here.
    """
    monkeypatch.setitem(sys.modules, "torchsde", sys.modules.get("torchsde") or types.ModuleType("torchsde"))
    from diffusers.schedulers.scheduling_dpmsolver_sde import DPMSolverSDEScheduler

    n, state = 6, torch.zeros(1, 1, 1, 1 + 4 * 11, dtype=torch.float64)
    basis = iter(torch.eye(state.shape[-1], dtype=torch.float64).view(-1, *state.shape).unbind())
    scheduler = DPMSolverSDEScheduler(**LATE)
    scheduler.set_timesteps(n)
    scheduler.sigmas = scheduler.sigmas.double()
    parts: dict[float, tuple[float, torch.Tensor]] = {}

    def increment(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        top, bottom = float(high), float(low)
        if top not in parts:
            parts[top] = bottom, next(basis)
            noises.append(parts[top][1])
            return parts[top][1]
        middle, first = parts[top]
        second = next(basis)
        noises.append(second)
        share = (top - middle) / (top - bottom)
        return share**0.5 * first + (1 - share) ** 0.5 * second

    noises: list[torch.Tensor] = []
    scheduler.noise_sampler = increment
    x, outputs, places = next(basis), [], []
    first = x
    for i, t in enumerate(scheduler.timesteps):
        if i % 2 == 0:
            places.append(Level(tau_of_s(float(scheduler.sigmas[i])), t=float(t)))
        outputs.append(next(basis))
        before = len(noises)
        x = scheduler.step(outputs[-1], t, x).prev_sample
        if len(noises) == before:
            noises.append(torch.zeros_like(x))
    # eps is its output, and u = eps - D: with D = x - s eps of its state x this is (1 + s) eps - x, so samples are compared
    calls = len(outputs)
    ours = compile_plan(DPMSolverPPSDE(), places, calls)
    generator = np.random.default_rng(0)
    eps, z = generator.standard_normal(calls), generator.standard_normal(calls)
    theirs = _value(x, first, 1.0, outputs, eps, noises, z)
    states, us = [1 - places[0].tau], []
    for k, row in enumerate(ours.rows):  # with eps = x + (1 - tau) u
        us.append((eps[k] - states[k]) / (1 - float(row.tau)))
        step = sum(float(a) * states[j] for j, a in (row.a or {k: 1.0}).items()) + float(row.noise) * z[k]
        states.append(step + sum(float(b) * us[j] for j, b in row.b.items()))
    assert states[-1] == pytest.approx(theirs, rel=1e-6)


def _value(x: Any, first: Any, start: float, outputs: Any, eps: Any, noises: Any, z: Any) -> float:
    """A vector's value with numbers for its basis."""
    value = start * float((x * first).sum())
    value += sum(float((x * u).sum()) * e for u, e in zip(outputs, eps, strict=True))
    return value + sum(float((x * noise).sum()) * d for noise, d in zip(noises, z, strict=True) if noise.any())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DDIMEta(1.5), r"eta is 1\.5; expected a share from 0 to 1"),
        (lambda: EulerAncestralFlow(-0.1), "eta is -0.1"),
        (lambda: DDPM(variance="middle"), "variance is 'middle'"),  # type: ignore[arg-type]
        (lambda: SDEDPMSolverPP2M(eta=float("inf")), "eta is inf; expected a finite number"),
        (lambda: SEEDS2(float("nan")), "eta is nan"),
        (lambda: SASolver(low=2.0, high=1.0), "low is 2.0 and high 1.0"),
        (lambda: SASolver(corrector=1), "corrector is 1; expected one of 0, 2, 3, 4"),
        (lambda: SASolver(predictor=4), "predictor is 4"),
        (lambda: ERSDE(4), "outputs is 4"),
        (lambda: ERSDE(psi="none"), "psi is 'none'"),  # type: ignore[arg-type]
        (lambda: HeunChurn(churn=-1.0), "churn is -1.0"),
        (lambda: HeunChurn(low=1.0, high=0.5), "low is 1.0"),
        (lambda: Restart(low=0.0), "low is 0.0"),
        (lambda: Restart(times=-1), "times is -1"),
        (lambda: FlowCPS(2.0), "eta is 2.0"),
        (lambda: Overshoot(-1.0), "c is -1.0"),
        (lambda: FlowSDE(float("inf")), "a is inf"),
        (lambda: EulerMaruyama("sub"), "process is 'sub'"),  # type: ignore[arg-type]
    ],
)
def test_settings_out_of_range(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
