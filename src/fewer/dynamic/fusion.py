"""Divide-and-conquer fusion: draws of a product of laws from draws of each factor, exact but for the number of particles.

Of factors f_c, draws x_c of each are joined to the path of a Brownian motion that all of them end in at time T. With L_c the
covariance of a unit of time of factor c, L = (sum_c L_c^-1)^-1 and the middle m(x) = L sum_c L_c^-1 x_c, particles x = (x_c) begin
with the weight

    exp(-sum_c (x_c - m)' L_c^-1 (x_c - m) / (2 T))

go from time s to t by the motion that is to meet at T,

    x_c' = x_c + (t - s) / (T - s) (m(x) - x_c) + ((t - s) / sqrt(T - s)) L^(1/2) z + sqrt((t - s) (T - t) / (T - s)) L_c^(1/2) z_c,

and are weighted by prod_c E exp(-int phi_c(X) dt) over the Brownian bridges X between, where

    phi_c = (grad log f_c' L_c grad log f_c + tr(L_c grad^2 log f_c)) / 2.

At T all x_c are one point, whose law is that of prod_c f_c. The expectation is replaced by an unbiased estimate (`bridge_weights`),
so that nothing but the number of particles keeps the law from being exact. Factors are fused in pairs, the products of these in
pairs again, and so on up a tree: what two differ by is little beside what many do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fewer.dynamic.brownian_layers import bridge_values, drawn_layers
from fewer.errors import InputError, whole
from fewer.registry import part
from fewer.settings import positive, share

_DISPERSION = 10  # of the numbers of times that a weight's estimate looks at, as whole exponential draws


class Slopes(NamedTuple):
    """Of log f, the gradient (.., d) and the second derivatives along the axes (.., d)."""

    first: Tensor
    second: Tensor


class Factor(Protocol):
    """A law on R^d, up to a constant, whose log density has two derivatives that are bounded on every box."""

    def slopes(self, x: Tensor) -> Slopes:
        """The derivatives of log f at x (.., d)."""

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Slopes, Slopes]:
        """Numbers (.., d) that the derivatives are at least, and at most, on boxes (.., d)."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture with diagonal covariances as a factor.

    weights    (K,), positive
    means      (K, d)
    variances  (K, d), positive
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def slopes(self, x: Tensor) -> Slopes:
        """By the components' shares at x: the mean of s_k = (m_k - x) / v_k, and that of s_k^2 - 1 / v_k less its square."""
        away = (x[..., None, :] - self.means) ** 2 / self.variances
        shares = torch.softmax(self.weights.log() - (away + self.variances.log()).sum(-1) / 2, -1)[..., None]
        each = (self.means - x[..., None, :]) / self.variances
        first = (shares * each).sum(-2)
        return Slopes(first, (shares * (each**2 - 1 / self.variances)).sum(-2) - first**2)

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Slopes, Slopes]:
        """Those of means over the components, whatever their shares."""
        ends = [(self.means - end[..., None, :]) / self.variances for end in (low, high)]
        least, most = ends[1].amin(-2), ends[0].amax(-2)
        small, large = _square(ends[1], ends[0])
        below, above = ((square - 1 / self.variances) for square in (small, large))
        floor, ceiling = _square(least, most)
        return Slopes(least, below.amin(-2) - ceiling), Slopes(most, above.amax(-2) - floor)


@dataclass(frozen=True, eq=False)
class Product:
    """The product of factors, as a factor."""

    factors: tuple[Factor, ...]

    def slopes(self, x: Tensor) -> Slopes:
        """Sums of the factors'."""
        return _summed([factor.slopes(x) for factor in self.factors])

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Slopes, Slopes]:
        """Sums of the factors'."""
        least, most = zip(*(factor.bounds(low, high) for factor in self.factors), strict=True)
        return _summed(least), _summed(most)


@dataclass(frozen=True)
class Fused:
    """Draws of a product.

    x     (n, d), of equal weight
    kept  of each fusion, of the smallest share of particles that its weights amounted to before they were drawn again
    """

    x: Tensor
    kept: tuple[float, ...]


