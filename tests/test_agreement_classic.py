"""Tables of the classical methods against diffusers': Runge-Kutta, singlestep, noise form, PNDM, LMS, UniPC's variants.

As in test_agreement, on the levels and times that diffusers takes, in the unrolled form. The differences that remain:

- DPM-Solver in noise form (dpmsolver), and UniPC in noise form, end at the cleanest trained level in diffusers, with a
  step of lower order below 15 calls; ours go on to level 0. All states before that step are compared.
- PNDM's and KDPM2's inner calls: diffusers halves a step of N // n times in whole numbers, and rounds the times of
  Karras' levels. Levels here are compared where the halves are whole, times to half of one.
- In noise form the singlestep scheduler goes back to a step's start by alpha'/alpha, whose alpha, in float32, is off by
  4e-5 at the first time of the cosine schedule (s = 2e4).
- PNDM ends at the level of time 0 unless `set_alpha_to_one`; it cannot be set up below 4 steps with Runge-Kutta start.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import diffusers
import numpy as np
import pytest

from fewer.engine.times import times_under
from fewer.integrations.probe import from_diffusers
from fewer.levels import half_log_snr
from fewer.models.pipelines.folder import schedule_of
from fewer.plan import Plan
from fewer.registry import find
from fewer.solvers import Solver, compile_plan
from fewer.solvers.forms import DATA_IN_LAMBDA, NOISE_IN_LAMBDA, Form, polynomial_step
from fewer.solvers.ode.adams import RES2M
from fewer.solvers.ode.dpm import DPMSolver2M
from fewer.solvers.ode.dpmpp import DPMSolverPP2M
from fewer.solvers.ode.singlestep import DPMSolver2S, DPMSolver3S, DPMSolverPP2S, DPMSolverPP3S
from fewer.solvers.ode.unipc import Start, UniPC
from fewer.solvers.trace import Level, Trace

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
}
GRIDS: list[dict[str, Any]] = [
    {"timestep_spacing": "leading"},
    {"timestep_spacing": "trailing"},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
]
SINGLES: list[dict[str, Any]] = [{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}]
# Karras' and the exponential grid end where diffusers' last step does: 0 / 0 from 15 calls on
SPACINGS: list[dict[str, Any]] = [{"timestep_spacing": "linspace"}, {"timestep_spacing": "leading"}]
LEADING: list[dict[str, Any]] = [{"timestep_spacing": "leading"}]
MIN = {"final_sigmas_type": "sigma_min"}
MULTI, SINGLE, UNI = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"


def unrolled(plan: Plan) -> np.ndarray:
    """(N + 1, 1 + N): each state's weights on the first state and on the outputs."""
    states = [np.eye(1, 1 + len(plan.rows))[0]]
    for n, row in enumerate(plan.rows):
        new = sum(a * states[j] for j, a in (row.a or {n: 1.0}).items())
        for j, b in row.b.items():
            new = new + b * np.eye(1, 1 + len(plan.rows), 1 + j)[0]
        states.append(new)
    return np.stack(states)


