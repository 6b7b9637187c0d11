"""A chain of a corrector's steps on one law: how a corrector is a sampler, of a posterior or of a model's level."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewer.dynamic import Corrector, Law, score_of
from fewer.errors import InputError, whole
from fewer.models.model import Model
from fewer.noise import Draw, Stream, unit_noise


@dataclass(frozen=True)
class Chain:
    """States (kept, n, *shape) after every `every` steps, the share of steps that each of n chains took, calls a chain."""

    x: Tensor
    accepted: Tensor
    calls: int


def level_law(model: Model, tau: float, labels: Tensor | None = None) -> Law:
    """The law of a model's states at a level tau in (0, 1), with its density where the model is an exact mixture."""
    if not 0 < tau < 1:
        raise InputError(f"tau is {tau}; expected a level in (0, 1)")
    exact = model.exact

    def score(x: Tensor) -> Tensor:
        return score_of(x, model.velocity(x, tau, labels), tau)

    return Law(tau, score, None if exact is None else lambda x: exact.log_prob(x, tau, labels))


def chain(
    law: Law, corrector: Corrector, x: Tensor, steps: int, *, every: int = 1, seed: int = 0, first_sample: int = 0
) -> Chain:
    """Chains of so many steps from states x (n, *shape), each with noise of its own whatever the others.

    law  of a model's level (`level_law`), or any: of tau = 1 steps are in the units of x
    Raises InputError for counts below 1.
    """
    whole("steps", steps)
    whole("every", every)
    numbers, kept, taken = Stream.SAMPLES.numbers(len(x), first_sample), [], torch.zeros(len(x), dtype=torch.float64)
    score: Tensor | None = None
    calls = 0

    def counted(at: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return law.score(at)

    own = replace(law, score=counted)
    for k in range(steps):
        score = own.score(x) if score is None else score
        noise = unit_noise(seed, numbers, x.shape[1:], Draw.MOVE(k), x.device).to(x)
        log_u = torch.special.log_ndtr(unit_noise(seed, numbers, (), Draw.CHANCE(k), x.device).double())
        moved = corrector.move(own, x, score, noise, log_u)
        x, score, taken = moved.x, moved.score, taken + moved.accepted.cpu()
        if (k + 1) % every == 0:
            kept.append(x)
    return Chain(torch.stack(kept) if kept else x[None][:0], taken / steps, calls)
