"""GFM+: descent along differences of a smoothed objective, whose noise a recursive estimator takes off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.blackbox.optimizer import Optimizer, Query, Span, Vector
from fewer.search.blackbox.strategy import BlackBox


def sphere(n: int, d: int, rng: np.random.Generator) -> Vector:
    """Directions (n, d) that are uniform on the unit sphere."""
    z = rng.normal(size=(n, d))
    unit: Vector = z / np.linalg.norm(z, axis=1, keepdims=True)
    return unit


def two_point(ahead: Vector, behind: Vector, w: Vector, delta: float) -> Vector:
    """g = d / (2 delta) (F(x + delta w) - F(x - delta w)) w, averaged over directions w (n, d): (d,).

    Its mean is the gradient of f_delta(x) = E f(x + delta u), u uniform in the unit ball, whatever is the same at both ends.
    """
    n, d = w.shape
    mean: Vector = d / (2 * delta) * (ahead - behind) @ w / n
    return mean


class Recursive(Optimizer):
    """A batch is the ends of the differences at x_t, on the noises of the pair, and at x_(t-1) too unless it is the first."""

    def __init__(self, start: Vector, settings: GradientFreePlus) -> None:
        self._s = settings
        self._before = self._x = np.clip(start, settings.delta, 1 - settings.delta)
        self._v, self._w = np.zeros_like(start), np.empty((0, len(start)))
        self._t, self._eta = 0, 0.0

    @property
    def _anew(self) -> bool:
        """Whether the estimate is made anew, from the large batch."""
        return self._t % self._s.epoch == 0

    def ask(self, rng: np.random.Generator) -> list[Query]:
        """All ends; x_t itself on all noises where the estimate is made anew, which is what can be chosen in the end."""
        s = self._s
        self._w = sphere(s.large if self._anew else s.small, len(self._x), rng)
        spans = [_part(int(k), s.parts) for k in rng.integers(s.parts, size=len(self._w))]
        points = (self._x,) if self._anew else (self._x, self._before)
        ends = [
            Query(x + sign * s.delta * w, span)
            for x in points
            for sign in (1, -1)
            for w, span in zip(self._w, spans, strict=True)
        ]
        return [Query(self._x), *ends] if self._anew else ends

    def tell(self, values: Vector) -> None:
        """v_t, and a step against it."""
        n, s = len(self._w), self._s
        at = [
            two_point(ahead, behind, self._w, s.delta) for ahead, behind in values[int(self._anew) :].reshape(-1, 2, n)
        ]
        self._v = at[0] if self._anew else self._v + at[0] - at[1]
        self._eta = self._eta or s.step / (float(np.linalg.norm(self._v)) or 1.0)
        self._before = self._x
        self._x = np.clip(self._x - self._eta * self._v, s.delta, 1 - s.delta)
        self._t += 1


def _part(k: int, parts: int) -> Span:
    """Part k of the noises."""
    return k / parts, (k + 1) / parts


@part(
    "gfm-plus",
    title="Variance-reduced zeroth-order descent over levels (GFM+)",
    source="Chen, Xu & Luo 2023, Faster gradient-free algorithms for nonsmooth nonconvex stochastic optimization, arXiv:2301.06428",
    papers=(77,),
)
@dataclass(frozen=True)
class GradientFreePlus(BlackBox):
    """With g(x; w, xi) = d / (2 delta) (F(x + delta w; xi) - F(x - delta w; xi)) w, w uniform on the sphere,

        v_t = mean of g(x_t; w, xi) over `large` pairs (w, xi) where t is a multiple of `epoch`, else
        v_t = v_(t-1) + mean of g(x_t; w, xi) - g(x_(t-1); w, xi) over `small` pairs,   x_(t+1) = x_t - eta v_t.

    xi is one of `parts` parts of the noises, which F is the score on: a difference costs 2 / parts of a whole play. The same
    pairs at both points take the noise off that they have in common. For want of the Lipschitz constant, eta is such that the
    first step has the length `step`. The paper's problem has no constraint; here x stays in the box, delta from its edges.
    It returns some x_t; here it is the best of those that begin an epoch, which are played on all noises.
    """

    delta: float = 0.05
    step: float = 0.1
    large: int = 8
    small: int = 2
    epoch: int = 5
    parts: int = 4

    name = "gfm-plus"

    def optimizer(self, start: Vector) -> Optimizer:
        """Recursive estimates."""
        return Recursive(start, self)
