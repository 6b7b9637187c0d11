"""The exact model is exact: against brute-force Bayes, Tweedie's formula, scipy's densities, and its own samples."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from fewer.errors import InputError
from fewer.models import mixture as module
from fewer.models.mixture import GaussianMixture

BUNDLED = Path(module.__file__).parent / "pretrained" / "mixture16"
LEVELS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 10_000)


def covariances(mixture: GaussianMixture) -> torch.Tensor:
    """Dense (K, d, d), straight from the definition C = U diag(l) U' + v (I - U U')."""
    u, eye = mixture.basis, torch.eye(mixture.dim, dtype=torch.float64)
    inside = u @ torch.diag_embed(mixture.variances) @ u.mT
    return inside + mixture.residual[:, None, None] * (eye - u @ u.mT)


def states(mixture: GaussianMixture, tau: float, n: int = 5, seed: int = 7) -> torch.Tensor:
    data, _ = mixture.sample(n, seed)
    noise = torch.randn(data.shape, dtype=data.dtype, generator=torch.Generator().manual_seed(seed + 1))
    return (1 - tau) * data + tau * noise


def points(means: list[float]) -> GaussianMixture:
    """Equally likely points on the line: no variance anywhere."""
    k = len(means)
    mu = torch.tensor(means, dtype=torch.float64)[:, None]
    return GaussianMixture(torch.ones(k), mu, torch.ones(k, 1, 1), torch.zeros(k, 1), torch.zeros(k), (1,))


@pytest.mark.parametrize(("dim", "rank"), [(1, 1), (2, 2), (2, 1), (2, 0)])
@pytest.mark.parametrize("tau", [0.1, 0.5, 0.95])
def test_denoiser_is_bayes_by_quadrature(dim: int, rank: int, tau: float) -> None:
    """E[D | x~] from sums over a grid of D; the integrand is smooth and dies at the ends, so the sums converge fast."""
    mixture = GaussianMixture.random(dim, 3, seed=dim, rank=rank)
    line = np.linspace(-9, 9, 451)
    grid = np.stack(np.meshgrid(*[line] * dim), -1).reshape(-1, dim)
    dense = covariances(mixture).numpy()
    parts = zip(mixture.weights.numpy(), mixture.means.numpy(), dense, strict=True)
    prior = sum(w * multivariate_normal(mu, c).pdf(grid) for w, mu, c in parts)
    x = states(mixture, tau)
    for state, told in zip(x.numpy(), mixture.denoise(x, tau).numpy(), strict=True):
        likelihood = np.exp(-(((state - (1 - tau) * grid) / tau) ** 2).sum(1) / 2)
        posterior = prior * likelihood
        assert np.allclose(told, posterior @ grid / posterior.sum(), atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(tau=LEVELS, rank=st.integers(0, 6), seed=SEEDS)
def test_denoiser_meets_tweedie(tau: float, rank: int, seed: int) -> None:
    """D = (x~ + tau^2 grad log p(x~)) / (1 - tau), the gradient by autograd of the log-density."""
    mixture = GaussianMixture.random((2, 3), 4, seed, rank)
    x = states(mixture, tau).requires_grad_()
    (score,) = torch.autograd.grad(mixture.log_prob(x, tau).sum(), x)
    tweedie = (x + tau**2 * score) / (1 - tau)
    assert torch.allclose(mixture.denoise(x, tau), tweedie, atol=1e-9 / (1 - tau))


@settings(max_examples=30, deadline=None)
@given(tau=st.floats(0, 1), rank=st.integers(0, 5), seed=SEEDS)
def test_log_prob_is_scipys(tau: float, rank: int, seed: int) -> None:
    mixture = GaussianMixture.random(5, 3, seed, rank)
    x, a = states(mixture, tau), 1 - tau
    dense = (a**2 * covariances(mixture) + tau**2 * torch.eye(5, dtype=torch.float64)).numpy()
    parts = zip(mixture.weights.log().numpy(), (a * mixture.means).numpy(), dense, strict=True)
    joint = [w + multivariate_normal(mu, c).logpdf(x.numpy()) for w, mu, c in parts]
    assert np.allclose(mixture.log_prob(x, tau).numpy(), logsumexp(joint, axis=0), atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(tau=LEVELS, rank=st.integers(0, 6), seed=SEEDS)
def test_low_rank_is_the_dense_formula(tau: float, rank: int, seed: int) -> None:
    """mu + a C (a^2 C + tau^2 I)^-1 (x~ - a mu), with dense matrices and a linear solve."""
    mixture = GaussianMixture.random(6, 1, seed, rank)
    x, a, (c,), (mu,) = states(mixture, tau), 1 - tau, covariances(mixture), mixture.means
    solved = torch.linalg.solve(a**2 * c + tau**2 * torch.eye(6, dtype=torch.float64), (x - a * mu).T)
    assert torch.allclose(mixture.denoise(x, tau), mu + (a * c @ solved).T, atol=1e-9)


def test_limits() -> None:
    mixture = GaussianMixture.random((1, 2, 2), 4, seed=1, rank=2, classes=2)
    x = states(mixture, 0.4)
    mean = (mixture.weights @ mixture.means).view(1, 2, 2)
    assert torch.allclose(mixture.denoise(x, 0.0), x, atol=1e-12)
    assert torch.allclose(mixture.denoise(x, 1.0), mean.expand_as(x), atol=1e-12)
    first = mixture.labels == 0
    of_class = (mixture.weights * first) @ mixture.means / mixture.weights[first].sum()
    told = mixture.denoise(x, 1.0, torch.zeros(len(x), dtype=torch.int64))
    assert torch.allclose(told, of_class.view(1, 2, 2).expand_as(x), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_without_variance(dtype: torch.dtype) -> None:
    """The denoiser of points is their softmax-weighted mean; at tau = 0 that is the nearest point, and finite."""
    mixture = points([-1.0, 0.5, 2.0]).to(dtype=dtype)
    x, tau = torch.tensor([[-0.7], [0.4], [9.0]], dtype=dtype), 0.3
    mu = mixture.means[:, 0]
    p = torch.softmax(-((x - (1 - tau) * mu) ** 2) / (2 * tau**2), dim=1)
    assert torch.allclose(mixture.denoise(x, tau)[:, 0], p @ mu, rtol=1e-5)
    assert mixture.denoise(x, 0.0)[:, 0].tolist() == [-1.0, 0.5, 2.0]
    value, slope = torch.func.jvp(lambda t: mixture.denoise(x, t), (torch.zeros(()),), (torch.ones(()),))
    assert value.isfinite().all()
    assert slope.isfinite().all()


def test_derivatives_in_state_and_level() -> None:
    """Forward mode along (dx, dtau) is the central difference, and backward mode its transpose."""
    mixture = GaussianMixture.random((1, 2, 3), 3, seed=2, rank=4)
    x, tau = states(mixture, 0.5), torch.tensor(0.5, dtype=torch.float64)
    dx, one, h = torch.randn_like(x), torch.ones_like(tau), 1e-6
    _, slope = torch.func.jvp(mixture.denoise, (x, tau), (dx, one))
    difference = (mixture.denoise(x + h * dx, tau + h) - mixture.denoise(x - h * dx, tau - h)) / (2 * h)
    assert torch.allclose(slope, difference, atol=1e-7)
    assert torch.autograd.gradcheck(mixture.denoise, (x.requires_grad_(), tau.requires_grad_()))


def test_a_level_for_each_sample() -> None:
    mixture = GaussianMixture.random(4, 3, seed=3, rank=2)
    x, levels = states(mixture, 0.5, n=4), torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=torch.float64)
    for function in (mixture.denoise, mixture.log_prob):
        alone = torch.cat([function(x[i : i + 1], float(tau)) for i, tau in enumerate(levels)])
        assert torch.allclose(function(x, levels), alone, atol=1e-12)


def test_takes_any_precision_and_returns_it() -> None:
    mixture = GaussianMixture.random((3, 4, 4), 5, seed=4, rank=20)
    x = states(mixture, 0.3)
    exact = mixture.denoise(x, 0.3)
    assert torch.allclose(mixture.to(dtype=torch.float32).denoise(x.float(), 0.3).double(), exact, atol=1e-5)
    half = mixture.denoise(x.half(), 0.3)
    assert half.dtype == torch.float16
    assert torch.allclose(half.double(), exact, atol=2e-2)
    with pytest.raises(InputError, match="float16"):
        mixture.to(dtype=torch.float16)


@pytest.mark.parametrize("rank", [1, 3])
def test_samples_have_the_moments(rank: int) -> None:
    """Mean and covariance of 40,000 samples, each entry within five standard errors of its exact value."""
    mixture, n = GaussianMixture.random(3, 2, seed=5, rank=rank), 40_000
    x, _ = mixture.sample(n, seed=1)
    mean = mixture.weights @ mixture.means
    away = mixture.means - mean
    second = torch.einsum("k,kij->ij", mixture.weights, covariances(mixture) + away[:, :, None] * away[:, None])
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    assert ((x.mean(0) - mean).abs() < 5 * second.diagonal().sqrt() / n**0.5).all()
    assert ((products.mean(0) - second).abs() < 5 * products.std(0) / n**0.5).all()


def test_samples_are_reproducible_and_keep_their_class() -> None:
    mixture = GaussianMixture.random(3, 5, seed=6, classes=2)
    x, labels = mixture.sample(50, seed=3)
    again, _ = mixture.sample(50, seed=3)
    other, _ = mixture.sample(50, seed=4)
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    assert set(labels.tolist()) == {0, 1}
    asked = torch.tensor([0, 1] * 25)
    assert torch.equal(mixture.sample(50, seed=3, labels=asked)[1], asked)
    assert mixture.sample(0)[0].shape == (0, 3)


def test_labels_restrict_to_the_components_of_a_class() -> None:
    mixture = GaussianMixture.random(3, 4, seed=7, rank=2, classes=2)
    x = states(mixture, 0.4)
    mine = mixture.labels == 1
    parts = (mixture.weights, mixture.means, mixture.basis, mixture.variances, mixture.residual)
    alone = GaussianMixture(*[part[mine] for part in parts], shape=(3,))
    ones, anything = torch.ones(len(x), dtype=torch.int64), torch.full((len(x),), mixture.classes)
    for name in ("denoise", "log_prob"):
        whole = getattr(mixture, name)
        assert torch.allclose(whole(x, 0.4, ones), getattr(alone, name)(x, 0.4), atol=1e-12)
        assert torch.allclose(whole(x, 0.4, anything), whole(x, 0.4), atol=1e-12)
        mixed = torch.where(torch.arange(len(x)) % 2 == 0, ones, anything)
        assert torch.allclose(whole(x, 0.4, mixed)[::2], whole(x, 0.4, ones)[::2], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(tau=LEVELS, rank=st.integers(0, 4), seed=SEEDS)
def test_flow_follows_the_output(tau: float, rank: int, seed: int) -> None:
    """dx~/dtau = u = eps - D, with D from the denoiser and eps = (x~ - (1 - tau) D) / tau."""
    mixture, h = GaussianMixture.random(4, 1, seed, rank), 1e-4 * min(tau, 1 - tau)
    x = states(mixture, tau)
    slope = (mixture.flow(x, tau, tau + h) - mixture.flow(x, tau, tau - h)) / (2 * h)
    assert torch.allclose(slope, (x - mixture.denoise(x, tau)) / tau, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(start=st.floats(0, 1), middle=LEVELS, end=st.floats(0, 1), rank=st.integers(0, 4), seed=SEEDS)
def test_flow_carries_each_level_onto_the_next(start: float, middle: float, end: float, rank: int, seed: int) -> None:
    """Densities change by the map's determinant, and two maps in a row are one."""
    mixture = GaussianMixture.random(4, 1, seed, rank)
    x = states(mixture, start, n=1)
    jacobian = torch.func.jacrev(lambda state: mixture.flow(state, start, end))(x)[0, :, 0]
    moved = mixture.flow(x, start, end)
    expected = mixture.log_prob(x, start) - torch.linalg.slogdet(jacobian).logabsdet
    assert torch.allclose(mixture.log_prob(moved, end), expected, atol=1e-7)
    assert torch.allclose(mixture.flow(mixture.flow(x, start, middle), middle, end), moved, atol=1e-7)


