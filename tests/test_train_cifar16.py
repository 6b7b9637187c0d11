"""The resumable training of the 16x16 networks, with tiny ones on random images."""

from __future__ import annotations

import itertools
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn

import fewer
from fewer.errors import InputError

ROOT = Path(__file__).parent.parent
STEPS = 9
MEGABYTES = 12


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from scripts import train_cifar16

        yield train_cifar16


def tiny_unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
        num_class_embeds=11,
    )  # fmt: skip


def tiny_dit() -> DiTTransformer2DModel:
    return DiTTransformer2DModel(
        sample_size=16, in_channels=3, out_channels=3, patch_size=2, num_attention_heads=1, attention_head_dim=8,
        num_layers=1, num_embeds_ada_norm=10,
    )  # fmt: skip


TINY = {"unet": tiny_unet, "dit": tiny_dit}


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(20, 3, 16, 16, generator=generator) * 2 - 1, torch.arange(20) % 10


def tiny_recipe(script: Any, name: str) -> Any:
    recipe = script.RECIPES[name]
    return replace(recipe, network=TINY[name], training=replace(recipe.training, batch=4, warmup=3))


def begun(script: Any, recipe: Any) -> Any:
    torch.manual_seed(0)
    return script.State.start(recipe.network(), recipe.training)


def go_on(script: Any, state: Any, recipe: Any, until: int) -> None:
    """To step `until` of STEPS, where a step costs one core-second."""
    count = itertools.count()
    script.train(state, recipe, *images(), STEPS, lambda now: now.step == until, lambda: float(next(count)))


def numbers(state: Any) -> list[Tensor]:
    moments = [moment for kept in state.optimizer.state.values() for moment in kept.values()]
    return [*state.network.parameters(), *state.average.parameters(), *moments, state.generator.get_state()]


@pytest.mark.parametrize("name", TINY)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(name: str, script: Any, tmp_path: Path) -> None:
    recipe = tiny_recipe(script, name)
    whole, first, second = (begun(script, recipe) for _ in range(3))
    go_on(script, whole, recipe, STEPS)
    go_on(script, first, recipe, 4)
    script.save_checkpoint(first, tmp_path / "checkpoint", name, 0)
    script.load_checkpoint(second, tmp_path / "checkpoint", name, 0)
    assert all(torch.equal(a, b) for a, b in zip(numbers(first), numbers(second), strict=True))
    go_on(script, second, recipe, STEPS)
    assert (second.step, second.recent, second.cpu_seconds) == (STEPS, whole.recent, whole.cpu_seconds)
    assert all(torch.equal(a, b) for a, b in zip(numbers(whole), numbers(second), strict=True))
    assert not torch.equal(numbers(first)[0], numbers(second)[0])


@pytest.mark.parametrize("name", TINY)
def test_the_exported_folder_loads_and_samples(name: str, script: Any, tmp_path: Path) -> None:
    recipe = tiny_recipe(script, name)
    state = begun(script, recipe)
    go_on(script, state, recipe, 3)
    for _ in range(2):  # the second one over the first
        script.export(state, recipe.scheduler(), tmp_path / "model", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    model = fewer.load(tmp_path / "model")
    assert (model.classes, model.empty_label) == (10, 10)
    samples = fewer.sample(model, fewer.standard("ddim", model, nfe=2), n=2, seed=0)
    assert samples.shape == (2, 3, 16, 16)
    assert samples.isfinite().all()


def test_a_model_folder_alone_goes_on_with_fresh_moments(script: Any, tmp_path: Path) -> None:
    recipe = tiny_recipe(script, "unet")
    state, later = begun(script, recipe), begun(script, recipe)
    go_on(script, state, recipe, 4)
    script.export(state, recipe.scheduler(), tmp_path, seed=0)
    script.load_exported(later, tmp_path, recipe.training)
    assert (later.step, later.fresh, later.cpu_seconds, later.optimizer.state) == (4, 4, 4.0, {})
    for weights in (later.network, later.average):
        for ours, kept in zip(weights.parameters(), state.average.parameters(), strict=True):
            torch.testing.assert_close(ours, kept.half().float(), rtol=0, atol=0)
    with pytest.raises(InputError, match="--from"):
        script.load_exported(later, tmp_path / "scheduler", recipe.training)


def test_a_signal_leaves_a_checkpoint_and_a_model(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, handler = tiny_recipe(script, "unet"), signal.getsignal(signal.SIGTERM)
    reports: list[int] = []
    monkeypatch.setattr(script, "REPORT_EVERY", 3)
    monkeypatch.setattr(script, "report", lambda state: (reports.append(state.step), os.kill(os.getpid(), 15)))
    state = script.run("unet", recipe, *images(), tmp_path, 1.0)
    assert (state.step, reports) == (3, [3])
    assert signal.getsignal(signal.SIGTERM) is handler
    again = script.run("unet", recipe, *images(), tmp_path, 1.0)
    assert (again.step, [step for step, _ in again.curve]) == (6, [3, 6])
    assert json.loads((tmp_path / "model/fewer.json").read_text())["trained"]["steps"] == 6
    with pytest.raises(InputError, match="seed 0; asked for dit"):
        script.run("dit", tiny_recipe(script, "dit"), *images(), tmp_path, 1.0)


def test_a_spent_budget_ends_the_run(script: Any) -> None:
    recipe = tiny_recipe(script, "unet")
    state = begun(script, recipe)
    go_on(script, state, recipe, -1)
    assert state.step == STEPS


def test_an_unreadable_checkpoint_is_bad_input(script: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"no such thing")
    with pytest.raises(InputError, match="cannot be read"):
        script.load_checkpoint(begun(script, tiny_recipe(script, "unet")), tmp_path / "checkpoint", "unet", 0)


def test_a_checkpoint_of_another_network_is_bad_input(script: Any, tmp_path: Path) -> None:
    recipe = tiny_recipe(script, "unet")
    state = begun(script, recipe)
    go_on(script, state, recipe, 1)
    script.save_checkpoint(state, tmp_path / "checkpoint", "unet", 0)
    other = begun(script, replace(recipe, network=tiny_dit))
    with pytest.raises(InputError, match="another unet"):
        script.load_checkpoint(other, tmp_path / "checkpoint", "unet", 0)


@pytest.mark.parametrize("name", TINY)
def test_the_networks_fit_their_place(name: str, script: Any) -> None:
    network: nn.Module = script.RECIPES[name].network()
    assert 2 * sum(p.numel() for p in network.parameters()) < 1e6 * MEGABYTES


@pytest.mark.parametrize("name", TINY)
def test_times_cover_their_range(name: str, script: Any) -> None:
    times = script.RECIPES[name].times(torch.linspace(0, 1, 101))
    assert times.min().item() == pytest.approx(0, abs=1e-6)
    assert times.max().item() == pytest.approx(1, abs=1e-6)
    assert times.diff().sign().unique().numel() == 1  # monotone


def test_bad_hours_are_bad_input(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["unet", "--data", "no.zip", "--out", str(tmp_path / "new"), "--hours", "0"]
    assert script.main(arguments) == 2
    assert "--hours is 0.0" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
