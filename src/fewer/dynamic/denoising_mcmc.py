"""Denoising MCMC: Markov chains that walk over data and noise level together, and short denoising of where they are.

On X = D + s eps a network knows grad log p_s(X) for every level. With a prior pi(s) over levels the pair (X, s) has the density
pi(s) p_s(X), which a chain samples by turns: Langevin steps of X at its own s, and a draw of s given X. At large s the chain goes
from mode to mode, at small s it lies by the data, and a sample costs a few steps along the chain and a few to denoise, in place of
a run from pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from fewer.errors import InputError, NotFinite, whole
from fewer.levels import tau_of_s
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.noise import Draw, Stream, drawn, uniform_noise, unit_noise
from fewer.registry import part
from fewer.settings import positive

LevelLogits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Chained:
    """What chains gave.

    x            (chains, draws, *shape) samples, those of a chain in the order of its steps
    levels       (chains, draws) s at which each was taken from the chain
    evaluations  network evaluations of a sample, all of the chain's and those before the first sample counted, on average
    """

    x: Tensor
    levels: Tensor
    evaluations: float


def exact_levels(mixture: GaussianMixture, levels: Tensor, prior: Tensor | None = None) -> LevelLogits:
    """Logits of p(s | X) ~ pi(s) p_s(X) over `levels` (L,) of s, for a mixture; the prior is uniform unless given (L,)."""
    logs = torch.zeros(len(levels)) if prior is None else prior.log()
    d = math.prod(mixture.shape)

    def logits(x: Tensor) -> Tensor:
        # the density of X = (1 + s) x~ is that of x~ over (1 + s)^d
        each = [mixture.log_prob(x / (1 + s), tau_of_s(float(s))) - d * math.log1p(float(s)) for s in levels]
        return torch.stack(each, 1) + logs.to(x)

    return logits


@part(
    "denoising-mcmc",
    title="Denoising Langevin Gibbs: chains over data and noise level, denoised by a few steps",
    source="Kim & Ye 2023, Denoising MCMC for Accelerating Diffusion-Based Generative Models, arXiv:2209.14593",
    papers=(243,),
    role="procedure",
)
def denoising_mcmc(
    model: Model,
    levels: Tensor,
    logits: LevelLogits,
    chains: int,
    draws: int,
    *,
    skip: int = 10,
    warm_up: int = 50,
    size: float = 0.5,
    denoise: int = 4,
    seed: int = 0,
    label: int | None = None,
) -> Chained:
    """`draws` samples of each of so many chains of

        X <- X + size s^2 / 2 grad log p_s(X) + s sqrt(size) z,    s ~ softmax(logits(X))

    one taken every `skip` steps after `warm_up`, and denoised from its s by DDIM in at most `denoise` rows: the levels of equal
    log s between the largest and the smallest that lie below s, with one row more to 0. So a chain at low noise costs less.

    levels   (L,) rising s > 0, the classes of `logits`: of (n, *shape) states X their logits (n, L), as of a classifier of noise
             levels or `exact_levels`; the prior is the one that it was trained with (log-uniform in the paper)
    size     of the Langevin step in units of s^2
    label    of all samples, where the model has classes

    Chains start at the largest level from noise; chain i of a seed is the same in any number of them. The network is called once
    for every level that chains are at, with those chains. Samples of a chain are correlated: count them as fewer. Raises
    InputError for numbers out of range and logits of another shape.
    """
    _check(levels, {"chains": chains, "draws": draws, "skip": skip, "denoise": denoise}, warm_up, size)
    numbers, shape = Stream.SAMPLES.numbers(chains), tuple(model.shape)
    label_of = None if model.classes is None or label is None else torch.tensor(label)

    def data(x: Tensor, s: float) -> Tensor:
        y = None if label_of is None else model.labels(len(x), label_of)
        state, tau = x / (1 + s), tau_of_s(s)
        return state - tau * model.velocity(state, tau, y)

    rungs = torch.logspace(math.log10(float(levels[-1])), math.log10(float(levels[0])), denoise, dtype=torch.float64)
    at = torch.full((chains,), len(levels) - 1)
    found, where, calls = [], [], 0
    with torch.inference_mode():
        x = float(levels[-1]) * unit_noise(seed, numbers, shape, Draw.START(), model.device)
        for k in range(warm_up + skip * draws):
            z = unit_noise(seed, numbers, shape, Draw.MOVE(k), model.device)
            x = _langevin(x, z, levels, at, size, data)
            calls += chains
            at = _drawn(logits(x), uniform_noise(seed, numbers, (), Draw.CHANCE(k)), len(levels))
            if k >= warm_up and (k - warm_up + 1) % skip == 0:
                done, rows = _denoised(x, levels, at, rungs.tolist(), data)
                found.append(done)
                where.append(levels[at])
                calls += rows
    samples = torch.stack(found, 1)
    if not bool(samples.isfinite().all()):
        raise NotFinite(f"chains of {model.name} left the finite numbers: take a smaller size than {size:g}")
    return Chained(samples, torch.stack(where, 1), calls / (chains * draws))


def _check(levels: Tensor, counts: dict[str, int], warm_up: int, size: float) -> None:
    for name, value in counts.items():
        whole(name, value)
    whole("warm_up", warm_up, 0)
    positive("size", size)
    if levels.ndim != 1 or len(levels) < 2 or not bool((levels > 0).all() & (levels.diff() > 0).all()):
        raise InputError("levels must be at least two rising positive numbers s")


def _langevin(
    x: Tensor, z: Tensor, levels: Tensor, at: Tensor, size: float, data: Callable[[Tensor, float], Tensor]
) -> Tensor:
    """X + size / 2 (D - X) + s sqrt(size) z: s^2 times the score is D - X."""
    moved = torch.empty_like(x)
    for level in at.unique().tolist():
        here, s = at == level, float(levels[level])
        moved[here] = x[here] + size / 2 * (data(x[here], s) - x[here]) + s * math.sqrt(size) * z[here]
    return moved


def _drawn(logits: Tensor, u: Tensor, count: int) -> Tensor:
    """A level (n,) of each state by its logits (n, L), at uniform numbers (n,)."""
    if logits.shape != (len(u), count):
        raise InputError(f"logits of levels are of shape {tuple(logits.shape)}; expected {(len(u), count)}")
    return drawn(torch.softmax(logits.double().cpu(), 1), u)


def _denoised(
    x: Tensor, levels: Tensor, at: Tensor, rungs: list[float], data: Callable[[Tensor, float], Tensor]
) -> tuple[Tensor, int]:
    """Data (n, *shape) of states by DDIM along the rungs below each state's level, and the evaluations of all."""
    done, calls = torch.empty_like(x), 0
    for level in at.unique().tolist():
        here, s = at == level, float(levels[level])
        state, path = x[here], [s, *(rung for rung in rungs if rung < s * (1 - 1e-9)), 0.0]
        for now, then in pairwise(path):
            mean = data(state, now)
            state = mean + then / now * (state - mean)
            calls += len(state)
        done[here] = state
    return done, calls
