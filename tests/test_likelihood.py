"""The likelihood along the probability flow, on models whose density is known."""

import math

import pytest
import torch
from torch import nn

import fewer
from fewer.errors import InputError
from fewer.evaluate.probability_flow.likelihood import Likelihood, divergence, flow_nll
from fewer.models.denoiser import Clip
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete

SCHEDULES = [Flow(), VarianceExploding(), discrete(betas("scaled_linear"))]


def mixture_model(d=4, components=3, schedule=None, seed=0, **told):
    mixture = GaussianMixture.random(d, components, seed=seed, **told)
    return mixture, Model.from_mixture(mixture, schedule or Flow(), dtype=torch.float64, conditional="classes" in told)


def seen(mixture, x, low, labels=None):
    """-log density of D + s0 eps, in closed form."""
    return -mixture.log_prob((1 - low) * x, low, labels) - mixture.dim * math.log1p(-low)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("d", [1, 5])
def test_it_is_the_closed_form_from_the_same_prior(schedule, d):
    mixture, model = mixture_model(d, schedule=schedule)
    x, _ = mixture.sample(16, seed=1)
    found = flow_nll(model, x, prior=mixture.log_prob)
    assert torch.allclose(found.nll / d, seen(mixture, x, schedule.tau_min) / d, atol=2e-4)
    assert found.probe_error.eq(0).all()


def test_from_pure_noise_no_prior_has_to_be_told():
    mixture, model = mixture_model()
    x, _ = mixture.sample(16, seed=1)
    assert torch.allclose(flow_nll(model, x).nll, -mixture.log_prob(x), atol=2e-3)


def test_the_error_falls_with_the_tolerance():
    mixture, model = mixture_model(6, seed=3)
    x, _ = mixture.sample(16, seed=1)
    truth = seen(mixture, x, Flow().tau_min)
    errors = [float((flow_nll(model, x, tol=tol).nll - truth).abs().max()) for tol in (1e-2, 1e-4, 1e-6)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4


def test_one_gaussian_in_one_dimension_integrates_to_one():
    _, model = mixture_model(1, components=1)
    x = torch.linspace(-8, 8, 401, dtype=torch.float64)[:, None]
    density = (-flow_nll(model, x, batch=401, low=1e-3).nll).exp()
    assert torch.trapezoid(density, x[:, 0]).item() == pytest.approx(1, abs=2e-3)


def test_the_divergence_is_the_trace_of_the_jacobian():
    mixture, model = mixture_model(5)
    x, _ = mixture.sample(6, seed=2)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: (z - mixture.denoise(z[None], 0.3)[0]) / 0.3))(x)
    trace = jacobian.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)
    assert torch.allclose(divergence(model, x, 0.3), trace, atol=1e-4)
    axes = torch.eye(5, dtype=torch.float64)[:, None].expand(5, 6, 5)  # e_j' J e_j over all j is the trace
    assert torch.allclose(divergence(model, x, 0.3, vectors=axes).sum(1, keepdim=True), trace, atol=1e-4)


def test_all_signs_together_give_the_exact_trace():
    mixture, model = mixture_model(3)
    x, _ = mixture.sample(4, seed=2)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)[:, None].expand(8, 4, 3)
    estimate = divergence(model, x, 0.4, vectors=signs).mean(1, keepdim=True)
    assert torch.allclose(estimate, divergence(model, x, 0.4), atol=1e-9)


def test_the_probes_error_is_told_and_covers_the_exact_figure():
    mixture, model = mixture_model(6)
    x, _ = mixture.sample(40, seed=1)
    exact = flow_nll(model, x, tol=1e-4)
    probed = flow_nll(model, x, tol=1e-4, trace="hutchinson", probes=8)
    z = (probed.nll - exact.nll) / probed.probe_error
    assert 0.5 < z.square().mean().sqrt() < 2
    assert flow_nll(model, x[:2], tol=1e-3, trace="hutchinson").probe_error is None


def test_a_sample_s_probes_do_not_depend_on_the_batch():
    mixture, model = mixture_model(6)
    x, _ = mixture.sample(10, seed=1)
    whole, parts = (flow_nll(model, x, trace="hutchinson", tol=1e-6, batch=size).nll for size in (10, 3))
    assert torch.allclose(whole, parts, atol=1e-3)


def test_classes_have_their_own_likelihood_and_the_empty_one_the_whole_mixture_s():
    mixture, model = mixture_model(3, components=4, classes=2)
    x, labels = mixture.sample(8, seed=1)
    low = Flow().tau_min
    assert torch.allclose(flow_nll(model, x, labels).nll, seen(mixture, x, low, labels), atol=2e-3)
    assert torch.allclose(flow_nll(model, x).nll, seen(mixture, x, low), atol=2e-3)


def test_a_clip_that_never_bites_changes_nothing():
    mixture, model = mixture_model(3)
    x, _ = mixture.sample(4, seed=1)
    loose = Model(**{**vars(model), "clip": Clip(1e6)})
    assert torch.allclose(flow_nll(loose, x).nll, flow_nll(model, x).nll, atol=1e-3)


def test_bits_and_nats_are_one_figure():
    found = Likelihood(torch.tensor([4.0, 6.0, 8.0]).double(), torch.zeros(3).double(), 2, 1, None)
    assert found.nats().value == pytest.approx(3)
    assert found.bits().value == pytest.approx(3 / math.log(2))
    assert found.bits(0.25).value == pytest.approx(3 / math.log(2) + 2)  # a quarter's cell holds 2 bits less
    assert found.nats().low < 3 < found.nats().high


def test_measure_gives_nll_in_nats_per_dimension():
    mixture = GaussianMixture.random((1, 2, 2), 2, seed=0)
    model = Model.from_mixture(mixture, Flow(), dtype=torch.float64)
    data, _ = mixture.sample(64, seed=1)
    plan = fewer.standard("dpmpp-2m", model, 5)
    found = fewer.measure(model, plan, n=64, data=data, nll=True)["nll"]
    assert found.value == pytest.approx(-float(mixture.log_prob(data).mean()) / 4, abs=1e-3)
    assert found.n == 64
    with pytest.raises(InputError, match="data is missing"):
        fewer.measure(model, plan, n=64, nll=True)


class Detached(nn.Module):
    def forward(self, x, t, labels):
        return x.detach()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"x": torch.zeros(3, 5)}, "floats"),
        ({"x": torch.full((3, 4), math.nan)}, "not finite"),
        ({"low": 0.0}, "levels"),
        ({"low": 0.5, "high": 0.4}, "levels"),
        ({"tol": 0.0}, "tol"),
        ({"probes": 0}, "probes"),
        ({"trace": "sketch"}, "trace"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "no classes"),
    ],
)
def test_what_makes_no_sense_is_named(change, word):
    _, model = mixture_model()
    with pytest.raises(InputError, match=word):
        flow_nll(model, **{"x": torch.zeros(3, 4), **change})


def test_networks_that_cannot_tell_are_refused():
    x = torch.zeros(2, 4)
    with pytest.raises(InputError, match="derivatives"):
        flow_nll(Model.from_denoiser(Detached(), Flow(), (4,)), x)
    with pytest.raises(InputError, match="not finite"):
        flow_nll(Model.from_denoiser(lambda x, t, y: x * math.nan, Flow(), (4,)), x)
    with pytest.raises(InputError, match="labels are missing"):
        flow_nll(Model.from_denoiser(lambda x, t, y: x, Flow(), (4,), labels=3), x)
    with pytest.raises(InputError, match="at least 2"):
        flow_nll(mixture_model()[1], x[:1], tol=1e-2).nats()
