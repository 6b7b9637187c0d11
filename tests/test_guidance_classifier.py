"""Classifier guidance: with the exact posterior it is Bayes' rule, one that was trained comes near it, and bad input."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.classifier import DataClassifier, NoisyClassifier, softened
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise

SHAPE, K = (1, 1, 2), 3
EXACT = GaussianMixture.random(SHAPE, components=6, seed=3, classes=K)
RULES = [NoisyClassifier(2.0), DataClassifier(2.0, 0.0, 1.0, 0.7)]


def posterior(x: Tensor, tau: float) -> Tensor:
    """Logits of the true classifier of noisy states: log p(x | label) + log p(label)."""
    prior = torch.stack([EXACT.weights[k == EXACT.labels].sum() for k in range(K)])
    given = [EXACT.log_prob(x.double(), tau, torch.full((len(x),), k)) for k in range(K)]
    return (torch.stack(given, 1) + prior.log()).to(x)


MODEL = replace(
    Model.from_mixture(EXACT, discrete(betas("scaled_linear"), name="scaled_linear"), conditional=True),
    classifier=posterior,
)


def made(rule: Any, model: Model = MODEL, rows: int = 8, **options: Any) -> Tensor:
    plan = guide(fewer.standard("dpmpp-2m", model, rows, "logsnr"), rule)
    return fewer.sample(model, plan, noise=unit_noise(0, range(6), SHAPE), **options)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_with_the_true_posterior_it_is_classifier_free_guidance(scale: float) -> None:
    """score(label) = score + grad log p(label | x), so that scale w is that of the two passes, for one of them."""
    torch.testing.assert_close(made(NoisyClassifier(scale)), made(scale), atol=2e-3, rtol=2e-3)
    both = made(NoisyClassifier(scale, cfg=1.0))
    torch.testing.assert_close(both, made(1.0 + scale), atol=4e-3, rtol=4e-3)


def test_temperatures_of_the_joint_and_the_marginal() -> None:
    """On a linear classifier f = W D: g = joint W_label - marginal sum_k softmax(marginal W D)_k W_k, times tau by hand."""
    w = torch.tensor([[1.0, 0.5], [-1.0, 0.3], [0.2, -2.0]])
    model = replace(MODEL, classifier=lambda x, tau: x.flatten(1) @ w.T)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    joint, marginal, scale = 1.3, 0.6, 0.1
    plan = guide(fewer.standard("ddim", model, 1, "logsnr"), DataClassifier(scale, 0.0, joint, marginal))
    tau = float(plan.rows[0].tau)
    plain = fewer.sample(model, guide(plan, 0.0), noise=unit_noise(0, range(6), SHAPE), labels=labels).flatten(1)
    g = joint * w[labels] - marginal * torch.softmax(marginal * plain @ w.T, 1) @ w
    # one step to level 0 gives D' = D - tau (u' - u)
    ours = fewer.sample(model, plan, noise=unit_noise(0, range(6), SHAPE), labels=labels).flatten(1)
    torch.testing.assert_close(ours, plain + scale * tau**2 / (1 - tau) * g, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_samples_do_not_depend_on_the_batch_and_pay_for_one_pass(rule: Any, tmp_path: Path) -> None:
    torch.testing.assert_close(made(rule), made(rule, batch=4), atol=1e-4, rtol=1e-4)
    plan = guide(fewer.standard("ddim", MODEL, 3, "logsnr"), rule)
    assert plan.nfe == 3
    assert guide(plan, replace(rule, cfg=3.0)).nfe == 6
    assert fewer.Plan.load(plan.save(tmp_path / "p.json")).rows == plan.rows


def test_a_network_without_classes_is_guided_by_a_classifier() -> None:
    plain = Model.from_mixture(replace(EXACT, labels=None), MODEL.schedule)
    network = plain.network
    model = replace(
        plain, classes=K, empty_label=K, classifier=posterior, network=lambda x, t, labels: network(x, t, None)
    )
    torch.testing.assert_close(made(NoisyClassifier(1.0), model), made(1.0), atol=2e-3, rtol=2e-3)


@cache
def trained() -> nn.Module:
    """A small network of (x, tau), trained on noisy samples with their labels by cross-entropy."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, K))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    data, labels = EXACT.sample(8192, 1)
    assert labels is not None
    generator = torch.Generator().manual_seed(2)
    for _ in range(600):
        chosen = torch.randint(len(data), (256,), generator=generator)
        tau = 0.05 + 0.9 * torch.rand(256, generator=generator)
        noisy = (1 - tau[:, None]) * data[chosen].flatten(1).float() + tau[:, None] * torch.randn(
            256, 2, generator=generator
        )
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(seen(noisy, tau)), labels[chosen]).backward()
        optimiser.step()
    return network.eval()


def seen(x: Tensor, tau: Tensor) -> Tensor:
    """The state at its own scale, and the level."""
    scale = ((1 - tau) ** 2 + tau**2).sqrt()[:, None]
    return torch.cat([x / scale, tau[:, None], (tau / (1 - tau)).log()[:, None]], 1)


@pytest.mark.parametrize("tau", [0.4, 0.6])
def test_a_trained_classifier_has_the_gradient_of_the_posterior(tau: float) -> None:
    network, labels, data = trained(), torch.arange(300) % K, EXACT.sample(300, 5)[0]
    x = ((1 - tau) * data + tau * unit_noise(4, range(300), SHAPE)).float()

    def gradient(classify: Any) -> Tensor:
        at = x.clone().requires_grad_()
        score = torch.log_softmax(classify(at), 1).gather(1, labels[:, None]).sum()
        return torch.autograd.grad(score, at)[0].flatten(1)

    mine = gradient(lambda z: network(seen(z.flatten(1), torch.full((300,), tau))))
    true = gradient(lambda z: posterior(z, tau))
    assert float((mine - true).norm() / true.norm()) < 0.5
    assert float((mine * true).sum() / (mine.norm() * true.norm())) > 0.9


def test_softened_networks_are_smooth_and_near() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 3), nn.ReLU()))
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    soft = softened(network, 20.0)
    assert not any(isinstance(module, nn.ReLU) for module in soft.modules())
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 2
    with torch.no_grad():
        gaps = [float((softened(network, beta)(x) - network(x)).abs().max()) for beta in (5.0, 50.0, 500.0)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-2
    assert isinstance(softened(nn.ReLU()), nn.Softplus)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NoisyClassifier(float("nan")), "guidance scale is nan"),
        (lambda: DataClassifier(1.0, joint="x"), "guidance joint is 'x'"),  # type: ignore[arg-type]
        (
            lambda: made(NoisyClassifier(1.0), replace(MODEL, classifier=None)),
            "classifier needs a model with a classifier",
        ),
        (
            lambda: made(NoisyClassifier(1.0), replace(MODEL, classifier=lambda x, tau: x)),
            "the classifier returned shape",
        ),
        (
            lambda: made(NoisyClassifier(1.0), replace(MODEL, classes=None, empty_label=None)),
            "needs a model with labels",
        ),
        (lambda: softened(nn.ReLU(), -1.0), "beta is -1.0"),
    ],
)
def test_bad_input_is_told_in_one_line(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make()
    assert "\n" not in str(told.value)
