"""Masks by regularised Langevin dynamics on a quadratic model of the errors so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewer.registry import part
from fewer.search.masks.blocks import BlockMasks
from fewer.search.masks.choices import Array, Asking, Choices, Mask, levelled, modelled
from fewer.search.masks.langevin import Quadratic, annealed


@part(
    "langevin-masks",
    title="Masks by annealed regularised Langevin dynamics on a quadratic model of their errors (RLSA)",
    source="Feng & Yang 2025, arXiv:2502.00277; kernel ridge regression for the model",
    papers=(194,),
)
@dataclass(frozen=True)
class LangevinMasks(BlockMasks):
    """The dynamics need an energy with a gradient, which plans do not have. So the errors so far are fitted,

        E(m) = sum_i a_i (1 + x.x_i)^2        x = (2m - 1) / sqrt(n),    (K + ridge I) a = y,    K_ij = (1 + x_i.x_j)^2

    with y their levelled logarithms. After `first` random masks each one is the state of least E + `penalty` (cost over the room,
    where it is over) of `chains` chains of `steps` steps, made to fit and filled, that was not asked for before.
    """

    name = "langevin-masks"

    first: int = 20
    chains: int = 8
    steps: int = 30
    distance: float = 2.0
    temperature: float = 0.5
    ridge: float = 0.1
    penalty: float = 30.0

    def asking(self, choices: Choices, rng: np.random.Generator) -> Asking:
        """Random masks, then what the model of all so far proposes."""
        return modelled(choices, self.first, lambda asked, errors: self.proposed(choices, asked, errors, rng), rng)

    def proposed(
        self, choices: Choices, asked: Sequence[Mask], errors: Sequence[float], rng: np.random.Generator
    ) -> Mask:
        """The best new mask that the chains found; a random one where all are known."""
        model, unit = quadratic(np.stack(asked), levelled(errors), self.ridge), max(choices.room, choices.costs.min())

        def energy(x: Array) -> tuple[Array, Array]:
            value, gradient = model(x)
            over = (x @ choices.costs - choices.room) / unit
            beyond = (over > 0)[:, None] * choices.costs / unit
            return value + self.penalty * np.maximum(over, 0), gradient + self.penalty * beyond

        start = np.stack([choices.drawn(rng) for _ in range(self.chains)])
        distance = min(self.distance, len(choices) / 2)
        states, _ = annealed(energy, start, self.steps, distance, self.temperature, rng)
        found = np.stack([fitting(choices, state, model) for state in states])
        known = {mask.tobytes() for mask in asked}
        values = model(found.astype(np.float64))[0]
        order = [i for i in np.argsort(values, kind="stable") if found[i].tobytes() not in known]
        return found[order[0]] if order else choices.drawn(rng)


def quadratic(masks: Mask, y: Array, ridge: float) -> Quadratic:
    """The kernel ridge regression on masks (m, n) of y (m,), but for a constant, as an energy of m."""
    n = masks.shape[1]
    x = (2.0 * masks - 1) / np.sqrt(n)
    a = np.linalg.solve((1 + x @ x.T) ** 2 + ridge * np.eye(len(x)), y)
    linear, pairs = 2 * x.T @ a, (x.T * a) @ x  # b'x + x'Q x, with x = (2m - 1) / sqrt(n)
    return Quadratic(2 * linear / np.sqrt(n) - 4 * pairs.sum(1) / n, 4 * pairs / n)


def fitting(choices: Choices, mask: Mask, model: Quadratic) -> Mask:
    """The mask with what raises the model's energy least off until it fits, then filled likewise."""
    rise = -model(mask.astype(np.float64)[None])[1][0]  # of going off, to first order
    mask = mask.copy()
    for i in np.argsort(rise / choices.costs, kind="stable"):
        if choices.fits(mask):
            break
        mask[i] = False
    return choices.filled(mask, np.argsort(-rise, kind="stable"))
