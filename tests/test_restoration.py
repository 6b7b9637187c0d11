"""The four figures of a restoration method, on Gaussians and mixtures whose posterior is known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewer import InputError
from fewer.claims.evaluate.restoration import three
from fewer.evaluate.restoration import restoration

D, K, NOISE = 8, 4, 0.5


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_of_a_linear_gaussian_all_four_are_known(seed: int) -> None:
    """x ~ N(0, I) in 8 dimensions, y = A x + noise of 4 numbers: the posterior is N(G y, I - G A)."""
    a = normal(K, D, seed=seed)
    gain = a.T @ torch.linalg.inv(a @ a.T + NOISE**2 * torch.eye(K, dtype=torch.float64))
    left = torch.eye(D, dtype=torch.float64) - gain @ a
    root = torch.linalg.cholesky(left)

    def sampler(y: torch.Tensor, seed: int) -> torch.Tensor:
        return y @ gain.T + normal(len(y), D, seed=seed) @ root.T

    x = normal(4000, D, seed=seed + 1)
    found = restoration(sampler, lambda x: x @ a.T, x, NOISE, seed=seed)
    middle = restoration(lambda y, seed: y @ gain.T, lambda x: x @ a.T, x, NOISE, seed=seed)
    assert found.diversity.value == pytest.approx(float(left.trace()), rel=0.1)
    assert middle.diversity.value == 0
    for each in (found, middle):  # of e in any direction
        assert 0 < each.sensitivity.value <= float(torch.linalg.matrix_norm(gain, 2)) * (1 + 1e-6)
    assert found.sensitivity.value == pytest.approx(middle.sensitivity.value, rel=1e-6)
    assert found.perception.low <= 0.02
    assert found.perception.value < middle.perception.value
    # the sampler leaves as much noise unexplained as there is; the mean explains a part of it
    assert found.consistency.value == pytest.approx(K * NOISE**2, rel=0.2)
    assert middle.consistency.value < found.consistency.value


def test_only_the_sampler_looks_like_the_data_without_being_erratic() -> None:
    pairs = three()
    x = pairs.draw(2000, torch.Generator().manual_seed(0))
    mean, sampler = (restoration(each, lambda x: x[:, :1], x) for each in (pairs.mean, pairs.sampler))
    assert mean.consistency.value == sampler.consistency.value == 0
    assert sampler.perception.low <= 0 < mean.perception.low
    assert mean.diversity.value == 0 < sampler.diversity.low
    waves = [restoration(pairs.waves(count), lambda x: x[:, :1], x, step=1e-5) for count in (1, 8, 64)]
    assert [each.diversity.value for each in waves] == [0, 0, 0]
    perception = [each.perception.value for each in waves]
    assert perception == sorted(perception, reverse=True)
    sensitivity = [each.sensitivity.value for each in waves]
    assert sensitivity == sorted(sensitivity)


def test_images_are_restored_in_their_shape() -> None:
    images = normal(32, 1, 4, 4)
    found = restoration(
        lambda y, seed: torch.nn.functional.interpolate(y, scale_factor=2.0),
        lambda x: torch.nn.functional.avg_pool2d(x, 2),
        images,
    )
    assert found.consistency.value == pytest.approx(0, abs=1e-20)
    assert found.sensitivity.value == pytest.approx(2)  # each number of y is written four times


def test_what_is_refused() -> None:
    x = normal(32, 2)

    def restore(y: torch.Tensor, seed: int) -> torch.Tensor:
        return y

    for bad in ({"noise": -1.0}, {"step": 0.0}, {"step": math.inf}):
        with pytest.raises(InputError, match="noise must be"):
            restoration(restore, lambda x: x, x, **bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="16 finite samples"):
        restoration(restore, lambda x: x, x[:15])
    with pytest.raises(InputError, match="measurements that differ"):
        restoration(restore, lambda x: 0 * x, x)
    for broken in (lambda y, seed: y[:, :1], lambda y, seed: y / 0):
        with pytest.raises(InputError, match="estimator must return"):
            restoration(broken, lambda x: x, x)
