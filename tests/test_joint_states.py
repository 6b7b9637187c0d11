"""Loops that step two states at once, and loops that hold parts of theirs."""

from __future__ import annotations

import copy
from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.models.model import Model

BATCH, STEPS = 2, 4


class Weights(nn.Linear):
    """A part by which pipelines know their device."""

    device = torch.device("cpu")


def spread(values: Tensor, like: Tensor) -> Tensor:
    """A number a sample, in the dimensions of another state."""
    return values.view(-1, *[1] * (like.ndim - 1))


def velocities(picture: Tensor, sound: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """What the network of `Sounding` gives at both states: each depends on the other, and on the time."""
    level = float(t) / 1000
    u = level * torch.tanh(picture) + spread(sound.mean(1), picture)
    v = torch.sin(sound) - level * spread(picture.flatten(1).mean(1), sound)
    return u, v


class Sounding(diffusers.DiffusionPipeline):
    """Denoises a picture and its sound, by two copies of one scheduler."""

    def __init__(self, unet: nn.Module, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def __call__(self, num_inference_steps: int = STEPS, generator: Any = None) -> Any:
        picture = torch.randn(BATCH, 1, 4, 4, generator=generator)
        sound = torch.randn(BATCH, 3, generator=generator)
        second = copy.deepcopy(self.scheduler)
        for scheduler in (second, self.scheduler):
            scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            u, v = velocities(picture, sound, t)
            picture = self.scheduler.step(u, t, picture, return_dict=False)[0]
            sound = second.step(v, t, sound, return_dict=False)[0]
        return {"images": picture, "sounds": sound}


class Unheard(Sounding):
    """Copies its scheduler, and never steps by the copy."""

    def __call__(self, num_inference_steps: int = STEPS, generator: Any = None) -> Any:
        picture = torch.randn(BATCH, 1, 4, 4, generator=generator)
        copy.deepcopy(self.scheduler)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            picture = self.scheduler.step(picture, t, picture, return_dict=False)[0]
        return {"images": picture}


class Holding(Sounding):
    """Sets the left half of its state to a picture at every turn."""

    def __call__(self, num_inference_steps: int = STEPS, generator: Any = None) -> Any:
        held = tiny.drawn(BATCH, 1, 4, 2, seed=5)
        state = torch.randn(BATCH, 1, 4, 4, generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            state[..., :2] = held
            u = float(t) / 1000 * torch.tanh(state) + spread(state.flatten(1).mean(1), state)
            state = self.scheduler.step(u, t, state, return_dict=False)[0]
        return {"images": state}


def made(kind: Any) -> tuple[Any, Model]:
    pipe = tiny.silent(kind(Weights(1, 1), diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)))
    return pipe, Model.from_pipeline(pipe, {"generator": torch.Generator().manual_seed(0)})


def test_two_states_are_asked_for_as_one_at_any_state_and_time() -> None:
    _, model = made(Sounding)
    for seed, t in ((1, 900.0), (2, 333.3), (3, 12.5)):
        picture, sound = tiny.drawn(BATCH, 1, 4, 4, seed=seed), tiny.drawn(BATCH, 3, seed=seed + 10)
        u, v = velocities(picture, sound, t)
        ours = model(torch.cat([picture.flatten(1), sound], 1), t, model.labels(BATCH))
        assert torch.allclose(ours, torch.cat([u.flatten(1), v], 1), atol=1e-6)


def test_a_plan_gives_the_two_states_that_the_pipeline_makes_under_it() -> None:
    pipe, model = made(Sounding)
    plan, generator = fewer.standard("dpmpp-2m", model, nfe=STEPS), torch.Generator().manual_seed(3)
    noise = torch.cat([torch.randn(BATCH, 16, generator=generator), torch.randn(BATCH, 3, generator=generator)], 1)
    ours = fewer.sample(model, plan, noise=noise, labels=model.labels(BATCH))
    fewer.apply(plan, pipe)
    theirs = pipe(generator=torch.Generator().manual_seed(3))
    assert torch.allclose(ours, torch.cat([theirs["images"].flatten(1), theirs["sounds"]], 1), atol=1e-5)


def test_a_copied_scheduler_that_is_not_stepped_is_named() -> None:
    _, model = made(Sounding)
    assert model.shape == (19,)
    with pytest.raises(InputError, match="does not step by the copy"):
        made(Unheard)


def test_sound_with_levels_of_its_own_is_refused() -> None:
    pipe, model = made(Sounding)
    plan = fewer.standard("euler", model, nfe=STEPS)
    pipe.audio_scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    for use in (lambda: Model.from_pipeline(pipe, {}), lambda: fewer.apply(plan, pipe)):
        with pytest.raises(InputError, match="audio_scheduler"):
            use()


def test_what_a_loop_holds_is_data_that_its_network_knows() -> None:
    _, model = made(Holding)
    held = tiny.drawn(BATCH, 1, 4, 2, seed=5)
    x, t = tiny.drawn(BATCH, 1, 4, 4), 600.0
    model(x, 900.0, model.labels(BATCH))
    u = model(x, t, model.labels(BATCH))
    assert torch.allclose((x - t / 1000 * u)[..., :2], held, atol=1e-5)
    state = torch.cat([held, x[..., 2:]], -1)
    assert torch.allclose(
        u[..., 2:], (t / 1000 * torch.tanh(state) + spread(state.flatten(1).mean(1), state))[..., 2:], atol=1e-6
    )
