"""Mutual information of condition and sample, on pairs whose information is known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer import InputError
from fewer.evaluate.statistics.compressed_information import compressed_information

SEEDS = st.integers(0, 2**32 - 1)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(n: int, d: int, rho: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    z, e = normal(n, d, seed), normal(n, d, seed + 1)
    return z, rho * z + math.sqrt(1 - rho**2) * e


@given(SEEDS, st.integers(1, 2), st.floats(-0.9, 0.9))
@settings(max_examples=20, deadline=None)
def test_it_is_that_of_gaussians(seed: int, d: int, rho: float) -> None:
    c, x = pairs(1000, d, rho, seed)
    assert compressed_information(c, x).value == pytest.approx(-d / 2 * math.log(1 - rho**2), abs=0.2)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_independent_pairs_have_none(seed: int) -> None:
    found = compressed_information(normal(400, 3, seed), normal(400, 3, seed + 1))
    assert abs(found.value) < 0.15
    labels = torch.arange(400) % 4
    assert abs(compressed_information(labels, normal(400, 3, seed)).value) < 0.15


@given(SEEDS, st.floats(0.1, 10))
@settings(max_examples=10, deadline=None)
def test_it_is_symmetric_and_of_no_unit(seed: int, scale: float) -> None:
    c, x = pairs(200, 2, 0.7, seed)
    found = compressed_information(c, x).value
    assert compressed_information(x, c).value == pytest.approx(found, abs=1e-9)
    turn = torch.linalg.qr(normal(9, 2, seed)).Q  # into 9 dimensions
    assert compressed_information(c, scale * x @ turn.T + 3).value == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 5])
def test_labels_that_decide_the_sample_have_their_entropy(classes: int) -> None:
    labels = torch.arange(200 * classes) % classes
    apart = 20 * torch.nn.functional.one_hot(labels, classes) + normal(len(labels), classes, 0)
    assert compressed_information(labels, apart, 8).value == pytest.approx(math.log(classes), abs=0.02)


def test_images_and_prompts_of_any_shape() -> None:
    found = compressed_information(normal(40, 12, 0).reshape(40, 3, 4), normal(40, 48, 1).reshape(40, 3, 4, 4))
    assert found.low <= found.value <= found.high
    assert found.n == 40


def test_what_is_refused() -> None:
    x = normal(64, 2, 0)
    with pytest.raises(InputError, match="same n"):
        compressed_information(x[:60], x)
    with pytest.raises(InputError, match="a label has 1 samples"):
        compressed_information(torch.arange(64).clamp(max=62), x)
    with pytest.raises(InputError, match="samples holds a value that is not finite"):
        compressed_information(x, x / 0)
    with pytest.raises(InputError, match="condition must hold rows that differ"):
        compressed_information(torch.ones(64, 2), x)
    for components, k in ((0, 3), (2, 0), (2, 8)):
        with pytest.raises(InputError, match="expected components"):
            compressed_information(x, x, components, k)
