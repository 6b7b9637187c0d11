"""The shape distance of stochastic representations, and the ranking of blocks by it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import small_dit

from fewer import InputError, standard
from fewer.blocks.find import blocks
from fewer.calibrate.redundant_blocks import redundant_blocks
from fewer.evaluate.distances.shape import nearest, shape_distance

SEEDS = st.integers(0, 2**32 - 1)
FORMS = ("gaussian", "energy")


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def representation(seed: int, d: int = 3) -> torch.Tensor:
    """Responses (8, 6, d) of random means and covariances."""
    return normal(8, 1, d, seed=seed) + normal(8, 6, d, seed=seed + 1) @ normal(8, d, d, seed=seed + 2)


@pytest.mark.parametrize("form", FORMS)
@given(SEEDS)
@settings(max_examples=2, deadline=None)
def test_it_is_a_distance_up_to_rotations(form: str, seed: int) -> None:
    a, b, c = (representation(seed + 10 * k) for k in range(3))
    turn = nearest(normal(3, 3, seed=seed))
    ab = shape_distance(a, b, form)
    assert ab.low <= ab.value <= ab.high
    assert ab.value > 0
    assert shape_distance(b, a, form).value == pytest.approx(ab.value, rel=1e-2)
    assert shape_distance(a @ turn, b, form).value == pytest.approx(ab.value, rel=1e-2)
    assert shape_distance(a, a @ turn, form).value == pytest.approx(0, abs=1e-3 * ab.value)
    # up to the descents' rounding; a minimum that is not the least would show
    assert ab.value <= (shape_distance(a, c, form).value + shape_distance(c, b, form).value) * 1.01


@given(SEEDS, st.floats(0.1, 10))
@settings(max_examples=5, deadline=None)
def test_wider_noise_is_as_far_as_it_is_wider(seed: int, factor: float) -> None:
    """No rotation leaves less than the difference of the roots' norms: |1 - factor| sqrt(tr S)."""
    means, e = normal(8, 1, 3, seed=seed), normal(8, 30, 3, seed=seed + 1)
    e = e - e.mean(1, keepdim=True)
    turn = nearest(normal(3, 3, seed=seed))
    found = shape_distance(means + e, (means + factor * e) @ turn)
    assert found.value == pytest.approx(abs(1 - factor) * math.sqrt(float(e.square().sum(2).mean())), abs=1e-3)
    assert shape_distance(means, means @ turn).value == pytest.approx(0, abs=1e-6)


def test_without_noise_it_is_procrustes() -> None:
    x, y = normal(12, 1, 4, seed=0), normal(12, 1, 4, seed=1)
    best = torch.linalg.svdvals(x[:, 0].T @ y[:, 0]).sum()
    exact = math.sqrt(float((x.square().sum() + y.square().sum() - 2 * best) / 12))
    assert shape_distance(x, y).value == pytest.approx(exact, rel=1e-5)
    wide = torch.nn.functional.pad(y, (0, 3))
    assert shape_distance(x, wide).value == pytest.approx(exact, rel=1e-3)


def test_a_block_that_adds_nothing_comes_first() -> None:
    model = small_dit()
    plan = standard("ddim", model, 8, "logsnr")
    network = model.network.module  # type: ignore[attr-defined]
    idle = network.transformer_blocks[1]
    kept = {name: value.clone() for name, value in idle.state_dict().items()}
    try:
        for layer in (idle.attn1.to_out[0], idle.ff.net[2]):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        found = redundant_blocks(model, plan, noises=4, components=3)
    finally:
        idle.load_state_dict(kept)
    assert found[0].block == "block.1"
    assert found[0].distance.value == pytest.approx(0, abs=1e-5)
    assert found[1].distance.low > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_is_refused() -> None:
    x = normal(8, 2, 3, seed=0)
    for bad in (x[:7], x[0], normal(9, 2, 3, seed=0)):
        with pytest.raises(InputError, match="responses"):
            shape_distance(x, bad)
    with pytest.raises(InputError, match="finite"):
        shape_distance(x, x / 0)
    with pytest.raises(InputError, match="form is 'x'"):
        shape_distance(x, x, "x")  # type: ignore[arg-type]
    model = small_dit()
    plan = standard("ddim", model, 8, "logsnr")
    branch = next(name for name, each in blocks(model).items() if each.kind == "branch")
    with pytest.raises(InputError, match=f"residual ones, got {branch}"):
        redundant_blocks(model, plan, [branch])
    with pytest.raises(InputError, match="two passes"):
        redundant_blocks(model, replace(standard("ddim", model, 8, "logsnr", guidance=2.0)))
    with pytest.raises(InputError, match="noises"):
        redundant_blocks(model, plan, noises=0)
    with pytest.raises(InputError, match="8 inputs"):
        redundant_blocks(model, standard("ddim", model, 4, "logsnr"), noises=2)
