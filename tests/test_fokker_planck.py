"""The Fokker-Planck residual: 0 for scores of true laws, right or wrong ones, and in closed form for one that is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.evaluate.probability_flow.fokker_planck import _gap, fokker_planck_residual, score_residual
from fewer.models.flawed import Rough, smoothed
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import VarianceExploding

PROCESS = VarianceExploding(0.01, 50.0)
MIXTURE = GaussianMixture.random((1, 1, 2), components=3, seed=3)
LEVELS = (3.0, 1.0, 0.3)


def exact(mixture: GaussianMixture) -> Model:
    return Model.from_mixture(mixture, PROCESS, dtype=torch.float64)


def denoiser(data: Any, shape: tuple[int, ...] = (1, 1, 2)) -> Model:
    return Model.from_denoiser(lambda x, t, labels: data(x, t[0]), PROCESS, shape, dtype=torch.float64)


@pytest.mark.parametrize("mixture", [MIXTURE, smoothed(MIXTURE, 0.4)], ids=["the data's", "another"])
def test_a_true_score_has_none(mixture: GaussianMixture) -> None:
    found = fokker_planck_residual(exact(mixture), MIXTURE.sample(32)[0], LEVELS)
    assert float(found.residual.max()) < 1e-5
    assert found.gap < 1e-5


def test_a_wrong_factor_on_a_gaussian_score_in_closed_form() -> None:
    """S = -c X / V, V = v0 + s^2: R = c X / V^2 - grad |S|^2 / 2 = (c - c^2) X / V^2."""
    c, v0 = 1.3, 0.5
    model = denoiser(lambda x, s: x - s**2 * c * x / (v0 + s**2))
    x = torch.randn(5, 1, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for s in LEVELS:
        wanted = s**3 * (c - c**2) * x / (v0 + s**2) ** 2
        torch.testing.assert_close(score_residual(model, x, s), wanted, rtol=1e-4, atol=1e-6)


def test_probes_are_without_bias() -> None:
    """With both signs of two orthogonal vectors the estimate of the divergence is the exact sum."""
    rough = Rough(0.3, seed=1)

    def data(x: Tensor, s: Tensor) -> Tensor:
        state, tau = x / (1 + s), s / (1 + s)
        return rough.of(MIXTURE.denoise(state, tau), state, tau)

    model = denoiser(data)
    x = torch.randn(4, 1, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]])[:, None].expand(2, 4, 2)
    torch.testing.assert_close(score_residual(model, x, 0.7, signs=signs), score_residual(model, x, 0.7))
    assert float(score_residual(model, x, 0.7).abs().max()) > 1e-2


def test_the_gap_of_a_residual_in_closed_form() -> None:
    """With |R| s^3 = s (so 2 R~ / s = 2): E = 2 log(top / s), and int 2 s^2 log(top / s) dlog s = 1/2 for top 1, down to 0."""
    s = torch.logspace(0, -4, 4001, dtype=torch.float64)
    assert _gap(s, s) == pytest.approx(0.5, rel=1e-3)


def test_as_a_penalty_it_reaches_the_weights() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()

    def data(x: Tensor, s: Tensor) -> Tensor:
        return network(x.flatten(1)).view_as(x)

    x = torch.randn(6, 1, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = denoiser(data)
    adam, values = torch.optim.Adam(network.parameters(), 1e-2), []
    for _ in range(8):
        loss = score_residual(model, x, 1.0, graph=True).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        values.append(loss.item())
    assert values[-1] < 0.9 * values[0]


def test_bad_input() -> None:
    model, data = exact(MIXTURE), MIXTURE.sample(4)[0]
    for given, says in (
        ({"levels": (0.3, 1.0)}, "falling positive"),
        ({"levels": (1.0,)}, "at least two"),
        ({"data": torch.zeros(3, 1)}, "data has shape"),
        ({"probes": -1}, "probes is -1"),
    ):
        with pytest.raises(InputError, match=says):
            fokker_planck_residual(model, **{"data": data, "levels": LEVELS, **given})
    with pytest.raises(InputError, match="derivatives are needed"):
        fokker_planck_residual(denoiser(lambda x, s: x.detach()), data, LEVELS)
