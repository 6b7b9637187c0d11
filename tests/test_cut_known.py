"""Loops of pipelines that put data back which they know, as inpainting does."""

from __future__ import annotations

from typing import Any

import diffusers
import pipelines as plain
import tiny_pipelines as tiny
import torch
from cut_calls import SCALE, call_of, made, same
from torch import Tensor

import fewer
from fewer.models.model import Model


def inpainting() -> tuple[Any, dict[str, Any]]:
    """A pipeline whose network has no mask channels: after each step it puts back the picture, noised, outside of its mask."""
    case = tiny.stable_diffusion(diffusers.DDIMScheduler(**tiny.SCALED, clip_sample=False, steps_offset=1))
    pipe = diffusers.StableDiffusionInpaintPipeline(**case.pipe.components, requires_safety_checker=False)
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 8:] = 1
    picture = tiny.drawn(2, 3, 16, 16, seed=7).tanh()
    told = {"image": picture, "mask_image": mask, "height": 16, "width": 16, "strength": 1.0}
    return tiny.silent(pipe), call_of(case, guidance_scale=SCALE) | told


def test_what_a_pipeline_puts_back_into_its_states_is_data_that_its_network_knows() -> None:
    pipe, call = inpainting()
    call["generator"] = torch.Generator().manual_seed(1)
    model = Model.from_pipeline(pipe, call)
    labels = model.labels(2)

    def data(x: Tensor, t: float) -> Tensor:
        """The data prediction, outside of the mask."""
        tau = model.schedule.tau(t)
        number = model.affine(tau)
        state, output = x.double() / number.c_in, model(x, t, labels).double()
        return (state - tau * (number.p * state + number.q * output))[..., :4]

    x, other = tiny.drawn(2, *model.shape), tiny.drawn(2, *model.shape, seed=9)
    assert same(data(x, 500.0), data(other, 200.5))
    mixed = torch.cat([other[..., :4], x[..., 4:]], -1)
    assert same(model(mixed, 500.0, labels)[..., 4:], model(x, 500.0, labels)[..., 4:])


def test_a_plan_gives_the_samples_that_an_inpainting_pipeline_makes_but_for_its_first_turn() -> None:
    pipe, call = inpainting()
    call["generator"] = torch.Generator().manual_seed(1)
    model = Model.from_pipeline(pipe, call)
    plan = fewer.standard("dpmpp-2m", model, nfe=4)
    fewer.apply(plan, pipe)
    theirs = pipe(**call | {"generator": torch.Generator().manual_seed(1), "num_inference_steps": 4}).images
    fewer.unapply(pipe)
    ours = fewer.sample(model, plan, noise=call["latents"], labels=model.labels(2))
    # the pipeline begins with noise everywhere, and puts the picture back from its second turn on
    assert float((ours - theirs)[..., 4:].abs().max()) < 1e-3 * float(theirs.abs().max())


class Packed(diffusers.DDPMPipeline):
    """Puts known data back into the left half of its states, whose axes are in another order than it has them noised in."""

    def __call__(self, data: Tensor, noise: Tensor, num_inference_steps: int = 50) -> Any:
        self.scheduler.set_timesteps(num_inference_steps)
        times = self.scheduler.timesteps[num_inference_steps // 2 :]
        self.scheduler.set_begin_index(num_inference_steps // 2)
        known = torch.arange(8) < 4
        x = self.scheduler.add_noise(data, noise, times[:1]).mT
        for i, t in enumerate(times):
            x = self.scheduler.step(self.unet(x, t).sample, t, x).prev_sample
            more = i + 1 < len(times)
            there = self.scheduler.add_noise(data, noise, torch.stack([times[i + 1]])) if more else data
            x = torch.where(known, there.mT, x)
        return (x,)


def test_known_data_may_be_noised_in_another_layout_than_they_are_put_back_in() -> None:
    pipe, steps = tiny.silent(made(Packed, diffusers.DDIMScheduler(**plain.LINEAR, clip_sample=False))), 6
    data, noise = tiny.drawn(2, 1, 8, 8, seed=5), tiny.drawn(2, 1, 8, 8)
    model = Model.from_pipeline(pipe, {"data": data, "noise": noise})
    assert model.beginning is not None
    assert torch.equal(model.beginning.data, data.mT)
    plan = fewer.standard("dpmpp-2m", model, nfe=steps // 2)
    fewer.apply(plan, pipe)
    theirs = pipe(data, noise, steps)[0]
    fewer.unapply(pipe)
    assert same(fewer.sample(model, plan, noise=noise.mT, labels=[0, 1]), theirs.detach())
