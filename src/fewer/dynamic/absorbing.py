"""Absorbing discrete diffusion by a network without a time, which is called only where a token changes.

A place is masked at t with probability lambda(t), rising from 0 to 1, whatever the others. With lambda = 1 - exp(-sigma-bar) the
concrete score, the ratio of the law p_t at a sequence whose masked place i is v to that at the sequence as it is, is

    p_t(x with x_i = v) / p_t(x) = (1 - lambda) / lambda  p(x_i = v | the known tokens of x)

whose second factor has no time in it. So an output stands until a token changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.models.masked import MaskedDenoiser
from fewer.noise import drawn, uniform_noise
from fewer.registry import part


@dataclass(frozen=True)
class Unmasked:
    """Sequences `tokens` (n, L), and network `evaluations` (n,) of each."""

    tokens: Tensor
    evaluations: Tensor


def uniform_levels(steps: int) -> list[float]:
    """Shares of masked places from 1 to 0 in equal steps: the paper's log-linear schedule at equal times."""
    whole("steps", steps)
    return [1 - k / steps for k in range(steps + 1)]


@part(
    "absorbing-cache",
    title="Masked discrete diffusion that calls its network only where a token changes",
    source="Ou et al. 2024, Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data, "
    "arXiv:2406.03736",
    papers=(241,),
    role="procedure",
)
def sample_masked(
    model: MaskedDenoiser, n: int = 64, *, levels: Sequence[float], seed: int = 0, reuse: bool = True, first_sample: int = 0
) -> Unmasked:  # fmt: skip
    """n sequences, by steps from a level lambda to lambda' < lambda in each of which a masked place is unmasked with probability

        (lambda - lambda') / lambda,

    independently, and then drawn from p(x_i | the known tokens): the factorised reverse step (Tweedie tau-leaping). Places
    that are unmasked in one step do not see each other, which is the only error.

    levels  shares of masked places from 1 to 0, such as `uniform_levels(steps)`; one step between neighbours
    reuse   call the network only in steps in which a place of the sequence is unmasked. The samples are the same: when a place is
            unmasked does not depend on the network. `expected_evaluations` says how many calls are left.

    Sample i of a seed has the same draws in any batch and number of steps. Raises InputError for levels that do not fall
    from 1 to 0.
    """
    whole("n", n)
    _check(levels)
    numbers = range(first_sample, first_sample + n)
    uniform = uniform_noise(seed, numbers, (2, model.length))
    when, which = uniform[:, 0], uniform[:, 1]  # the level at which a place is unmasked, and the quantile of its token
    tokens, evaluations = model.masked(n), torch.zeros(n, dtype=torch.int64)
    with torch.inference_mode():
        for there in levels[1:]:
            open_now = (tokens == model.mask) & ((when >= there) | (there == 0))
            called = open_now.any(1) if reuse else torch.ones(n, dtype=torch.bool)
            evaluations += called
            if bool(called.any()):
                found = drawn(model(tokens[called]), which[called])
                tokens[called] = torch.where(open_now[called], found, tokens[called])
    return Unmasked(tokens, evaluations)


def expected_evaluations(length: int, levels: Sequence[float]) -> float:
    """Mean calls of a sequence with reuse, sum_k 1 - (1 - (lambda_k - lambda_{k+1}))^L: at most L, and at most the steps."""
    _check(levels)
    return sum(1 - (1 - (here - there)) ** length for here, there in pairwise(levels))


def concrete_score(model: MaskedDenoiser, tokens: Tensor, level: float) -> Tensor:
    """p_t(x with x_i = v) / p_t(x) (n, L, V) at the masked places of sequences (n, L), 0 elsewhere.

    level  lambda in (0, 1], the probability that a place is masked
    """
    if not 0 < level <= 1:
        raise InputError(f"level is {level!r}; expected a share in (0, 1]")
    return (1 - level) / level * model(tokens) * (tokens == model.mask)[..., None]


def masked_nll(model: MaskedDenoiser, tokens: Tensor, masked: Tensor) -> Tensor:
    """-sum_{i masked} log p(x_i | the others) (n,) in nats of sequences (n, L) with places masked (n, L): one call.

    Divided by the level lambda, uniform in (0, 1), at which places were masked independently, its mean is the diffusion model's
    upper bound on -log p(x), and the mean of `any_order_nll` over all orders.
    """
    given = model(torch.where(masked, model.mask, tokens)).gather(2, tokens[..., None])[..., 0]
    return -(given.log() * masked).masked_fill(~masked, 0.0).sum(1)


def any_order_nll(model: MaskedDenoiser, tokens: Tensor, order: Tensor) -> Tensor:
    """-sum_l log p(x_{order l} | the tokens earlier in the order) (n,) in nats of sequences (n, L) by an order (L,): L calls."""
    if sorted(order.tolist()) != list(range(model.length)):
        raise InputError(f"order is {order.tolist()}; expected every place 0 .. {model.length - 1} once")
    masked, total = torch.ones_like(tokens, dtype=torch.bool), torch.zeros(len(tokens), dtype=torch.float64)
    for place in order.tolist():
        given = model(torch.where(masked, model.mask, tokens))[:, place]
        total -= given.gather(1, tokens[:, place, None])[:, 0].log()
        masked[:, place] = False
    return total


def _check(levels: Sequence[float]) -> None:
    falls = len(levels) > 1 and all(here > there for here, there in pairwise(levels))
    if not falls or not all(map(math.isfinite, levels)) or (levels[0], levels[-1]) != (1, 0):
        raise InputError("levels must be shares of masked places that fall from 1 to 0: see uniform_levels(steps)")