# our part or solver, diffusers' class, its options for the method, its grids
CASES: dict[str, tuple[str | Solver, str, dict[str, Any], list[dict[str, Any]]]] = {
    "lms": ("lms", "LMSDiscreteScheduler", {}, GRIDS),
    "kdpm2": ("kdpm2", "KDPM2DiscreteScheduler", {}, GRIDS[1:3]),
    "plms": ("plms", "PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": True}, LEADING),
    "pndm": ("pndm", "PNDMScheduler", {"set_alpha_to_one": True}, LEADING),
    "dpmpp first order": ("ddim", MULTI, {"solver_order": 1}, GRIDS),
    "dpmpp-2m heun": (DPMSolverPP2M(variant="heun"), MULTI, {"solver_type": "heun"}, GRIDS),
    "dpm-2m": ("dpm-2m", MULTI, {"algorithm_type": "dpmsolver", **MIN}, SPACINGS),
    "dpm-2m heun": (DPMSolver2M(variant="heun"), MULTI, {"algorithm_type": "dpmsolver", "solver_type": "heun", **MIN}, SPACINGS),
    "dpm-3m": ("dpm-3m", MULTI, {"algorithm_type": "dpmsolver", "solver_order": 3, **MIN}, SPACINGS),
    "dpmpp-2s": ("dpmpp-2s", SINGLE, {}, SINGLES),
    "dpmpp-3s": ("dpmpp-3s", SINGLE, {"solver_order": 3}, SINGLES),
    "dpmpp-2s heun": (DPMSolverPP2S(variant="heun"), SINGLE, {"solver_type": "heun"}, SINGLES),
    "dpmpp-3s heun": (
        DPMSolverPP3S(variant="heun"), SINGLE, {"solver_order": 3, "solver_type": "heun"}, SINGLES,
    ),
    "dpm-2s": ("dpm-2s", SINGLE, {"algorithm_type": "dpmsolver", **MIN}, SINGLES),
    "dpm-3s": ("dpm-3s", SINGLE, {"algorithm_type": "dpmsolver", "solver_order": 3, **MIN}, SINGLES),
    "dpm-2s heun": (
        DPMSolver2S(variant="heun"), SINGLE, {"algorithm_type": "dpmsolver", "solver_type": "heun", **MIN}, SINGLES,
    ),
    "dpm-3s heun": (
        DPMSolver3S(variant="heun"),
        SINGLE,
        {"algorithm_type": "dpmsolver", "solver_order": 3, "solver_type": "heun", **MIN},
        SINGLES,
    ),
    "unipc-1": ("unipc-1", UNI, {"solver_order": 1}, GRIDS),
    "unipc-2 without corrector": (UniPC(corrector=False), UNI, {"disable_corrector": list(range(20))}, GRIDS),
    "unipc-3 without corrector": (
        UniPC(3, corrector=False), UNI, {"solver_order": 3, "disable_corrector": list(range(20))}, GRIDS,
    ),
    "unipc-2 noise": (UniPC(predicts="noise"), UNI, {"predict_x0": False, **MIN}, SPACINGS),
    "unipc-3 noise": (UniPC(3, predicts="noise"), UNI, {"solver_order": 3, "predict_x0": False, **MIN}, SPACINGS),
    "unipc-bh1 noise": (
        UniPC(2, "bh1", "noise"), UNI, {"predict_x0": False, "solver_type": "bh1", **MIN}, SPACINGS,
    ),
}  # fmt: skip


def outer(case: str, rows: list[Level]) -> list[Level]:
    """The levels of whole steps, among those of all calls."""
    if case == "kdpm2":
        return rows[::2]
    if case == "pndm":
        return [*rows[0:12:4], *rows[12:]]
    return [next(same) for _, same in groupby(rows, key=lambda level: level.tau)]


def step_numbers(case: str) -> tuple[int, ...]:
    """On either side of 15, where many schedulers begin to keep their order to the end; of each remainder in 2 and 3."""
    if case in ("lms", "kdpm2"):  # which take long, LMS for its integrals, and have no such side
        return (2, 6)
    return (4, 6, 20) if case == "pndm" else (1, 2, 5, 6, 7, 20) if CASES[case][1] == SINGLE else (2, 6, 20)


@pytest.mark.parametrize(
    "schedule",
    ["linear", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scaled_linear", "squaredcos_cap_v2"))],
)
@pytest.mark.parametrize("case", CASES)
def test_tables(case: str, schedule: str) -> None:
    which, kind, method, grids = CASES[case]
    solver = find("solvers", which).make() if isinstance(which, str) else which
    for grid in grids:
        scheduler = getattr(diffusers, kind)(**SCHEDULES[schedule], **method, **grid)  # some take long to be made
        for n in step_numbers(case):
            theirs = from_diffusers(scheduler, n)
            process = schedule_of(scheduler)[0]
            places = outer(case, [Level(float(row.tau), process, t=float(row.t)) for row in theirs.rows])
            ours = replace(compile_plan(solver, places, len(theirs.rows)), start=theirs.start)
            last = -1 if MIN.items() <= method.items() else None
            said = f"{grid} {n}"
            apart = 0.5 + 1e-3 if case in ("kdpm2", "pndm") else 0.0
            mine, its = (times_under({0: process}, plan) for plan in (ours, theirs))
            np.testing.assert_allclose(mine, its, rtol=0, atol=apart)
            np.testing.assert_allclose([r.tau for r in ours.rows], [r.tau for r in theirs.rows], rtol=0, atol=1e-6)
            found, expected = unrolled(ours)[:last], unrolled(theirs)[:last]
            noisiest = case.startswith("dpm-3s") and schedule == "squaredcos_cap_v2"
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4 if noisiest else 1e-5, err_msg=said)


