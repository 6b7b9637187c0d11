"""A bundled transformer in diffusers' own DiTPipeline, and under cache-dit.

DiTPipeline is written for latents and for schedulers that scale their input. For digits in pixels from a flow it is
given a decoder that changes nothing, and the scheduler the method that it lacks.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from fewer.models.model import Model


class Pixels(ModelMixin, ConfigMixin):
    """A decoder of images that are their own latents."""

    @register_to_config
    def __init__(self, scaling_factor: float = 1.0):
        super().__init__()
        self.register_buffer("one", torch.ones(()))  # by which a pipeline sees on which device it is

    def decode(self, latents: Tensor) -> DecoderOutput:
        """What was given."""
        return DecoderOutput(latents)


class FlowMatchEuler(diffusers.FlowMatchEulerDiscreteScheduler):
    """diffusers' scheduler of flows with the method that DiTPipeline calls first."""

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The sample: a flow's network takes it as it is."""
        return sample


SCHEDULERS = {
    "Euler (its own)": FlowMatchEuler,
    "UniPC-2": lambda: diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
}


@dataclass(frozen=True)
class Cache:
    """A setting of cache-dit's DBCache; the others stay as they are.

    threshold  relative change of the first block's residual below which the blocks after it are not run: by default 0.08
    warmup     first steps, in which all run: by default 8
    taylor     whether what they would have added is extrapolated (TaylorSeer of order 1) or taken from the last run
    """

    threshold: float
    warmup: int
    taylor: bool

    def __str__(self) -> str:
        return f"threshold {self.threshold:g}, warm-up {self.warmup}{', TaylorSeer' if self.taylor else ''}"


def cache_dit() -> Any:
    """The library; ImportError where it is not installed."""
    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")  # else it tells of every pipeline that it is put into
    import cache_dit as library

    return library


def pipeline(network: nn.Module, scheduler: Any) -> Any:
    """A DiTPipeline of its own class: cache-dit changes the class of a pipeline that it is put into."""
    kind = type("DiTPipeline", (diffusers.DiTPipeline,), {})
    pipe = kind(network, Pixels().to(network.device), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def cached(network: nn.Module, scheduler: Any, cache: Cache) -> Any:
    """A pipeline of a copy of the network, under cache-dit.

    One block decides, not eight as by default: the library asks for fewer than the network has.
    """
    library = cache_dit()
    config = library.DBCacheConfig(
        Fn_compute_blocks=1, residual_diff_threshold=cache.threshold, max_warmup_steps=cache.warmup
    )
    taylor = library.TaylorSeerCalibratorConfig(taylorseer_order=1) if cache.taylor else None
    pipe = pipeline(copy.deepcopy(network), scheduler)
    return library.enable_cache(pipe, cache_config=config, calibrator_config=taylor)


def images(pipe: Any, steps: int, labels: list[int], seed: int) -> Tensor:
    """What the pipeline makes of these labels, unguided, (n, C, H, W) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same noise on every device
    made = pipe(labels, guidance_scale=1.0, generator=generator, num_inference_steps=steps, output_type="pt").images
    return 2 * made - 1


def noise_of(model: Model, n: int, seed: int) -> Tensor:
    """The noise (n, *shape) that the pipeline starts from."""
    return randn_tensor((n, *model.shape), torch.Generator().manual_seed(seed), model.device, model.dtype)


@contextmanager
def blocks_run(network: nn.Module) -> Iterator[list[int]]:
    """A list of one number, which counts the calls of the network's blocks meanwhile."""
    count = [0]

    def add(*_: object) -> None:
        count[0] += 1

    handles = [block.register_forward_hook(add) for block in network.transformer_blocks]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()
