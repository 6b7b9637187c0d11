"""Parisian particle Gibbs: smoothing of a series by particles, again and again around a path that each sweep renews.

Of a Markov chain x_0 .. x_T with weights g_t(x_t) the smoothing law is prod_t m_t(x_{t-1}, x_t) g_t(x_t), normalised: the states
of a series given observations, or the states of a sampler given what is wanted of them. Particles estimate means of sums
h = sum_t h_t(x_{t-1}, x_t) under it. One run has a bias of 1 / N. A sweep that keeps one particle on a path drawn from the
smoothing law, and draws a new path at its end, leaves the law of that path as it is: the bias of its means falls geometrically
with sweeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.registry import part

Additive = Callable[[int, Tensor | None, Tensor], Tensor]


class StateSpace(Protocol):
    """A Markov chain with weights; states are (.., d) tensors, and noise comes from the generator."""

    def initial(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws (*shape, d) of x_0."""

    def move(self, x: Tensor, t: int, generator: torch.Generator) -> Tensor:
        """A draw of x_t given x_{t-1} = x, of its shape."""

    def log_move(self, before: Tensor, x: Tensor, t: int) -> Tensor:
        """log m_t(x_{t-1}, x_t), (..) of states (.., d) that broadcast, up to a constant."""

    def log_weight(self, x: Tensor, t: int) -> Tensor:
        """log g_t (..) of x_t (.., d)."""


@dataclass(frozen=True)
class Smoothed:
    """What independent runs estimate.

    estimate  (runs,) mean of h, over the sweeps after the burn-in
    sweeps    (sweeps + 1, runs) of each sweep, the first without a kept path: PaRIS
    paths     (runs, T + 1, d) the paths that the last sweep drew
    """

    estimate: Tensor
    sweeps: Tensor
    paths: Tensor


@part(
    "particle-gibbs",
    title="Parisian particle Gibbs: additive smoothing around a kept path, with backward draws",
    source="Cardoso et al. 2023, State and parameter learning with PaRIS particle Gibbs, arXiv:2301.00900; Olsson & Westerborn "
    "2017, PaRIS, arXiv:1412.7550",
    papers=(225,),
    role="procedure",
)
def particle_gibbs(
    model: StateSpace,
    h: Additive,
    last: int,
    particles: int,
    sweeps: int,
    *,
    burn_in: int = 0,
    backward: int = 2,
    runs: int = 1,
    seed: int = 0,
) -> Smoothed:
    """Estimates of E[sum_t h_t] under the smoothing law of x_0 .. x_last.

    h          h(t, x_{t-1}, x_t) -> (..) of states (.., d) that broadcast; x_{t-1} is None at t = 0
    particles  N, at least 2, of which a sweep keeps one on the path of the sweep before
    sweeps     after a first one without a path; means are over those beyond `burn_in`
    backward   draws K >= 1 of an ancestor for each particle, with probability ~ w_{t-1}^j m_t(x_{t-1}^j, x_t^i):
               tau_t^i = mean_k (tau_{t-1}^{J_k} + h_t(x_{t-1}^{J_k}, x_t^i))
    runs       independent of each other, side by side

    Costs (sweeps + 1) last N moves and N^2 densities of moves a run. Raises InputError for counts out of range.
    """
    for name, value, least in (
        ("last", last, 1), ("particles", particles, 2), ("sweeps", sweeps, 0), ("burn_in", burn_in, 0),
        ("backward", backward, 1), ("runs", runs, 1),
    ):  # fmt: skip
        whole(name, value, least)
    if burn_in > 0 and burn_in >= sweeps:
        raise InputError(f"burn_in is {burn_in}; expected fewer than the {sweeps} sweeps")
    generator = torch.Generator().manual_seed(seed)
    found, paths = [], None
    for _ in range(sweeps + 1):
        mean, paths = sweep(model, h, last, (runs, particles), backward, generator, paths)
        found.append(mean)
    each = torch.stack(found)
    assert paths is not None
    return Smoothed(each[1 + burn_in :].mean(0) if sweeps else each[0], each, paths)


def sweep(
    model: StateSpace, h: Additive, last: int, shape: tuple[int, int], backward: int, generator: torch.Generator,
    kept: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Means of h (runs,) and a path (runs, last + 1, d) of each, by (runs, N) particles, one of them on the path `kept`."""
    x = _with(model.initial(shape, generator), kept, 0)
    log_w, tau, paths = model.log_weight(x, 0), h(0, None, x), x[:, :, None]
    for t in range(1, last + 1):
        new = _with(model.move(_at(x, _drawn(log_w, 1, generator)[..., 0]), t, generator), kept, t)
        back = log_w[:, None] + model.log_move(x[:, None], new[:, :, None], t)  # (runs, N new, N old)
        ancestors = _drawn(back, backward, generator, each=True)  # (runs, N, K)
        before = torch.stack([_at(x, j) for j in ancestors.unbind(-1)], 2)
        sums = torch.stack([tau.gather(1, j) for j in ancestors.unbind(-1)], 2)
        tau = (sums + h(t, before, new[:, :, None])).mean(2)
        paths = torch.cat([_at(paths, ancestors[..., 0]), new[:, :, None]], 2)
        x, log_w = new, model.log_weight(new, t)
    weights = torch.softmax(log_w, 1)
    chosen = torch.multinomial(weights, 1, generator=generator)
    return (weights * tau).sum(1), _at(paths, chosen)[:, 0]


def _with(x: Tensor, kept: Tensor | None, t: int) -> Tensor:
    """Particles (runs, N, d) with the last on the kept path."""
    return x if kept is None else torch.cat([x[:, :-1], kept[:, None, t]], 1)


def _at(x: Tensor, index: Tensor) -> Tensor:
    """x (runs, N, ..) at the particles `index` (runs, M) of each run."""
    return x[torch.arange(len(x))[:, None], index]


def _drawn(logits: Tensor, count: int, generator: torch.Generator, each: bool = False) -> Tensor:
    """Particles (runs, N, count) by their logits (runs, N), for each new one by its own (runs, N, N) where `each`."""
    n = logits.shape[-1]
    p = torch.softmax(logits, -1)
    if not each:
        return torch.multinomial(p, n * count, replacement=True, generator=generator).view(len(p), n, count)
    return torch.multinomial(p.flatten(0, 1), count, replacement=True, generator=generator).view(*p.shape[:2], count)
