"""Scores of forecasts: least for the truth, the same for any number of draws, and a test that knows calibrated from not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer import InputError
from fewer.evaluate.forecasts import crps, forecast_scores


def test_crps_of_a_gaussian_forecast_is_known() -> None:
    """Of N(0, 1) at its middle 2 phi(0) - 1 / sqrt(pi) (Gneiting & Raftery 2007), whatever the number of draws."""
    generator = torch.Generator().manual_seed(0)
    known = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    for n, many in ((2, 40_000), (50, 4_000)):
        found = crps(torch.randn(many, n, generator=generator), torch.zeros(many))
        assert float(found.mean()) == pytest.approx(known, abs=4 * float(found.std()) / math.sqrt(many))


@given(st.integers(2, 12), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_crps_is_the_mean_over_pairs_of_different_draws(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(3, n, 2, generator=generator).double(), torch.randn(3, 2, generator=generator).double()
    pairs = (x[:, :, None] - x[:, None]).abs().sum((1, 2)) / (2 * n * (n - 1))
    assert torch.allclose(crps(x, y), (x - y[:, None]).abs().mean(1) - pairs)


def test_the_truth_scores_best_and_is_calibrated() -> None:
    generator = torch.Generator().manual_seed(1)
    common = torch.randn(300, 1, 1, generator=generator)
    x = common + torch.randn(300, 25, 3, generator=generator)
    draws, truth = x[:, 1:], x[:, 0]
    right = forecast_scores(draws, truth)
    middle = draws.mean(1, keepdim=True)
    narrow, moved = forecast_scores(middle + 0.5 * (draws - middle), truth), forecast_scores(draws - 0.7, truth)
    assert right.crps.value < min(narrow.crps.value, moved.crps.value)
    assert right.energy.value < min(narrow.energy.value, moved.energy.value)
    assert right.p_value > 0.001 > max(narrow.p_value, moved.p_value)
    assert moved.bias.low > 0
    assert narrow.width.low > 0
    assert right.spread.value == pytest.approx(1, abs=0.15)
    assert narrow.spread.high < 0.75
    assert float(right.ranks.sum()) == pytest.approx(1)
    assert torch.allclose(right.ranks, torch.full((10,), 0.1).double(), atol=0.05)


def test_ties_are_no_rank() -> None:
    """Draws that are all the truth itself place it evenly."""
    x = torch.zeros(400, 1)
    assert forecast_scores(x[:, None].expand(-1, 8, -1) + 0.0, x).ranks.max() < 0.2


def test_peers_agree() -> None:
    """The fair CRPS and the energy score are scoringrules' own, where that is installed."""
    peer = pytest.importorskip("scoringrules")
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(5, 9, generator=generator).double(), torch.randn(5, generator=generator).double()
    assert torch.allclose(crps(x, y), torch.from_numpy(peer.crps_ensemble(y.numpy(), x.numpy(), estimator="fair")))


@pytest.mark.parametrize(
    ("draws", "truth", "says"),
    [
        ((4, 8, 2), (4, 2), "12 pasts"),
        ((20, 8, 2), (20, 3), "do not agree"),
        ((20, 2, 2), (20, 2), "at least 4 draws"),
    ],
)
def test_what_cannot_be_scored(draws: tuple[int, ...], truth: tuple[int, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        forecast_scores(torch.zeros(draws), torch.zeros(truth))
    with pytest.raises(InputError, match="finite"):
        forecast_scores(torch.full((20, 8, 2), float("nan")), torch.zeros(20, 2))
