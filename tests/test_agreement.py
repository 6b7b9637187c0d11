"""Standard plans against diffusers: the same tables, the same samples, the same grids.

Tables are compared as its own schedulers say them (read by `from_diffusers`), on the levels and network times that it
uses, in the unrolled form x_n = A_n x_0 + sum_j B_nj u_j, which is unique.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from fewer.engine import Draws, begin, play
from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.integrations.probe import from_diffusers
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import schedule_of
from fewer.models.schedules import betas, discrete
from fewer.plan import Plan
from fewer.registry import find
from fewer.solvers import Solver, compile_plan
from fewer.solvers.ode.unipc import UniPC
from fewer.solvers.trace import Level

SCHEDULES = {
    "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
}
SIGMA_GRIDS: list[dict[str, Any]] = [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}]
SPACINGS: list[dict[str, Any]] = [{"timestep_spacing": name} for name in ("linspace", "leading", "trailing")]
CALLS = (1, 6, 20)  # below and above 15, where both lower orders towards the end or not


def ipndm(schedule: dict[str, Any], n: int) -> Any:
    """IPNDMScheduler with the schedule's own levels.

    Left alone it takes a sine from alpha = 0, where it uses D = 0; `trained_betas` are what it takes for sigma. Its
    float32 sigma is 1 above t = 990 of the cosine schedule, so the grid starts there.
    """
    table = 1 - torch.cumprod(1 - betas(schedule["beta_schedule"], 1000, **_ends(schedule)), 0)
    times = np.linspace(990, 0, n + 1)[:-1].round()
    return diffusers.IPNDMScheduler(trained_betas=[*table[times].sqrt().tolist(), 0.0])


def _ends(schedule: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in schedule.items() if key != "beta_schedule"}


# our name or solver, diffusers' class, its options for the method, its options for the grid
Case = tuple[str | Solver, str, dict[str, Any], list[dict[str, Any]]]
CASES: dict[str, Case] = {
    # DDIM takes N // n as every step's width, so that its own times and levels agree only with leading spacing
    "ddim": ("ddim", "DDIMScheduler", {"clip_sample": False}, [{"timestep_spacing": "leading"}]),
    "euler": ("euler", "EulerDiscreteScheduler", {}, [*SPACINGS, *SIGMA_GRIDS]),
    "heun": ("heun", "HeunDiscreteScheduler", {}, [*SPACINGS, *SIGMA_GRIDS]),
    "dpmpp-2m": ("dpmpp-2m", "DPMSolverMultistepScheduler", {}, [*SPACINGS, *SIGMA_GRIDS, {"use_lu_lambdas": True}]),
    "dpmpp-3m": ("dpmpp-3m", "DPMSolverMultistepScheduler", {"solver_order": 3}, [*SPACINGS, *SIGMA_GRIDS]),
    "unipc": ("unipc", "UniPCMultistepScheduler", {}, [*SPACINGS, *SIGMA_GRIDS]),
    "unipc-3": ("unipc-3", "UniPCMultistepScheduler", {"solver_order": 3}, [*SPACINGS, *SIGMA_GRIDS]),
    # With the ending at sigma = 0 its bh1 is inf * 0. On Karras' grid its sigma_min ending repeats the last level: 0 / 0
    "unipc bh1": (
        UniPC(2, "bh1"), "UniPCMultistepScheduler", {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}, SPACINGS[:2],
    ),
    "unipc-3 bh1": (
        UniPC(3, "bh1"),
        "UniPCMultistepScheduler",
        {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        SPACINGS[:2],
    ),
    "deis": ("deis", "DEISMultistepScheduler", {}, [*SPACINGS, *SIGMA_GRIDS]),
    "deis-3": ("deis-3", "DEISMultistepScheduler", {"solver_order": 3}, [*SPACINGS, *SIGMA_GRIDS]),
    "ipndm": ("ipndm", "IPNDMScheduler", {}, [{}]),
}  # fmt: skip


def scheduler_of(case: str, schedule: str, grid: dict[str, Any], n: int, **more: Any) -> Any:
    _, kind, method, _ = CASES[case]
    if kind == "IPNDMScheduler":
        return ipndm(SCHEDULES[schedule], n)
    return getattr(diffusers, kind)(**SCHEDULES[schedule], **method, **grid, **more)


def ours_on(case: str, scheduler: Any, theirs: Plan, n: int) -> Plan:
    """Our solver on the levels and times of the scheduler, its own starting scale and its own last level.

    The start is the one difference of convention: a VP scheduler starts from z = sqrt(alpha^2 + sigma^2) z, Euler and
    Heun from sigma_max z (or sqrt(sigma_max^2 + 1) z with leading spacing); our plans start from sigma z.
    """
    solver = find("solvers", CASES[case][0]).make() if isinstance(CASES[case][0], str) else CASES[case][0]
    places = [
        next(rows) for _, rows in groupby((Level(row.tau, t=row.t) for row in theirs.rows), key=lambda at: at.tau)
    ]
    scheduler.set_timesteps(n)
    end = float(getattr(scheduler, "sigmas", [0.0])[-1])
    if end == 0:
        return replace(compile_plan(solver, places, len(theirs.rows)), start=theirs.start)
    # Where diffusers stops at the cleanest trained level we go on to level 0: that last row is left out, and its last
    # state, alpha D + sigma eps, is what diffusers returns as it is.
    tau = end / (1 + end)
    longer = compile_plan(solver, [*places, Level(tau)], len(theirs.rows))
    last, scale = longer.rows[-2], 1 / math.hypot(tau, 1 - tau)
    n_last = len(longer.rows) - 2
    last = replace(last, a={n_last: scale}, b={j: scale * w for j, w in last.b.items()})
    return replace(longer, start=theirs.start, rows=(*longer.rows[:-2], last))


def unrolled(plan: Plan) -> np.ndarray:
    """(N + 1, 1 + N): each state's weights on the first state and on the outputs."""
    states = [np.eye(1, 1 + len(plan.rows))[0]]
    for n, row in enumerate(plan.rows):
        new = sum(a * states[j] for j, a in (row.a or {n: 1.0}).items())
        for j, b in row.b.items():
            new = new + b * np.eye(1, 1 + len(plan.rows), 1 + j)[0]
        states.append(new)
    return np.stack(states)


