"""Feynman-Kac correctors: particles with weights that sample products and powers of models' distributions.

In s = sigma / alpha a model's density p_s of X = x / alpha obeys d log p / d(s^2) = (lap log p + |grad log p|^2) / 2.
For the target q_s ~ prod_i p_i,s^w_i with v = sum_i w_i grad log p_i, the diffusion that runs s down by

    X' = X + (s^2 - s'^2) v + sqrt(s^2 - s'^2) z

carries q_s to q_s' but for the terms |v|^2 - sum_i w_i |grad log p_i|^2 of that equation, which a particle's weight
takes up:

    log W' = log W + (s^2 - s'^2) (|v|^2 - sum_i w_i |grad log p_i|^2) / 2

Guidance at scale w is the pair (label, w), (empty, 1 - w), for which the bracket is w (w - 1) |grad log p(label | x)|^2:
without the weights its samples are not of p(x | label)^w p(x)^(1 - w).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.batch import inner
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError, whole
from fewer.levels import s_of_tau, tau_of_s
from fewer.models.denoiser import SAFE_START
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber, unit_noise
from fewer.registry import part


@dataclass(frozen=True)
class Expert:
    """A factor p(x | label)^weight of the target; label None draws no class, for models without classes."""

    model: Model
    weight: float = 1.0
    label: int | None = None


@dataclass(frozen=True)
class Particles:
    """Data x (n, *shape) with normalised weights (n,); their mean of f(x) is that of the target as n grows.

    `effective` is the effective sample size 1 / sum W^2 after each step and before resampling, `resampled` how often
    that was done, `evaluations` the network evaluations a particle.
    """

    x: Tensor
    weights: Tensor
    effective: tuple[float, ...]
    resampled: int
    evaluations: int


def guidance_experts(model: Model, label: int, scale: float) -> list[Expert]:
    """p(x | label)^scale p(x)^(1 - scale). Raises InputError for models without an empty label."""
    if model.empty_label is None:
        raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
    return [Expert(model, scale, label), Expert(model, 1 - scale, model.empty_label)]


@part(
    "feynman-kac",
    title="Feynman-Kac correctors: weighted particles for guidance, annealing and products",
    source="Skreta et al. 2025, Feynman-Kac Correctors in Diffusion, arXiv:2503.02819",
    papers=(218,),
    role="procedure",
)
def feynman_kac(
    experts: Sequence[Expert],
    n: int,
    *,
    seed: int = 0,
    steps: int = 200,
    threshold: float = 0.5,
    start: float | None = None,
    end: float | None = None,
    batch: int = MICRO_BATCH,
) -> Particles:
    """Samples prod_i p_i^w_i by n particles that share weights: independent populations are further calls.

    steps       between the levels, at equal ratios of s
    threshold   systematic resampling where the effective sample size falls below this share of n; 0 for never
    start, end  levels tau; by default the lowest start and the highest last level of the models, s at most 64
    batch       particles per network call

    The last state is denoised by v. Raises InputError for models of different shapes, weights whose sum is not positive
    (the target then has no normal law at the start), and numbers out of range.
    """
    start, end = _checked(experts, n, steps, threshold, start, end, batch)
    first, last = s_of_tau(start), s_of_tau(end)
    levels = [first * (last / first) ** (k / steps) for k in range(steps + 1)]
    device, total = experts[0].model.device, sum(each.weight for each in experts)
    log_weights = torch.zeros(n, dtype=torch.float64, device=device)
    effective, resampled = [], 0
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        x = first / math.sqrt(total) * _noise(experts[0].model, n, seed, Draw.START())
        for k in range(steps):
            c = levels[k] ** 2 - levels[k + 1] ** 2
            v, rate = _corrector(experts, x, levels[k], batch)
            x = x + c * v + math.sqrt(c) * _noise(experts[0].model, n, seed, Draw.ROW(k))
            log_weights = log_weights + c * rate / 2  # the corrector's weights, as in the head of this file
            weights = torch.softmax(log_weights, 0)
            effective.append(float(1 / weights.square().sum()))
            if effective[-1] < threshold * n:
                x, log_weights = x[_systematic(weights, generator)], torch.zeros_like(log_weights)
                resampled += 1
        v, _ = _corrector(experts, x, last, batch)
    if not bool(x.isfinite().all() & log_weights.isfinite().all()):
        raise InputError("the particles left the finite numbers: take more steps")
    evaluations = len(experts) * (steps + 1)
    return Particles(x + last**2 * v, torch.softmax(log_weights, 0), tuple(effective), resampled, evaluations)


def _checked(
    experts: Sequence[Expert], n: int, steps: int, threshold: float, start: float | None, end: float | None, batch: int
) -> tuple[float, float]:
    """The start and the end level, once all arguments are checked."""
    shapes = {tuple(each.model.shape) for each in experts}
    if len(shapes) != 1:
        raise InputError(f"experts have samples of shapes {sorted(shapes)}; expected one")
    total = sum(each.weight for each in experts)
    if not (math.isfinite(total) and total > 0):
        raise InputError(f"the experts' weights sum to {total:g}; expected a positive number")
    for name, value in {"n": n, "steps": steps, "batch": batch}.items():
        whole(name, value)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; expected a share in [0, 1]")
    safe = tau_of_s(SAFE_START)
    start = min(safe, *(each.model.start for each in experts)) if start is None else start
    end = max(each.model.schedule.tau_min for each in experts) if end is None else end
    if not 0 < end < start < 1:
        raise InputError(f"levels are start {start} and end {end}; expected 0 < end < start < 1")
    return start, end


def _noise(model: Model, n: int, seed: int, draw: DrawNumber) -> Tensor:
    return unit_noise(seed, range(n), model.shape, draw, model.device)


def _corrector(experts: Sequence[Expert], x: Tensor, s: float, batch: int) -> tuple[Tensor, Tensor]:
    """The drift v (n, *shape) and the rate |v|^2 - sum_i w_i |grad log p_i|^2 (n,) of the log-weights, float64, at X = x.

    The squares are taken of scores less their weighted mean a, since they cancel: with r_i = grad log p_i - a the
    bracket is (W^2 - W) |a|^2 - sum_i w_i |r_i|^2, W the sum of the weights.
    """
    total = sum(each.weight for each in experts)
    scores = [_score(each, x, s, batch) for each in experts]
    v = sum((each.weight * score for each, score in zip(experts, scores, strict=True)), torch.zeros_like(x))
    a = v / total
    rate = (total**2 - total) * inner(a, a).flatten()
    for each, score in zip(experts, scores, strict=True):
        rate = rate - each.weight * inner(score - a, score - a).flatten()
    return v, rate


def _score(expert: Expert, x: Tensor, s: float, batch: int) -> Tensor:
    """grad log p (n, *shape) = (D - X) / s^2 of an expert."""
    model, state, tau = expert.model, x / (1 + s), tau_of_s(s)
    labels = None if model.classes is None or expert.label is None else model.labels(len(x), expert.label)
    parts = [slice(at, at + batch) for at in range(0, len(x), batch)]
    u = torch.cat([model.velocity(state[part], tau, None if labels is None else labels[part]) for part in parts])
    return (state - tau * u - x) / s**2


def _systematic(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices (n,) of a resampling with one uniform number: particle i is taken n W_i times, rounded down or up."""
    n = len(weights)
    places = (torch.arange(n, dtype=torch.float64) + torch.rand((), dtype=torch.float64, generator=generator)) / n
    return torch.searchsorted(weights.cumsum(0).cpu(), places).clamp_max(n - 1).to(weights.device)
