"""CADS: the label comes in out of noise, so that at the noisiest levels guidance does not yet pull all samples alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.guidance.passes import Passes
from fewer.guidance.rule import TwoPasses, guided
from fewer.registry import part

EMBEDDINGS = ("class_embedding", "class_embedder.embedding_table")  # of diffusers' UNet2DModel, DiTTransformer2DModel


@part(
    "cads",
    title="CADS: classifier-free guidance by a condition that is annealed from noise",
    source="Sadat et al. 2023, CADS: Condition-Annealed Sampling, arXiv:2310.17347",
    papers=(107,),
)
@dataclass(frozen=True)
class ConditionAnnealed(TwoPasses):
    """F = F(empty) + scale (F(y') - F(empty)), with the label's embedding y (d,) replaced by a noisy y':

        y^ = sqrt(gamma) y + noise std(y) sqrt(1 - gamma) n        gamma = 1 at levels up to `low`, 0 from `high` on
        y' = mix ((y^ - mean y^) / std y^ std y + mean y) + (1 - mix) y^

    low, high  levels tau in [0, 1] between which gamma is linear; the paper's tau_1, tau_2 are times of its process
    noise      its s, here in units of the standard deviation of y over its d entries; at least 0
    mix        its psi in [0, 1]: 1 restores mean and standard deviation of y, 0 leaves them to the noise

    n is fresh unit noise of the row and the sample, one for all embeddings of a network that has several (DiT has one in
    each block). The empty label stays as it is. The network is as it was after the call.

    Raises InputError for levels in the wrong order, networks without an embedding of labels that can be reached (exact
    mixtures, functions), and where nothing draws noise (plays other than `fewer.sample`).
    """

    low: float = 0.5
    high: float = 0.9
    noise: float = 1.0
    mix: float = 1.0
    rule: ClassVar[str] = "cads"
    draws: ClassVar[bool] = True
    ranges: ClassVar = {"low": (0, 1), "high": (0, 1), "noise": (0, math.inf), "mix": (0, 1)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low >= self.high:
            raise InputError(f"guidance low is {self.low!r}; expected a level below high, {self.high!r}")

    def kept(self, tau: float) -> float:
        """The share gamma of the label at a level."""
        return min(max((self.high - tau) / (self.high - self.low), 0.0), 1.0)

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        with embeddings_changed(passes, lambda y, n: self.annealed(y, n, self.kept(float(passes.tau)))):
            with_label, without = passes.networks(*self.conditions)
        return passes.u(guided(without, with_label, self.scale))

    def annealed(self, y: Tensor, n: Tensor, gamma: float) -> Tensor:
        """y' (N, d) of embeddings y (N, d) and unit noise n (N, d); y itself, to the bit, where gamma is 1."""
        if gamma == 1:
            return y
        mean, std = y.mean(1, keepdim=True), y.std(1, keepdim=True)
        noisy = gamma**0.5 * y + self.noise * (1 - gamma) ** 0.5 * std * n
        # without noise and label nothing varies: the mean is what is left
        spread = noisy.std(1, keepdim=True).clamp_min(torch.finfo(y.dtype).tiny)
        restored = (noisy - noisy.mean(1, keepdim=True)) / spread * std + mean
        return self.mix * restored + (1 - self.mix) * noisy


@contextmanager
def embeddings_changed(passes: Passes, change: Any) -> Iterator[None]:
    """A context in which the network embeds the labels of the first pass as change(y, n), n the row's noise of y's size."""
    modules = embeddings(passes.module)
    if not modules:
        raise InputError(
            "cads needs a network that embeds its labels: a diffusers UNet2DModel or DiTTransformer2DModel"
        )
    if passes.fresh is None:
        raise InputError("cads draws noise in its rows: play the plan by fewer.sample")
    fresh, samples, ran = passes.fresh, len(passes.x), list[nn.Module]()

    def hook(module: nn.Module, args: tuple[Any, ...], embedded: Tensor) -> Tensor:
        ran.append(module)
        label, rest = embedded[:samples], embedded[samples:]
        return torch.cat([change(label, fresh(label.shape[1:]).to(label)), rest])

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise InputError("cads cannot be used with this network: its passes do not run the embedding of its labels")


def embeddings(network: nn.Module | None) -> list[nn.Module]:
    """The modules that give the vector (n, d) of labels (n,)."""
    return [] if network is None else [module for name, module in network.named_modules() if name.endswith(EMBEDDINGS)]