def test_flow_is_for_one_component_and_a_start_with_variance() -> None:
    with pytest.raises(InputError, match="2"):
        points([0.0, 1.0]).flow(torch.zeros(1, 1), 1.0, 0.0)
    with pytest.raises(InputError, match="tau0 = 0"):
        points([0.0]).flow(torch.zeros(1, 1), 0.0, 0.5)
    assert points([3.0]).flow(torch.ones(1, 1), 1.0, 0.0).item() == 3.0


def test_fit_recovers_a_known_mixture() -> None:
    """Where the basis holds the largest variances, as the fit assumes."""
    true = GaussianMixture.random((1, 2, 3), 3, seed=8, rank=2, classes=3)
    true = replace(true, residual=0.5 * true.variances.min(1).values)
    x, y = true.sample(30_000, seed=2)
    fitted = GaussianMixture.fit(x, y, rank=2)
    assert fitted.shape == (1, 2, 3)
    assert torch.equal(fitted.labels, torch.arange(3))
    assert torch.allclose(fitted.weights, true.weights, atol=0.02)
    assert torch.allclose(fitted.means, true.means, atol=0.05)
    assert torch.allclose(covariances(fitted), covariances(true), atol=0.06)


@pytest.mark.parametrize("rank", [0, 2, 4])
def test_fit_is_the_maximum_of_the_likelihood(rank: int) -> None:
    """Any small change of mean, variances, residual or basis makes the images that were fitted less likely."""
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(60, 4, dtype=torch.float64, generator=generator) @ torch.diag(
        torch.tensor([2.0, 1, 0.5, 0.2]).double()
    )
    best = GaussianMixture.fit(x, rank=rank)
    for _ in range(20):
        turn = torch.randn(4, 4, dtype=torch.float64, generator=generator)
        scale = 1 + 0.05 * torch.randn(rank + 1, dtype=torch.float64, generator=generator)
        changed = GaussianMixture(
            best.weights,
            best.means + 0.02 * turn[:1],
            torch.linalg.matrix_exp(0.05 * (turn - turn.T)) @ best.basis,
            best.variances * scale[:rank],
            best.residual * scale[rank:],
            best.shape,
        )
        assert changed.log_prob(x).sum() < best.log_prob(x).sum()


