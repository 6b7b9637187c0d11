"""Multimarginal interpolants of mixtures: conditional means, marginals along paths, and what a transport costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer.claims.processes.multimarginal import draws, three
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.processes.multimarginal import Multimarginal, SimplexPath

LAWS = three(0)
PROCESS = Multimarginal.of_mixtures(LAWS)


def gaussian(mean: float, deviation: float) -> GaussianMixture:
    one = torch.ones(1, dtype=torch.float64)
    return GaussianMixture(one, mean * one[None], one[None, None], deviation**2 * one[None], one, (1,))


@settings(deadline=None, max_examples=20)
@given(weights=st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_the_means_make_up_the_state(weights: list[float], seed: int) -> None:
    """sum_k a_k E[x_k | x] = x."""
    a = torch.tensor(weights, dtype=torch.float64)
    a = a / a.sum()
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(torch.einsum("k,nkd->nd", a, PROCESS.means(x, a)), x)


def test_with_noise_at_one_corner_it_is_the_denoiser() -> None:
    """Data and N(0, 1): g of the data's corner is the mixture's own data prediction in the flow frame."""
    data = GaussianMixture.random(2, 3, seed=4)
    process = Multimarginal.of_mixtures([data, LAWS[2]])
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for tau in (0.2, 0.7):
        a = torch.tensor([1 - tau, tau], dtype=torch.float64)
        torch.testing.assert_close(process.means(x, a)[:, 0], data.denoise(x, tau))


def test_the_loss_is_least_at_the_means() -> None:
    a, n = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), 20_000
    given_ = draws(LAWS, n, 1)
    g = PROCESS.means(torch.einsum("k,nkd->nd", a, given_), a)
    error = given_ - g
    assert float(error.mean(0).abs().max()) < 5 * float(error.std()) / n**0.5
    assert float((error * g).mean(0).abs().max()) < 5 * float((error * g).std()) / n**0.5  # orthogonal to what x tells
    assert Multimarginal.loss(g, given_).shape == (n,)
    assert Multimarginal.loss(g, given_).mean() < Multimarginal.loss(g + 0.1, given_).mean()


@given(t=st.floats(0, 1), seed=st.integers(0, 99))
def test_paths_lie_on_the_simplex(t: float, seed: int) -> None:
    waves = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    path = SimplexPath(0, 2, waves)
    a, rate = path.both(t)
    assert float(a.sum()) == pytest.approx(1)
    assert bool((a >= 0).all())
    assert float(rate.sum()) == pytest.approx(0, abs=1e-8)
    for end, corner in ((0.0, 0), (1.0, 2)):
        assert float(path.at(torch.tensor(end, dtype=torch.float64))[corner]) == pytest.approx(1)
    torch.testing.assert_close(SimplexPath.edge(0, 1, 2).at(torch.tensor([0.3])), torch.tensor([[0.7, 0.3]]))


@pytest.mark.parametrize("waves", [0.0, 0.6])
def test_any_path_carries_one_gaussian_to_the_other(waves: float) -> None:
    """On a line the flow of Gaussians is the affine map of their means and deviations, by way of a third or not."""
    process = Multimarginal.of_mixtures([gaussian(-1.0, 0.5), gaussian(2.0, 1.5), gaussian(0.3, 0.2)])
    path = SimplexPath(0, 1, torch.tensor([[0.0], [0.0], [waves]], dtype=torch.float64))
    x = torch.tensor([[-2.0], [-1.0], [0.1]], dtype=torch.float64)
    torch.testing.assert_close(process.transport(path, x, 400), 2.0 + 3.0 * (x + 1.0), rtol=1e-3, atol=1e-3)


def test_the_cost_is_no_less_than_wasserstein() -> None:
    """Between N(-1, 1/4) and N(2, 9/4) the squared distance is 9 + 1; the path found costs no more than the edge."""
    process = Multimarginal.of_mixtures([gaussian(-1.0, 0.5), gaussian(2.0, 1.5), gaussian(0.5, 1.0)])
    z = torch.randn(2000, 3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given_ = z * torch.tensor([0.5, 1.5, 1.0])[:, None] + torch.tensor([-1.0, 2.0, 0.5])[:, None]
    times = (torch.arange(40, dtype=torch.float64) + 0.5) / 40
    edge, path = SimplexPath.edge(0, 1, 3), process.cheapest(0, 1, given_[:200], iterations=25)
    dear, cheap = (float(process.cost(each, given_, times)) for each in (edge, path))
    assert 9.7 < cheap <= dear


def test_bad_input() -> None:
    for make, says in (
        (lambda: SimplexPath.edge(0, 0, 3), "expected two of 3 corners"),
        (lambda: Multimarginal.of_mixtures(LAWS[:1]), "expected two or more"),
        (lambda: Multimarginal.of_mixtures([LAWS[0], gaussian(0, 1)]), "expected two or more of one"),
        (lambda: PROCESS.transport(SimplexPath.edge(0, 1, 3), torch.zeros(1, 2), 0), "steps is 0"),
    ):
        with pytest.raises(InputError, match=says):
            make()
