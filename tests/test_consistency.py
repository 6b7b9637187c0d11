"""Samplers of distilled models: their rows are diffusers' own, from the same noises, and their networks are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from fewer.engine import Draws, begin, bind, play, sample
from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.integrations.probe import from_diffusers
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import clip_of, schedule_of
from fewer.models.predictions import affine
from fewer.models.schedules import VarianceExploding, betas, discrete
from fewer.plan import Plan
from fewer.registry import find
from fewer.samplers import standard
from fewer.solvers import Solver, compile_plan
from fewer.solvers.sde.tcd import TrajectoryConsistency
from fewer.solvers.trace import Level

N = 4


def solver(name: str) -> Solver:
    found: Solver = find("solvers", name).make()
    return found


class TCD(diffusers.TCDScheduler):  # type: ignore[misc]
    """With a gamma of its own, which pipelines give to `step`."""

    gamma = 0.3

    def step(self, *args: Any, **given: Any) -> Any:
        return super().step(*args, **{"eta": self.gamma, **given})


class AllFresh(TCD):
    gamma = 1.0


CASES: dict[str, tuple[Any, Solver]] = {
    "lcm": (diffusers.LCMScheduler(), solver("lcm")),
    "lcm, v": (diffusers.LCMScheduler(prediction_type="v_prediction"), solver("lcm")),
    "flow-match-lcm": (diffusers.FlowMatchLCMScheduler(shift=3.0), solver("lcm")),
    "tcd": (TCD(), TrajectoryConsistency(0.3, whole=True)),
    "tcd, gamma 1": (AllFresh(), TrajectoryConsistency(1.0, whole=True)),
    "consistency": (diffusers.CMStochasticIterativeScheduler(clip_denoised=False), solver("consistency")),
}  # fmt: skip


def ours_on(theirs: Plan, scheduler: Any, made: Solver) -> Plan:
    """The solver on the levels of a plan that was read off. TCDScheduler ends at the level of time 0: its last row is kept."""
    schedule, _, _ = schedule_of(scheduler)
    ours = compile_plan(made, [Level(float(row.tau), schedule, row.t) for row in theirs.rows])
    return replace(ours, rows=(*ours.rows[:-1], theirs.rows[-1])) if isinstance(scheduler, TCD) else ours


@pytest.mark.parametrize("case", CASES)
def test_rows_are_diffusers_own(case: str) -> None:
    """Each row's weights and noise, to the float32 of diffusers' levels."""
    scheduler, made = CASES[case]
    theirs = from_diffusers(scheduler, N)
    ours = ours_on(theirs, scheduler, made)
    for n, (row, its) in enumerate(zip(ours.rows, theirs.rows, strict=True)):
        got, expected = (np.zeros((2, N)) for _ in range(2))
        for array, each in ((got, row), (expected, its)):
            array[0, list(each.a or {n: 1.0})] = list((each.a or {n: 1.0}).values())
            array[1, list(each.b)] = list(each.b.values())
        np.testing.assert_allclose(got, expected, atol=2e-5)
        assert row.noise == pytest.approx(float(its.noise), abs=2e-5)
    assert ours.stochastic
    assert ours.rows[-1].noise == 0


@pytest.mark.parametrize("case", CASES)
def test_samples_are_diffusers_own_from_the_same_noises(case: str) -> None:
    """A network of Gaussian data, bent a little, in diffusers' own loop and in the rows of our solver."""
    scheduler, made = CASES[case]
    schedule, predicts, sigma_data = schedule_of(scheduler)
    mix = torch.randn(12, 12, generator=torch.Generator().manual_seed(3)) / 30

    def network(x: torch.Tensor, t: torch.Tensor, labels: Any = None) -> torch.Tensor:
        tau = float(schedule.tau(t.flatten()[0].double()))
        c_in, p, q = (float(number) for number in affine(predicts, schedule, tau, sigma_data))
        gain = 0.25 * (1 - tau) / (0.25 * (1 - tau) ** 2 + tau**2)
        state = x / c_in
        data = gain * state + torch.tanh(state.flatten(1) @ mix).view_as(x)
        return ((state - data) / tau - p * state) / q

    model = Model.from_denoiser(network, schedule, (3, 2, 2), predicts, sigma_data=sigma_data)
    scheduler.set_timesteps(N)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    x = z * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(scaled, torch.as_tensor(t)), t, x, generator=generator).prev_sample
    generator = torch.Generator().manual_seed(1)
    noises = [torch.randn(z.shape, generator=generator) for _ in range(N)]
    plan = ours_on(from_diffusers(scheduler, N), scheduler, made)
    got = play(model, bind(model, plan), begin(plan, z, lambda: z), draws=Draws(lambda row: noises[row]))
    assert float((got - x).abs().max() / x.abs().max()) < 1e-3  # diffusers multiplies 1,000 alphas in float32