def test_fit_keeps_left_out_variance_and_a_floor() -> None:
    x = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(10))
    x[:, 4] = 1.0
    full, low = GaussianMixture.fit(x), GaussianMixture.fit(x, rank=2)
    assert full.variances.min() == 1e-6
    assert torch.allclose(low.residual, full.variances[:, 2:].mean(1))
    assert covariances(low).diagonal(dim1=1, dim2=2).sum() == pytest.approx(float(full.variances.sum()))


@pytest.mark.parametrize(
    ("images", "labels", "rank", "named"),
    [
        (torch.zeros(4), None, None, "images"),
        (torch.full((4, 2), float("nan")), None, None, "images"),
        (torch.zeros(4, 2), None, 3, "rank is 3"),
        (torch.zeros(4, 2), [0, 0, 2, 2], None, "classes"),
        (torch.zeros(4, 2), [0, 1], None, "labels"),
    ],
)
def test_fit_refuses(images: torch.Tensor, labels: list[int] | None, rank: int | None, named: str) -> None:
    with pytest.raises(InputError, match=named):
        GaussianMixture.fit(images, labels, rank)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float16, 1e-2), (torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_files_keep_the_mixture(tmp_path: Path, dtype: torch.dtype, close: float) -> None:
    mixture = GaussianMixture.random((3, 4, 4), 4, seed=11, rank=6, classes=2)
    mixture.save(tmp_path / "a.safetensors", dtype)
    mixture.save(tmp_path / "b.safetensors", dtype)
    loaded = GaussianMixture.load(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert loaded.shape == mixture.shape
    assert torch.equal(loaded.labels, mixture.labels)
    assert torch.allclose(loaded.basis.mT @ loaded.basis, torch.eye(6, dtype=torch.float64), atol=1e-12)
    x = states(mixture, 0.3)
    assert torch.allclose(loaded.denoise(x, 0.3), mixture.denoise(x, 0.3), atol=close)


def test_files_that_are_no_mixture(tmp_path: Path) -> None:
    mixture, path = GaussianMixture.random(3, 2), tmp_path / "mixture.safetensors"
    mixture.save(path)
    whole = path.read_bytes()
    save_file({"means": torch.zeros(2, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"means": [0.0]}))
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "newer.safetensors").write_bytes(whole.replace(b'\\"version\\": 1', b'\\"version\\": 2'))
    for name in ("other", "pickle", "cut", "newer", "absent"):
        with pytest.raises(InputError, match=name) as caught:
            GaussianMixture.load(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)


def test_parameters_and_inputs_are_checked() -> None:
    good = GaussianMixture.random(3, 2, rank=1, classes=2)
    parts = {"weights": good.weights, "means": good.means, "basis": good.basis, "shape": (3,)}
    parts |= {"variances": good.variances, "residual": good.residual, "labels": good.labels}
    wrong = {
        "weights": torch.tensor([1.0, -1.0]),
        "means": good.means[:, :2],
        "basis": good.basis * torch.nan,
        "variances": -good.variances,
        "labels": torch.tensor([0, 2]),
    }
    for name, value in wrong.items():
        with pytest.raises(InputError, match=name):
            GaussianMixture(**{**parts, name: value})
    x = torch.zeros(2, 3)
    calls = [
        ("x has shape", torch.zeros(2, 4), 0.5, None),
        ("tau is 1.5", x, 1.5, None),
        ("tau has shape", x, torch.zeros(3), None),
        ("labels hold", x, 0.5, torch.tensor([0, 3])),
        ("labels have shape", x, 0.5, torch.tensor([0])),
    ]
    for named, state, tau, labels in calls:
        with pytest.raises(InputError, match=named):
            good.denoise(state, tau, labels)
    with pytest.raises(InputError, match="no classes"):
        GaussianMixture.random(3).denoise(x, 0.5, torch.tensor([0, 0]))


def test_the_bundled_mixture() -> None:
    """Ten classes of 16x16 colour images within 600 kB, with bases restored to full precision."""
    mixture = GaussianMixture.load(BUNDLED / "mixture.safetensors")
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= 600_000
    assert (mixture.shape, mixture.classes, mixture.components) == ((3, 16, 16), 10, 10)
    gram = mixture.basis.mT @ mixture.basis
    assert torch.allclose(gram, torch.eye(mixture.rank, dtype=torch.float64).expand_as(gram), atol=1e-12)
    assert mixture.means.abs().max() < 1
    x, _ = mixture.sample(8)
    assert torch.allclose(
        mixture.to(dtype=torch.float32).denoise(x.float(), 0.2).double(), mixture.denoise(x, 0.2), atol=1e-4
    )
