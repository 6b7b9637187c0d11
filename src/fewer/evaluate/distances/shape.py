"""The distance between two stochastic representations, such as a network's features before and after a block.

To an input a stochastic network, or a network on noisy samples, gives a distribution of responses. Two representations are as
near as some rotation brings their distributions on the same inputs, means and noise alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import jackknife
from fewer.registry import part

Form = Literal["gaussian", "energy"]
RANDOM = 24  # starts of the alignment beside the identity and the one that is best for the means
FEW, KEPT = 10, 3  # steps from every start, and how many of those that came lowest go on
MOST, SETTLED = 200, 1e-8  # steps of an alignment, and its relative fall below which it ends
PARTS = 8  # of the inputs, for the interval


@part(
    "stochastic-shape",
    title="Stochastic shape distance between representations",
    source="Duong et al. 2022, arXiv:2211.11665",
    papers=(133,),
    role="procedure",
)
def shape_distance(x: Tensor, y: Tensor, form: Form = "gaussian", seed: int = 0) -> Interval:
    """Distance of responses x (m, r, d) and y (m, s, e) to the same m inputs, r and s draws each, in the responses' unit.

        d^2 = min over orthogonal Q of mean_z D(F_z, Q G_z)

    with F_z, G_z the responses' distributions on input z; of d and e the smaller is filled up with zeros. `form` says what D is:

    gaussian  squared Wasserstein distance of the Gaussians of the responses' means and covariances, |mu - Q nu|^2 + tr S + tr T
              - 2 tr (S^(1/2) Q T Q' S^(1/2))^(1/2)
    energy    2 E|X - Q Y| - E|X - X'| - E|Y - Y'|, which sees all of the distributions; time and memory r s m

    Q is found by alternating Procrustes steps from the identity, from the means' own best, and from 24 random rotations drawn
    from `seed`; the least is taken, which need not be the least there is. The exact minimum is symmetric, obeys the triangle
    inequality, does not change when either is rotated, and is 0 only where one is the other rotated. One response each
    (r = s = 1) leaves the distance between deterministic representations (Williams et al. 2021).
    The 95 % interval is the jackknife's over 8 parts of the inputs, Q found anew on each. Of r draws the means and covariances
    are the sample's own, so that two samples of one representation are about sqrt(2 tr S / r) apart.
    Raises InputError for other shapes, fewer than 8 inputs, values not finite and unknown forms.
    """
    if form not in get_args(Form):
        raise InputError(f"form is {form!r}; expected one of {', '.join(get_args(Form))}")
    if x.ndim != 3 or y.ndim != 3 or len(x) != len(y) or len(x) < PARTS or not x.numel() or not y.numel():
        raise InputError(
            f"x and y must be responses (m, r, d) and (m, s, e) to at least {PARTS} inputs, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    x, y = (z.detach().to("cpu", torch.float64) for z in (x, y))
    if not x.isfinite().all() or not y.isfinite().all():
        raise InputError("x or y holds a response that is not finite")
    wide = max(x.shape[2], y.shape[2])
    x, y = (torch.nn.functional.pad(z, (0, wide - z.shape[2])) for z in (x, y))
    kind: type[Pair] = Gaussian if form == "gaussian" else Energy
    squared, q = aligned(kind.of(x, y), starts(x.mean(1), y.mean(1), seed))

    def figure(parts: Sequence[int]) -> float:
        rows = torch.cat([torch.arange(number, len(x), PARTS) for number in parts])
        return squared if len(parts) == PARTS else aligned(kind.of(x[rows], y[rows]), [q])[0]

    found = jackknife(figure, PARTS)
    reach = found.high - found.value
    low, high = max(squared - reach, 0.0), squared + reach
    return Interval(math.sqrt(squared), math.sqrt(low), math.sqrt(high), len(x))


def starts(mean_x: Tensor, mean_y: Tensor, seed: int) -> list[Tensor]:
    """Orthogonal matrices (d, d), by which rows of y are multiplied, from which alignments begin."""
    d, generator = mean_x.shape[1], torch.Generator().manual_seed(seed)
    random = torch.randn(RANDOM, d, d, generator=generator, dtype=torch.float64)
    return [torch.eye(d, dtype=torch.float64), nearest(mean_y.T @ mean_x), *nearest(random)]


def nearest(a: Tensor) -> Tensor:
    """The orthogonal matrices nearest to a (..., d, d): those of the largest inner product with it (Schonemann 1966)."""
    left, _, right = torch.linalg.svd(a)
    product: Tensor = left @ right
    return product


class Pair(Protocol):
    """Two representations: their mean squared distance under a rotation, and what the next one is nearest to."""

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Pair:
        """From responses (m, r, d) and (m, s, d)."""

    def at(self, q: Tensor) -> tuple[float, Tensor]:
        """The squared distance with y's rows times q, and the matrix (d, d) nearest to which none is farther."""


def aligned(pair: Pair, begins: Sequence[Tensor]) -> tuple[float, Tensor]:
    """The least squared distance over descents from the starts, at least 0, and its rotation."""
    first = sorted((_descended(pair, q, FEW) for q in begins), key=lambda found: found[0])
    return min((_descended(pair, q, MOST) for _, q in first[:KEPT]), key=lambda found: found[0])


def _descended(pair: Pair, q: Tensor, steps: int) -> tuple[float, Tensor]:
    value, towards = pair.at(q)
    for _ in range(steps):
        turned = nearest(towards)
        after, towards = pair.at(turned)
        fall, value, q = value - after, min(after, value), turned if after <= value else q
        if fall <= SETTLED * max(value, 1e-300):
            break
    return max(value, 0.0), q


@dataclass(frozen=True)
class Gaussian:
    """Means (m, d) and roots of covariances (m, d, d) of both.

    min over Q, V_z of mean_z |mu - Q nu|^2 + |A - Q B V|^2 with A, B the roots and V_z orthogonal is the same minimum:
    either is a Procrustes problem where the other is held.
    """

    means: tuple[Tensor, Tensor]
    roots: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Gaussian:
        """From responses."""
        return cls((x.mean(1), y.mean(1)), (_root(x), _root(y)))

    def at(self, q: Tensor) -> tuple[float, Tensor]:
        """With V_z the best for q."""
        (mu, nu), (a, b) = self.means, self.roots
        cross = b @ nearest(b @ q @ a) @ a
        towards = (nu.T @ mu + cross.sum(0)) / len(mu)
        return self._sizes - 2 * float((q * towards).sum()), towards

    @cached_property
    def _sizes(self) -> float:
        """What does not depend on the rotation."""
        return sum(float(z.square().sum()) for z in (*self.means, *self.roots)) / len(self.means[0])


def _root(x: Tensor) -> Tensor:
    """Symmetric square roots of the covariances (divisor r) of responses (m, r, d)."""
    centred = x - x.mean(1, keepdim=True)
    values, axes = torch.linalg.eigh(centred.mT @ centred / x.shape[1])
    root: Tensor = axes * values.clamp(min=0).sqrt().unsqueeze(1) @ axes.mT
    return root


@dataclass(frozen=True)
class Energy:
    """The responses, and what does not depend on the rotation.

    |v| <= |v|^2 / (2 c) + c / 2 with equality at c = |v|: a Procrustes problem with weights 1 / |x - Q y| of the last Q
    lowers the energy distance (iteratively reweighted least squares).
    """

    x: Tensor
    y: Tensor
    within: float

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Energy:
        """From responses; every pair counts, a response with itself too, so that the distance is never below 0."""
        return cls(x, y, sum(float(_distances(z, z).mean()) for z in (x, y)))

    def at(self, q: Tensor) -> tuple[float, Tensor]:
        """With the weights of q."""
        apart = _distances(self.x, self.y @ q)
        weights = 1 / apart.clamp_min(1e-9 * float(apart.mean()) + 1e-300)
        return 2 * float(apart.mean()) - self.within, torch.einsum("zrs,zsd,zre->de", weights, self.y, self.x)


_distances = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