def test_a_model_of_exact_data_is_one_at_any_levels() -> None:
    """Where the data prediction is the end of the flow and its noise all fresh, samples have the data's deviation after any number
    of calls; noise that is kept is not independent of it.
    """
    deviation, schedule = 0.6, VarianceExploding(0.01, 20.0)

    def end(x: torch.Tensor, sigma: torch.Tensor, labels: Any) -> torch.Tensor:
        level = sigma.view(-1, 1)
        return x * ((deviation**2 + schedule.sigma_min**2) / (deviation**2 + level**2)).sqrt()

    model = Model.from_denoiser(end, schedule, (1,))
    for name in ("lcm", "consistency"):
        for nfe in (1, 3):
            x = sample(model, standard(name, model, nfe, "logsnr"), n=4096)
            assert float(x.std()) == pytest.approx(deviation, rel=0.05), (name, nfe)


def test_gamma_goes_from_ddim_to_fresh_noise() -> None:
    schedule = discrete(betas("scaled_linear"))
    places = [Level(float(schedule.tau(t)), schedule) for t in (999.0, 600.0, 300.0)]
    none, ddim = compile_plan(TrajectoryConsistency(0.0), places), compile_plan(solver("ddim"), places)
    assert not none.stochastic
    for row, other in zip(none.rows, ddim.rows, strict=True):
        assert row.b[max(row.b)] == pytest.approx(other.b[max(other.b)])
    kept = [TrajectoryConsistency(gamma).kept(places[0], places[1]) for gamma in (0.0, 0.3, 0.6, 1.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 1
    assert kept[-1] < 0.02
    with pytest.raises(InputError, match=r"gamma is 1\.5"):
        TrajectoryConsistency(1.5)


@pytest.mark.parametrize("n", [1, 3, 4, 7])
def test_the_grid_is_that_of_the_schedulers(n: int) -> None:
    for scheduler in (diffusers.LCMScheduler(), diffusers.TCDScheduler()):
        scheduler.set_timesteps(n)
        schedule, _, _ = schedule_of(scheduler)
        found = levels("lcm", Range(schedule, schedule.tau_max), n)
        assert [float(schedule.time(tau)) for tau in found] == pytest.approx(scheduler.timesteps.tolist())
    with pytest.raises(InputError, match="cannot place 51 calls"):
        levels("lcm", Range(schedule, schedule.tau_max), 51)


def test_a_consistency_network_gives_the_state_itself_at_its_cleanest_level() -> None:
    """The boundary condition of its parametrisation, and diffusers' scalings at other levels."""
    scheduler = diffusers.CMStochasticIterativeScheduler()
    schedule, predicts, sigma_data = schedule_of(scheduler)
    clip = clip_of(scheduler)
    assert clip is not None
    assert clip.bound == 1
    for tau in (schedule.tau_min, 0.1, 0.6, schedule.tau_max):
        c_in, p, q = (float(number) for number in affine(predicts, schedule, tau, sigma_data))
        sigma = torch.tensor(tau / (1 - tau), dtype=torch.float64)
        c_skip, c_out = (float(each) for each in scheduler.get_scalings_for_boundary_condition(sigma))
        x, f = 0.7, -0.4  # x is alpha D + sigma eps
        u = p * (1 - tau) * x + q * f
        assert (1 - tau) * x - tau * u == pytest.approx(c_skip * x + c_out * f, abs=1e-12)
        assert c_in * (1 - tau) == pytest.approx(float((sigma**2 + sigma_data**2) ** -0.5))
    times = [float(schedule.time(tau)) for tau in (schedule.tau_min, 0.5)]
    assert times == pytest.approx([250 * np.log(0.002), 0.0])
    assert float(schedule.tau(times[0])) == pytest.approx(schedule.tau_min)
