"""DPM-Solver-v3 with statistics computed on the model: exact where its theory says so, and safe against files."""

from __future__ import annotations

import pytest
import torch

import fewer
from fewer.calibrate.ems_statistics import ems_statistics
from fewer.errors import InputError
from fewer.grids import Range, levels
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.samplers import standard
from fewer.solvers import compile_plan, places
from fewer.solvers.ode.dpm_v3 import DPMSolverV3, Statistics

SCHEDULE = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="scaled_linear")
SHAPE = (1, 2, 2)


def gaussian(diagonal: bool) -> GaussianMixture:
    """One Gaussian on four pixels, with independent pixels of very different variances or a full covariance."""
    generator = torch.Generator().manual_seed(3)
    basis = torch.eye(4) if diagonal else torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    return GaussianMixture(
        torch.ones(1), torch.randn(1, 4, generator=generator), basis[None], torch.tensor([[4.0, 1.0, 0.1, 0.01]]),
        torch.zeros(1), SHAPE,
    ).to(dtype=torch.float64)  # fmt: skip


def model_of(mixture: GaussianMixture) -> Model:
    return Model.from_mixture(mixture, SCHEDULE, name="exact", hash="exact", dtype=torch.float64)


def plan_of(model: Model, found: Statistics, calls: int, **choices: object) -> fewer.Plan:
    spots = places(model, levels("logsnr", Range(model.schedule, model.start), calls))
    return compile_plan(DPMSolverV3(found, **choices), spots, calls)


def test_independent_gaussian_pixels_are_solved_exactly_in_two_calls():
    """There f = (1 - l) X - D depends on lambda alone, so that l and b hold the whole flow."""
    mixture = gaussian(diagonal=True)
    model = model_of(mixture)
    found = ems_statistics(model, places=200, noises=16)
    noise = unit_noise(5, range(32), SHAPE)
    plan = plan_of(model, found, 2)
    x0 = plan.start.scale * noise.double()
    last = float(plan.rows[-1].tau)
    state = mixture.flow(x0, model.start, last)
    exact = mixture.denoise(state, last)  # the last step is the data prediction
    assert torch.allclose(fewer.sample(model, plan, noise=noise).double(), exact, atol=2e-3)
    plain = fewer.sample(model, standard("dpmpp-2m", model, 2, "logsnr"), noise=noise).double()
    assert (plain - exact).square().mean() > 1e4 * (
        (fewer.sample(model, plan, noise=noise).double() - exact).square().mean()
    )


def test_l_is_the_diagonal_of_the_jacobian():
    """For a Gaussian l = r^2 (C + r^2)^-1 on the diagonal, whatever the samples."""
    mixture = gaussian(diagonal=False)
    found = ems_statistics(model_of(mixture), places=20, noises=512)
    basis, variances = mixture.basis[0], mixture.variances[0]
    for place in (0, 10, 19):
        r2 = torch.exp(-2 * found.lam[place])
        exact = ((basis * (r2 / (variances + r2))) @ basis.T).diagonal()
        assert torch.allclose(found.l[place].flatten(), exact, atol=0.1)


@pytest.mark.parametrize(("l", "s"), [(1.0, 0.0), (0.0, -1.0)])
def test_ddim_is_the_first_order_step_with_constant_data_or_noise(l, s):
    """f = -D is constant (l = 1, s = 0), or f = r eps falls as r does (l = 0, s = -1)."""
    model = model_of(gaussian(diagonal=False))
    lam = torch.linspace(-4, 4, 200, dtype=torch.float64)
    none = torch.zeros(200, *SHAPE, dtype=torch.float64)
    plan = plan_of(model, Statistics("exact", lam, none + l, none + s, none), 6, order=1)
    other = standard("ddim", model, 6, "logsnr")
    noise = unit_noise(1, range(8), SHAPE)
    mine, its = (fewer.sample(model, p, noise=noise) for p in (plan, other))
    assert torch.allclose(mine, its, atol=1e-5)


def test_plans_and_statistics_survive_their_files(tmp_path):
    model = model_of(gaussian(diagonal=False))
    found = ems_statistics(model, places=16, noises=8)
    again = Statistics.load(found.save(tmp_path / "statistics.safetensors")).check(model)
    assert torch.allclose(again.l, found.l, atol=1e-6)
    assert again.evaluations == found.evaluations == 2 * 16 * 8
    plan = plan_of(model, found, 4)
    noise = unit_noise(0, range(8), SHAPE)
    loaded = fewer.Plan.load(plan.save(tmp_path / "plan.json"))
    assert torch.allclose(fewer.sample(model, plan, noise=noise), fewer.sample(model, loaded, noise=noise), atol=1e-5)


def test_statistics_of_another_model_are_refused(tmp_path):
    model = model_of(gaussian(diagonal=False))
    lam = torch.linspace(-4, 4, 10)
    none = torch.zeros(10, *SHAPE)
    with pytest.raises(InputError, match="another model"):
        Statistics("someone else's", lam, none, none, none).check(model)
    (tmp_path / "x.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        Statistics.load(tmp_path / "x.safetensors")


@pytest.mark.slow
def test_the_strategy_counts_what_it_spends_and_beats_the_standard_plans():
    model = fewer.load("mixture16")
    result = fewer.tune(model, nfe=5, strategy="dpm-v3", noises=32, fresh=32)
    assert result.results["verdict"]["decision"] == "better"
    assert result.results["evaluations"] > 2 * 60 * 64