@pytest.mark.parametrize(
    "schedule",
    ["linear", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scaled_linear", "squaredcos_cap_v2"))],
)
@pytest.mark.parametrize("case", CASES)
def test_tables(case: str, schedule: str) -> None:
    for grid in CASES[case][3]:
        for n in CALLS:
            scheduler = scheduler_of(case, schedule, grid, n)
            theirs = from_diffusers(scheduler, n)
            ours = ours_on(case, scheduler, theirs, n)
            assert [row.t for row in ours.rows] == [row.t for row in theirs.rows]
            # 1e-11 but for iPNDM, whose float32 alpha and sigma are not quite on the unit circle
            np.testing.assert_allclose(unrolled(ours), unrolled(theirs), atol=1e-6, rtol=0, err_msg=f"{grid} {n}")


MIXTURE = GaussianMixture.random((1, 1, 2), components=3, seed=1)


def exact_network(predicts: str, level: Callable[[float], float]) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """The mixture's network on x = alpha D + sigma eps; `level` gives the tau of a network time."""

    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        tau = level(float(t.flatten()[0]))
        alpha, sigma = (1 - tau) / math.hypot(tau, 1 - tau), tau / math.hypot(tau, 1 - tau)
        data = MIXTURE.denoise(x.double() / (alpha + sigma), tau)
        noise = (x.double() - alpha * data) / sigma
        return (noise if predicts == "noise" else alpha * noise - sigma * data).to(x.dtype)

    return network


def model_for(scheduler: Any) -> Model:
    if isinstance(scheduler, diffusers.IPNDMScheduler):  # is told the angle in quarter turns, predicts velocity
        network = exact_network("velocity", lambda t: 1 / (1 + 1 / math.tan(t * math.pi / 2)))
        return Model.from_denoiser(network, discrete(betas("linear")), MIXTURE.shape, "velocity")
    schedule, predicts, _ = schedule_of(scheduler)
    network = exact_network(predicts, lambda t: float(schedule.tau(t)))
    return Model.from_denoiser(network, schedule, MIXTURE.shape, predicts)


def diffusers_loop(model: Model, scheduler: Any, n: int, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    scheduler.set_timesteps(n)
    if isinstance(scheduler, diffusers.DEISMultistepScheduler):
        # its third-order coefficients are differences of like numbers: 3e-4 of the samples at 20 calls in float32
        scheduler.sigmas = scheduler.sigmas.double()
    x = z * float(scheduler.init_noise_sigma)
    options = {} if generator is None else {"generator": generator}
    for t in scheduler.timesteps:
        x = scheduler.step(model.network(scheduler.scale_model_input(x, t), t, None), t, x, **options).prev_sample
    return x


def relative(x: Tensor, y: Tensor) -> float:
    return float((x - y).abs().max() / y.square().mean().sqrt())


# The cosine schedule is played from t <= 950 (leading spacing): at t = 999, s is 2e4, where noise prediction divides the
# network's rounding by alpha, and Euler and Heun hold states of that size in float32.
PLAYED = [
    ("linear", {}, {"use_karras_sigmas": True}),
    ("scaled_linear", {}, {"timestep_spacing": "linspace"}),
    ("scaled_linear", {"prediction_type": "v_prediction"}, {"use_exponential_sigmas": True}),
    ("squaredcos_cap_v2", {}, {"timestep_spacing": "leading"}),
]


@pytest.mark.parametrize("case", CASES)
def test_samples(case: str) -> None:
    z = torch.randn(16, *MIXTURE.shape, generator=torch.Generator().manual_seed(0))
    for schedule, more, asked in PLAYED:
        grid = asked if asked in CASES[case][3] else CASES[case][3][0]
        for n in (5, 20) if schedule == "linear" else (5,):
            scheduler = scheduler_of(case, schedule, grid, n, **more)
            model, theirs = model_for(scheduler), from_diffusers(scheduler, n)
            expected = diffusers_loop(model, scheduler, n, z)
            for plan in (theirs, ours_on(case, scheduler, theirs, n)):
                got = play(model, plan, begin(plan, z, torch.Tensor))
                assert relative(got, expected) < 1e-4, (schedule, more, grid, n)


STOCHASTIC: dict[str, Any] = {
    "ddpm": diffusers.DDPMScheduler(clip_sample=False),
    "ddpm large": diffusers.DDPMScheduler(clip_sample=False, variance_type="fixed_large"),
    "euler ancestral": diffusers.EulerAncestralDiscreteScheduler(),
    "sde-dpm++ 2m": diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True),
    "sde-dpm++ 3m": diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=3),
    "sde-dpm++ 2s": diffusers.DPMSolverSinglestepScheduler(algorithm_type="sde-dpmsolver++", solver_order=2),
    "sa-solver": diffusers.SASolverScheduler(),
    "lcm": diffusers.LCMScheduler(),
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_schedulers_are_read(name: str) -> None:
    """The same samples from the same noises; up to two earlier states are named where history reaches across noise."""
    scheduler, n = STOCHASTIC[name], 8
    plan, model = from_diffusers(scheduler, n), model_for(scheduler)
    z = torch.randn(64, *MIXTURE.shape, generator=torch.Generator().manual_seed(0))
    expected = diffusers_loop(model, scheduler, n, z, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    noises = [torch.randn(z.shape, generator=generator) for _ in plan.rows]  # one a step, used or not
    got = play(model, plan, begin(plan, z, torch.Tensor), draws=Draws(lambda row: noises[row]))
    assert plan.stochastic
    assert max(len(row.a or {0: 1.0}) for row in plan.rows) <= 3
    assert relative(got, expected) < 1e-4


def test_ancestral_is_euler_ancestral() -> None:
    theirs = from_diffusers(diffusers.EulerAncestralDiscreteScheduler(), 10)
    ours = compile_plan(find("solvers", "ancestral").make(), [Level(row.tau, t=row.t) for row in theirs.rows])
    np.testing.assert_allclose(unrolled(ours), unrolled(theirs), atol=1e-6)
    np.testing.assert_allclose([row.noise for row in ours.rows], [row.noise for row in theirs.rows], atol=1e-6)


def test_flow_and_edm_schedulers() -> None:
    """Heun on the flow is ours in the flow frame; EDM's Euler is Euler."""
    for scheduler, name in (
        (diffusers.FlowMatchHeunDiscreteScheduler(), "heun-flow"),
        (diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), "euler"),
        (diffusers.EDMEulerScheduler(), "euler"),
        (diffusers.EDMDPMSolverMultistepScheduler(), "dpmpp-2m"),
    ):
        theirs = from_diffusers(scheduler, 6)
        places = [next(rows) for _, rows in groupby((Level(r.tau, t=r.t) for r in theirs.rows), key=lambda at: at.tau)]
        ours = compile_plan(find("solvers", name).make(), places, len(theirs.rows))
        np.testing.assert_allclose(unrolled(ours), unrolled(theirs), atol=1e-6)


def test_the_scheduler_is_left_alone() -> None:
    scheduler = diffusers.DDIMScheduler(clip_sample=True, thresholding=True)
    before = dict(scheduler.config), scheduler.alphas_cumprod.dtype, scheduler.num_inference_steps
    state = torch.get_rng_state()
    plan = from_diffusers(scheduler, 4)
    assert (dict(scheduler.config), scheduler.alphas_cumprod.dtype, scheduler.num_inference_steps) == before
    assert torch.equal(torch.get_rng_state(), state)
    # read without its bounds
    assert plan.rows == from_diffusers(diffusers.DDIMScheduler(clip_sample=False), 4).rows
    learned, fixed = (diffusers.DDPMScheduler(variance_type=kind) for kind in ("learned_range", "fixed_small"))
    assert from_diffusers(learned, 4).rows == from_diffusers(fixed, 4).rows
    assert learned.config.variance_type == learned.variance_type == "learned_range"


def test_the_plan_names_the_model() -> None:
    model = model_for(diffusers.DDIMScheduler())
    assert from_diffusers(diffusers.DDIMScheduler(), 4, model).model == {"name": model.name, "hash": model.hash}


class ClampingScheduler(diffusers.DDIMScheduler):
    def step(self, *args: Any, **kwargs: Any) -> Any:
        out = super().step(*args, **kwargs)
        out.prev_sample = out.prev_sample.clamp(-1, 1)
        return out


@pytest.mark.parametrize(
    ("scheduler", "n", "says"),
    [
        (ClampingScheduler(), 4, "not linear"),
        (diffusers.UniPCMultistepScheduler(solver_type="bh1"), 4, "not finite"),
        (diffusers.DDIMInverseScheduler(), 4, "out of order"),
        (diffusers.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing"), 4, "alpha = 0"),
        (diffusers.DDIMScheduler(), 0, "n is 0"),
        (diffusers.DDIMScheduler(), 2000, "2000"),
        (diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), 4, "mu"),
        (object(), 4, "object"),
    ],
)
def test_what_no_plan_holds(scheduler: Any, n: int, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        from_diffusers(scheduler, n)
    assert "\n" not in str(caught.value)


def theirs_at(kind: str, n: int, schedule: dict[str, Any], **grid: Any) -> tuple[np.ndarray, np.ndarray]:
    """Levels and network times of a diffusers scheduler, one for each level."""
    plan = from_diffusers(getattr(diffusers, kind)(**schedule, **grid), n)
    places = dict.fromkeys((float(row.tau), float(row.t)) for row in plan.rows)
    return np.array([tau for tau, _ in places]), np.array([t for _, t in places])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n", [2, 5, 10])
def test_grids_in_sigma(schedule: str, n: int) -> None:
    """Equal levels, but for diffusers' float32: 1 - alpha_bar is 4e-5 at the cosine schedule's first time."""
    own = discrete(betas(schedule, 1000, **_ends(SCHEDULES[schedule])))
    span = Range(own, own.tau_max)
    multistep, heun = "DPMSolverMultistepScheduler", "HeunDiscreteScheduler"
    for name, kind, grid in (
        ("karras", multistep, {"use_karras_sigmas": True}),
        ("karras", heun, {"use_karras_sigmas": True}),
        ("exponential", multistep, {"use_exponential_sigmas": True}),
        ("lu", multistep, {"use_lu_lambdas": True}),
    ):
        tau, _ = theirs_at(kind, n, SCHEDULES[schedule], **grid)
        mine = levels(name, span, n)
        np.testing.assert_allclose(np.log(mine / (1 - mine)), np.log(tau / (1 - tau)), atol=5e-4)


@pytest.mark.parametrize("n", [1, 5, 10])
def test_grids_in_time(n: int) -> None:
    """Equal times, but for diffusers' rounding; N = 1000 is divisible by n, else its 'leading' rounds N / n down."""
    own = discrete(betas("linear"))
    span = Range(own, own.tau_max)
    ddim, euler, multistep = "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"
    for name, kind, spacing, rounding in (
        ("leading", ddim, "leading", 0.0),
        ("leading", euler, "leading", 0.0),
        ("trailing", ddim, "trailing", 0.0),
        ("trailing", multistep, "trailing", 0.0),
        ("linspace", ddim, "linspace", 0.5),
        ("linspace", euler, "linspace", 0.0),
        ("uniform", multistep, "linspace", 0.5),
    ):
        if name == "linspace" and n == 1:
            continue  # np.linspace(0, N - 1, 1) is 0: diffusers would start from clean data
        _, t = theirs_at(kind, n, SCHEDULES["linear"], timestep_spacing=spacing)
        mine = [float(own.time(tau)) for tau in levels(name, span, n)]
        np.testing.assert_allclose(mine, t, atol=rounding + 1e-3)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_grids_of_other_processes(n: int) -> None:
    flow, edm = (
        schedule_of(diffusers.FlowMatchEulerDiscreteScheduler())[0],
        schedule_of(diffusers.EDMEulerScheduler())[0],
    )
    for name, own, kind, grid in (
        ("linspace", flow, "FlowMatchEulerDiscreteScheduler", {}),
        ("karras", flow, "FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("exponential", flow, "FlowMatchEulerDiscreteScheduler", {"use_exponential_sigmas": True}),
        ("karras", edm, "EDMEulerScheduler", {}),
        ("exponential", edm, "EDMEulerScheduler", {"sigma_schedule": "exponential"}),
    ):
        tau, t = theirs_at(kind, n, {}, **grid)
        mine = levels(name, Range(own, own.tau_max), n)
        np.testing.assert_allclose(mine, tau, atol=1e-6)
        np.testing.assert_allclose([float(own.time(level)) for level in mine], t, atol=1e-3)