@pytest.mark.parametrize("n", [1, 2, 6, 20])
def test_edm_multistep(n: int) -> None:
    for options, solver in (
        ({"solver_order": 3}, find("solvers", "dpmpp-3m").make()),
        ({"solver_type": "heun"}, DPMSolverPP2M(variant="heun")),
        ({"solver_order": 1}, find("solvers", "ddim").make()),
    ):
        theirs = from_diffusers(diffusers.EDMDPMSolverMultistepScheduler(**options), n)
        ours = compile_plan(solver, [Level(float(row.tau), t=float(row.t)) for row in theirs.rows])
        np.testing.assert_allclose(unrolled(ours), unrolled(theirs), rtol=0, atol=1e-5)


TAUS = (0.97, 0.9, 0.7, 0.5, 0.3, 0.15, 0.05)


def rows_of(solver: Solver) -> list[dict[int, float]]:
    return [dict(row.b) for row in compile_plan(solver, [Level(tau, t=1000 * tau) for tau in TAUS]).rows]


def test_methods_that_are_one() -> None:
    """Names that mean one table, and steps that are one where both have their full order."""

    def same(a: list[dict[int, float]], b: list[dict[int, float]]) -> None:
        for row, other in zip(a, b, strict=True):
            for j in row.keys() | other.keys():
                assert row.get(j, 0.0) == pytest.approx(other.get(j, 0.0), abs=1e-11)

    same(rows_of(find("solvers", "lms").make()), rows_of(find("solvers", "ipndm-v").make()))
    same(rows_of(RES2M()), rows_of(DPMSolverPP2M(variant="heun")))
    same(rows_of(UniPC(corrector=False)), rows_of(DPMSolverPP2M()))  # its predictor alone, with bh2
    # on a grid regular in log s the calls of a step lie where the papers put them
    regular = [Level(tau) for tau in 1 / (1 + np.exp(-np.linspace(3, -3, 9)))]
    for on_grid in (DPMSolver2S(), DPMSolverPP2S(), DPMSolver3S(), DPMSolverPP3S()):
        own = replace(on_grid, inner="own")
        whole = [regular[k] for k in np.cumsum([0, *own.sizes(9)[:-1]])]
        same(
            [dict(r.b) for r in compile_plan(on_grid, regular).rows],
            [dict(r.b) for r in compile_plan(own, whole, 9).rows],
        )


@pytest.mark.parametrize(("predicts", "form"), [("data", DATA_IN_LAMBDA), ("noise", NOISE_IN_LAMBDA)])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_unipc_integrates_polynomials(predicts: Any, form: Form, variant: Any) -> None:
    """Its predictor of order p is Adams-Bashforth's exponential step of p outputs, p > 2; its corrector Adams-Moulton's."""
    trace, unipc = Trace(), UniPC(4, variant, predicts)
    known = [(level, trace.call(trace.start, level)) for level in (Level(tau) for tau in TAUS[:5])]
    past = [(half_log_snr(level.tau), unipc.prediction(out)) for level, out in known]
    for p in (3, 4):
        (here, out), there = known[3], known[4][0]
        start = Start(trace.start, here, out)
        step = unipc.predict(start, there, past[4 - p : 3])
        exact = polynomial_step(form, trace.start, known[3], there, known[4 - p : 3])
        assert max(abs(w) for w in (step - exact).weights.values()) < 1e-11
        step = unipc.correct(start, there, past[4 - p : 3], unipc.prediction(known[4][1]))
        exact = polynomial_step(form, trace.start, known[3], there, [*known[4 - p : 3], known[4]])
        assert max(abs(w) for w in (step - exact).weights.values()) < 1e-11
