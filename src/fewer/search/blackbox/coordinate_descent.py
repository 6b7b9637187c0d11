"""Greedy block coordinate descent: the block of numbers that promises the largest decrease takes a Newton step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import lsq_linear

from fewer.registry import part
from fewer.search.blackbox.optimizer import Optimizer, Query, Vector
from fewer.search.blackbox.strategy import BlackBox

_LEAST = 1e-9  # of a curvature, over the largest of all
_EDGE = 1e-12  # how near an end counts as there
_SHORTER, _TRIES = 4.0, 3  # of a step that brings nothing

Rule = Literal["gsq", "gsd"]
Walk = Generator[list[Vector], Vector, None]


def positive(h: Vector) -> Vector:
    """The symmetric matrix (k, k) with its eigenvalues' signs taken off: a bound of what bends either way."""
    values, vectors = np.linalg.eigh(h)
    sizes = np.abs(values)
    bound: Vector = (vectors * np.maximum(sizes, _LEAST * sizes.max() or 1.0)) @ vectors.T
    return bound


def gain(g: Vector, h: Vector, block: Sequence[int]) -> float:
    """The decrease 1/2 g_b' H_b^-1 g_b that the bound f + g_b' d + 1/2 d' H_b d guarantees for the best d."""
    b = list(block)
    return 0.5 * float(g[b] @ np.linalg.solve(positive(h[np.ix_(b, b)]), g[b]))


def gsq(g: Vector, h: Vector, free: Sequence[int], size: int) -> tuple[int, ...]:
    """The block of so many of the free numbers that has the largest gain."""
    return max(combinations(free, min(size, len(free))), key=lambda block: gain(g, h, block))


def gsd(g: Vector, h: Vector, free: Sequence[int], size: int) -> tuple[int, ...]:
    """The same with only the diagonal of H for the bound: the numbers of the largest g_i^2 / H_ii."""
    diagonal = np.maximum(np.abs(np.diag(h)), _LEAST * np.abs(np.diag(h)).max() or 1.0)
    return tuple(sorted(sorted(free, key=lambda i: -float(g[i] ** 2 / diagonal[i]))[:size]))


def inner(x: Vector, g: Vector, edge: float) -> list[int]:
    """The numbers that are free: not those at an end of [edge, 1 - edge] that the slope drives beyond it."""
    return [
        i for i in range(len(x)) if not ((x[i] <= edge + _EDGE and g[i] > 0) or (x[i] >= 1 - edge - _EDGE and g[i] < 0))
    ]


def newton(g: Vector, h: Vector, block: Sequence[int], low: Vector, high: Vector) -> Vector:
    """The step (d,) of a block to the least of its bound between low and high (d,): -H_b^-1 g_b where that lies there."""
    b, change = list(block), np.zeros_like(g)
    lower = cholesky(positive(h[np.ix_(b, b)]), lower=True)  # the bound is |L' d + L^-1 g|^2 / 2 but for a constant
    change[b] = lsq_linear(lower.T, -solve_triangular(lower, g[b], lower=True), (low[b], high[b]), method="bvls").x
    return change


class BlockDescent(Optimizer):
    """Differences at x, then those of the block that they point to where needed, then steps along it, shorter until one is good."""

    def __init__(self, start: Vector, settings: CoordinateDescent) -> None:
        self._s = settings
        self._walk = self._descent(np.clip(start, settings.width, 1 - settings.width))
        self._next: list[Vector] = next(self._walk)

    def ask(self, rng: np.random.Generator) -> list[Query]:
        """The next of these."""
        return [Query(x) for x in self._next]

    def tell(self, values: Vector) -> None:
        """On to what follows from them."""
        try:
            self._next = self._walk.send(values)
        except StopIteration:
            self._next = []

    def _descent(self, x: Vector) -> Walk:
        s, width = self._s, self._s.width
        (value,) = (yield [x]).tolist()
        while width > s.least:
            g, h = yield from self._differences(x, value, width)
            free = inner(x, g, width)
            if not free:
                width /= _SHORTER
                continue
            if s.rule == "gsq":
                h = yield from self._crossed(x, value, h, free, width)
            block = (gsq if s.rule == "gsq" else gsd)(g, h, free, s.size)
            if s.rule == "gsd":
                h = yield from self._crossed(x, value, h, block, width)
            there, lower = yield from self._step(x, value, newton(g, h, block, width - x, 1 - width - x))
            if lower < value:
                x, value = there, lower
            else:
                width /= _SHORTER

    def _differences(
        self, x: Vector, value: float, width: float
    ) -> Generator[list[Vector], Vector, tuple[Vector, Vector]]:
        """The slope and the diagonal of H, by central differences."""
        steps = width * np.eye(len(x))
        ahead, behind = (yield [*(x + steps), *(x - steps)]).reshape(2, -1)
        return (ahead - behind) / (2 * width), np.diag((ahead - 2 * value + behind) / width**2)

    def _crossed(
        self, x: Vector, value: float, h: Vector, block: Sequence[int], width: float
    ) -> Generator[list[Vector], Vector, Vector]:
        """H with the entries of pairs in a block, from the curvature along e_i + e_j, which is H_ii + 2 H_ij + H_jj."""
        pairs = list(combinations(block, 2))
        if not pairs:
            return h
        steps, h = width * np.eye(len(x)), h.copy()
        values = yield [x + sign * (steps[i] + steps[j]) for i, j in pairs for sign in (1, -1)]
        for (i, j), (ahead, behind) in zip(pairs, values.reshape(-1, 2).tolist(), strict=True):
            along = (ahead - 2 * value + behind) / width**2
            h[i, j] = h[j, i] = (along - h[i, i] - h[j, j]) / 2
        return h

    def _step(self, x: Vector, value: float, change: Vector) -> Generator[list[Vector], Vector, tuple[Vector, float]]:
        """The step, or a part of it, and the value there."""
        lower, there = value, x
        for tried in range(_TRIES):
            there = x + change / _SHORTER**tried
            (lower,) = (yield [there]).tolist()
            if lower < value:
                break
        return there, lower


@part(
    "coordinate-descent",
    title="Greedy block coordinate descent over levels, by the predicted gain",
    source="Nutini, Laradji & Schmidt 2022, Let's make block coordinate descent converge faster, arXiv:1712.08859",
    papers=(331,),
)
@dataclass(frozen=True)
class CoordinateDescent(BlackBox):
    """Of all blocks b of `size` numbers the one whose quadratic bound f(x) + g_b' d + d' H_b d / 2 falls the most is moved,

        b = argmax g_b' H_b^-1 g_b (the paper's GSQ),   x_b <- x_b - H_b^-1 g_b,

    or, with `rule` "gsd", the numbers of the largest g_i^2 / H_ii, for which no other entries of H are needed beforehand.
    Where the bound holds, as on a quadratic, f falls by half that maximum at least, which is no less than the block of the
    steepest slope (Gauss and Southwell) promises. g and H are central differences over `width`; where even a sixteenth of a
    step brings nothing, the width is quartered, until `least`. The box [width, 1 - width] is kept: a number at its end that
    the slope drives beyond is in no block, and which ones those are is settled after finitely many steps (active set).
    Blocks are of few numbers: the paper's message passing, which solves huge sparse ones, has nothing to do here.
    """

    rule: Rule = "gsd"
    size: int = 2
    width: float = 0.03
    least: float = 1e-4

    name = "coordinate-descent"

    def optimizer(self, start: Vector) -> Optimizer:
        """Steps of blocks."""
        return BlockDescent(start, self)