@part(
    "fusion",
    title="Divide-and-conquer fusion: the product of laws from draws of each, by Brownian motions that meet",
    source="Chan, Pollock, Johansen & Roberts 2021, Divide-and-Conquer Fusion, arXiv:2110.07265",
    papers=(136,),
    role="procedure",
)
def fusion(
    factors: Sequence[Factor],
    draws: Sequence[Tensor],
    *,
    time: float = 1.0,
    steps: int = 8,
    fewest: float = 0.5,
    tree: bool = True,
    seed: int = 0,
) -> Fused:
    """Draws (n, d) of the product of factors from independent draws (n, d) of each.

    time    T > 0, at which they meet; a motion's unit of time has the diagonal covariance of a factor's draws
    steps   equal steps of time, at least 1, of each fusion
    fewest  particles are drawn again by their weights where these amount to less than this share of n, in [0, 1]
    tree    fuse pairs, and pairs of what comes out; else all factors at once

    A tree of C factors estimates the weights of 2 C - 2 bridges a particle and step. Each looks at phi about as often as phi rises
    in a box that holds the bridge, times the step's time: where that is often, take more steps.

    Raises InputError for draws that are no such tensors, fewer than two factors, and numbers out of range.
    """
    _check(factors, draws)
    positive("time", time)
    whole("steps", steps)
    share("fewest", fewest)
    generator, kept = torch.Generator().manual_seed(seed), []
    nodes = [(factor, x.double()) for factor, x in zip(factors, draws, strict=True)]
    while len(nodes) > 1:
        width = 2 if tree else len(nodes)
        groups = [nodes[at : at + width] for at in range(0, len(nodes), width)]
        nodes = []
        for group in groups:
            if len(group) > 1:
                x, least = _fused(group, time, steps, fewest, generator)
                kept.append(least)
                group = [(Product(tuple(factor for factor, _ in group)), x)]
            nodes += group
    return Fused(nodes[0][1], tuple(kept))


