"""CADS: what becomes of the embedding, whose noise it is, that the network is left as it was, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import unet
from small_networks import SCHEDULE, small_dit
from torch import Tensor

import fewer
from fewer.cli.main import run
from fewer.engine import times
from fewer.errors import InputError
from fewer.evaluate.leaderboard import compare
from fewer.guidance import guide
from fewer.guidance.cads import ConditionAnnealed, embeddings
from fewer.guidance.passes import Passes
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.pipelines.folder import DiffusersNetwork


def small_unet() -> Model:
    """Labels 0 and 1, and 2 for none."""
    network = unet(num_class_embeds=3, seed=1).eval().requires_grad_(False)
    return Model(DiffusersNetwork(network, True), SCHEDULE, "noise", (1, 8, 8), 2, 2, name="unet", hash="u")


MODELS = {"dit": small_dit, "unet": small_unet}


def a_plan(model: Model, rule: Any, rows: int = 3) -> fewer.Plan:
    return guide(fewer.standard("ddim", model, rows, "logsnr"), rule)


def made(model: Model, rule: Any, **options: Any) -> Tensor:
    return fewer.sample(model, a_plan(model, rule), n=5, **options)


def unit(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
def test_up_to_the_low_level_it_is_classifier_free_guidance(name: str) -> None:
    model = MODELS[name]()
    top = float(a_plan(model, 2.0).rows[0].tau)
    assert torch.equal(made(model, ConditionAnnealed(2.0, top, 1.0)), made(model, 2.0))
    assert (made(model, ConditionAnnealed(2.0, 0.0, 0.5)) - made(model, 2.0)).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_noise_is_each_samples_own(name: str) -> None:
    """The same in any micro-batch, other for another seed."""
    model, rule = MODELS[name](), ConditionAnnealed(2.0, 0.0, 0.5)
    z = fewer.noise.unit_noise(3, range(5), model.shape)
    whole = made(model, rule, noise=z, seed=1)
    torch.testing.assert_close(whole, made(model, rule, noise=z, seed=1, batch=2), atol=1e-4, rtol=1e-4)
    assert torch.equal(whole, made(model, rule, noise=z, seed=1))
    assert (whole - made(model, rule, noise=z, seed=2)).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_the_network_is_as_it_was(name: str) -> None:
    model = MODELS[name]()
    (t,) = times(model, a_plan(model, 2.0, 1))
    x, labels = torch.zeros(2, 1, 8, 8), model.labels(2)
    before = model(x, t, labels)
    made(model, ConditionAnnealed(2.0, 0.0, 0.5))

    def failing(*args: Any) -> Tensor:
        raise RuntimeError

    broken = Passes(
        failing, x, 0.9, x, t, labels, model.empty_label, lambda f: f,
        model=model, fresh=lambda size: torch.zeros(2, *size),
    )  # fmt: skip
    with pytest.raises(RuntimeError):
        ConditionAnnealed(2.0).output(broken)
    assert torch.equal(model(x, t, labels), before)
    assert not any(module._forward_hooks for module in model.network.module.modules())  # type: ignore[attr-defined]


def test_the_empty_label_keeps_its_embedding() -> None:
    """Guidance of scale 0 is the unconditional network, whatever becomes of the label."""
    model = small_dit()
    torch.testing.assert_close(made(model, ConditionAnnealed(0.0, 0.0, 0.5)), made(model, 0.0), atol=1e-4, rtol=1e-4)


def test_every_embedding_of_a_transformer_gets_the_same_noise() -> None:
    """They stand for one condition: without the labels' own part, tables differ by mean and deviation alone."""
    model, seen = small_dit(), []
    found = embeddings(model.network.module)  # type: ignore[attr-defined]
    assert len(found) == 3
    rule = ConditionAnnealed(1.0, 0.1, 0.2)
    n = unit(4, 8)
    for table in found:
        y = rule.annealed(table.weight[:4], n, 0.0)  # type: ignore[index]
        seen.append((y - y.mean(1, keepdim=True)) / y.std(1, keepdim=True))
    for other in seen[1:]:
        torch.testing.assert_close(other, seen[0], atol=1e-5, rtol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.0, 1.0), st.floats(0.1, 3.0), st.floats(0.0, 1.0))
def test_the_annealed_embedding(gamma: float, noise: float, mix: float) -> None:
    """mix = 1 restores mean and deviation, 0 gives the paper's sum, and between them it is linear."""
    y, n = 0.3 + 2 * unit(4, 64, 1), unit(4, 64, 2)
    at = {m: ConditionAnnealed(2.0, noise=noise, mix=m).annealed(y, n, gamma) for m in (0.0, mix, 1.0)}
    torch.testing.assert_close(at[1.0].mean(1), y.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(at[1.0].std(1), y.std(1), atol=1e-5, rtol=1e-4)
    summed = gamma**0.5 * y + noise * y.std(1, keepdim=True) * (1 - gamma) ** 0.5 * n
    torch.testing.assert_close(at[0.0], summed, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(at[mix], mix * at[1.0] + (1 - mix) * at[0.0], atol=1e-5, rtol=1e-4)


@given(st.floats(0.0, 1.0))
def test_the_label_comes_in_linearly_between_the_levels(tau: float) -> None:
    rule = ConditionAnnealed(2.0, 0.3, 0.7)
    gamma = rule.kept(tau)
    assert gamma == (1 if tau <= 0.3 else 0 if tau >= 0.7 else pytest.approx((0.7 - tau) / 0.4))


def test_a_plan_is_kept_by_its_file(tmp_path: Path) -> None:
    plan = a_plan(small_dit(), ConditionAnnealed(3.0, 0.2, 0.8, 0.5, 0.9))
    assert fewer.Plan.load(plan.save(tmp_path / "p.json")).rows == plan.rows
    assert plan.nfe == 6


def mixture() -> Model:
    exact = GaussianMixture.random((1, 1, 2), components=4, classes=2)
    return Model.from_mixture(exact, SCHEDULE, conditional=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ConditionAnnealed(2.0, 0.9, 0.4), "guidance low is 0.9; expected a level below high, 0.4"),
        (lambda: ConditionAnnealed(2.0, noise=-1), "guidance noise is -1"),
        (lambda: ConditionAnnealed(2.0, mix=2), r"guidance mix is 2; expected a number in \[0, 1\]"),
        (lambda: made(mixture(), ConditionAnnealed(2.0)), "cads needs a network that embeds its labels"),
        (lambda: fewer.engine.play(small_dit(), a_plan(small_dit(), ConditionAnnealed(2.0)), torch.zeros(1, 1, 8, 8),
         small_dit().labels(1)), "cads draws noise in its rows: play the plan by fewer.sample"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_line(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make()
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_a_plan_under_it_is_one_that_draws_noise(tmp_path: Path) -> None:
    """The commands play it, and compare it by distance: no reference solution is its own."""
    plan = guide(fewer.standard("ddim", fewer.load("dit-digits"), 2, "logsnr"), ConditionAnnealed(2.0, 0.2, 0.6))
    assert plan.stochastic
    assert not guide(plan, 2.0).stochastic
    path, out = str(plan.save(tmp_path / "plan.json")), str(tmp_path / "images")
    assert run(["sample", "dit-digits", "--plan", path, "-n", "2", "--out", out]) == 0
    model = small_dit()
    board = compare(model, [4], [a_plan(model, ConditionAnnealed(2.0, 0.2, 0.6), rows=2)], n=16)
    (row,) = (row for row in board["rows"] if row["kind"] == "plan")
    assert "paired_rmse" not in row["quality"]
    assert row["quality"]["fd"]["n"] == 16