def _fused(
    nodes: Sequence[tuple[Factor, Tensor]], time: float, steps: int, fewest: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Draws of the product of these factors, and the smallest share that the weights amounted to."""
    x = torch.stack([draws for _, draws in nodes], 1)  # (n, C, d)
    own = x.var(0)  # L_c, (C, d)
    common = 1 / (1 / own).sum(0)
    log_w, least = -((x - _middle(x, own, common)) ** 2 / own).sum((1, 2)) / (2 * time), 1.0
    for k in range(steps):
        amount = _amount(log_w)
        least = min(least, amount)
        if amount < fewest:
            x, log_w = x[_drawn(log_w, generator)], torch.zeros_like(log_w)
        s, t = time * k / steps, time * (k + 1) / steps
        new = _moved(x, own, common, (s, t, time), generator)
        for c, (factor, _) in enumerate(nodes):
            log_w = log_w + bridge_weights(factor, x[:, c], new[:, c], t - s, own[c], generator)
        x = new
    least = min(least, _amount(log_w))
    return x[_drawn(log_w, generator), 0], least


def _middle(x: Tensor, own: Tensor, common: Tensor) -> Tensor:
    """m(x) (n, 1, d) of particles (n, C, d)."""
    return common * (x / own).sum(1, keepdim=True)


def _moved(
    x: Tensor, own: Tensor, common: Tensor, times: tuple[float, float, float], generator: torch.Generator
) -> Tensor:
    """Particles (n, C, d) of the first time at the second, by the motion that is to meet at the third."""
    s, t, end = times
    mean = x + (t - s) / (end - s) * (_middle(x, own, common) - x)
    together = torch.randn(x[:, :1].shape, dtype=torch.float64, generator=generator)
    apart = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    return (
        mean
        + (t - s) / math.sqrt(end - s) * common.sqrt() * together
        + math.sqrt((t - s) * (end - t) / (end - s)) * own.sqrt() * apart
    )


def bridge_weights(
    factor: Factor, x: Tensor, y: Tensor, span: float, covariance: Tensor, generator: torch.Generator
) -> Tensor:
    """Logs (n,) of unbiased, not negative estimates of E exp(-int phi(X) dt) over bridges from x to y (n, d) in time `span`.

    covariance  (d,), diagonal, of a unit of time

    A bridge's layer bounds phi from above by U. Of a random number k of times, each uniform, at which the bridge is then drawn,

        exp(-U span) (span^k / (k! p(k))) prod_j (U - phi(X_j))

    has the expectation, whatever the law p(k) > 0. It is negative binomial, about what k is for a straight path (the estimator
    GPE-2 of Fearnhead, Papaspiliopoulos & Roberts 2008).
    """
    root = covariance.sqrt()
    layers = drawn_layers(x / root, y / root, torch.full_like(x, span), generator)
    low, high = (root * end for end in layers.box())
    upper = _phi_at_most(factor, low, high, covariance)
    straight = torch.stack([_phi(factor, x + share * (y - x), covariance) for share in (0.0, 0.5, 1.0)], -1)
    mean = (upper - straight.clamp_max(upper[:, None]).mean(-1)).clamp_min(1e-3) * span
    waits = -torch.rand(_DISPERSION, len(x), dtype=torch.float64, generator=generator).clamp_min(1e-300).log()
    counts = torch.poisson(mean * waits.mean(0), generator=generator)
    most = int(counts.max())
    log_w = -upper * span + counts * math.log(span) - torch.lgamma(counts + 1) - _log_share(counts, mean)
    if not most:
        return log_w
    asked = torch.arange(most) < counts[:, None]
    times = torch.rand(len(x), most, dtype=torch.float64, generator=generator) * span
    times = torch.where(asked, times, span).sort(-1).values
    values = root[:, None] * bridge_values(layers, times[:, None].expand(-1, x.shape[1], -1), generator)
    left = (upper[:, None] - _phi(factor, values.mT, covariance)).clamp_min(0)
    return log_w + torch.where(asked, left, 1.0).log().sum(-1)


def _log_share(counts: Tensor, mean: Tensor) -> Tensor:
    """log p(k) of the negative binomial law with this mean."""
    b = float(_DISPERSION)
    ways = torch.lgamma(counts + b) - math.lgamma(b) - torch.lgamma(counts + 1)
    return ways + b * torch.log(b / (b + mean)) + counts * torch.log(mean / (b + mean))


def _phi(factor: Factor, x: Tensor, covariance: Tensor) -> Tensor:
    """phi (..) at x (.., d)."""
    first, second = factor.slopes(x)
    return (covariance * (first**2 + second)).sum(-1) / 2


def _phi_at_most(factor: Factor, low: Tensor, high: Tensor, covariance: Tensor) -> Tensor:
    """A number (n,) that phi does not exceed on boxes (n, d)."""
    least, most = factor.bounds(low, high)
    return (covariance * (_square(least.first, most.first)[1] + most.second)).sum(-1) / 2


def _square(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest square of a number in [low, high]."""
    largest = torch.maximum(low**2, high**2)
    return torch.where((low < 0) & (high > 0), 0.0, torch.minimum(low**2, high**2)), largest


def _summed(slopes: Sequence[Slopes]) -> Slopes:
    first, second = zip(*slopes, strict=True)
    return Slopes(sum(first[1:], first[0]), sum(second[1:], second[0]))


def _amount(log_w: Tensor) -> float:
    """The share of particles that as many independent ones of equal weight would be: (sum w)^2 / (n sum w^2)."""
    w = torch.softmax(log_w, 0)
    return float(1 / (len(w) * (w**2).sum()))


def _drawn(log_w: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers (n,) of particles by their weights, at equal distances from one uniform draw, in an order by chance."""
    n = len(log_w)
    at = (torch.arange(n, dtype=torch.float64) + torch.rand((), dtype=torch.float64, generator=generator)) / n
    chosen = torch.searchsorted(torch.softmax(log_w, 0).cumsum(0), at).clamp_max(n - 1)
    return chosen[torch.randperm(n, generator=generator)]


def _check(factors: Sequence[Factor], draws: Sequence[Tensor]) -> None:
    shapes = [tuple(each.shape) for each in draws]
    if len(factors) < 2 or len(factors) != len(draws):
        raise InputError(
            f"there are {len(factors)} factors and draws of {len(draws)}; expected two or more, and as many"
        )
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][0] < 2:
        raise InputError(f"draws are of {shapes}; expected (n, d) of each factor, n at least 2")
    if not all(bool(each.isfinite().all()) for each in draws):
        raise InputError("draws are not all finite")
    for number, each in enumerate(draws):
        if not bool((each.double().var(0) > 0).all()):
            raise InputError(f"draws of factor {number} do not vary along every axis; expected independent ones")
