"""COW: noise and denoise again and again in the middle of the way, so that what is given spreads into what is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.noise import Draw
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import share
from fewer.tasks.editing.task import Task, falling


@part(
    "cyclic-one-way",
    title="COW: cycles of noising and denoising around a given part of the image, which stays as it is",
    source="Wang et al. 2023, Diffusion in Diffusion: Cyclic One-Way Diffusion for Text-Vision-Conditioned Generation, "
    "arXiv:2306.08247",
    papers=(205,),
)
@dataclass(frozen=True)
class CyclicOneWay:
    """What lies outside of the mask is given. The image (of which the rest may hold anything, such as grey) is inverted to the
    seed that the way down begins with. After each step what is given is put back with noise of its own,

        x <- mask x + (1 - mask) ((1 - tau) y + tau z),

    so that it is never changed by the rest, while the rest is by it. When the way has come to the level `low`, noise takes it up
    to `high` again ("disturb"),

        x' = a x + sqrt(tau'^2 - a^2 tau^2) z,      a = (1 - tau') / (1 - tau),

    and it is denoised again ("construct"), `cycles` times in all.

    cycles     1 is plain replacement from an inverted start
    high, low  levels tau of the window, of which the nearest of the plan's are taken

    Steps are DDIM's between the plan's levels, with its guidance. A cycle costs the rows of its window. Raises InputError for
    windows that hold no row.
    """

    cycles: int = 10
    high: float = 0.7
    low: float = 0.4
    reach: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("mask",)

    def __post_init__(self) -> None:
        whole("cycles", self.cycles)
        share("high", self.high)
        share("low", self.low)
        if not self.low < self.high:
            raise InputError(f"low is {self.low:g} and high {self.high:g}; expected low < high")

    def cost(self, plan: Plan) -> int:
        """A call a level up, and the rows of the way down, those of the window once a cycle."""
        steps = falling(plan)
        return len(steps) + sum(plan.rows[steps[k][0]].passes for k in self.way(plan))

    def way(self, plan: Plan) -> list[int]:
        """The levels in the order in which they are left, by number from the highest, 0."""
        levels = [here for _, here, _ in falling(plan)]
        first, last = (min(range(len(levels)), key=lambda k: abs(levels[k] - tau)) for tau in (self.high, self.low))
        if self.cycles > 1 and first >= last:
            raise InputError(
                f"plan {plan.name!r} has no two levels near high {self.high:g} and low {self.low:g}: take more calls"
            )
        every = list(range(len(levels)))
        return every[:last] + every[first:last] * (self.cycles - 1) + every[last:]

    def edit(self, task: Task) -> Tensor:
        """The seed, the cycles, and the way down."""
        x, steps, way = task.up(), falling(task.plan), self.way(task.plan)

        def fresh(k: int) -> Tensor:
            return task.unit(Draw.MOVE(k), task.model.shape)

        for k, (here, after) in enumerate(pairwise([*way, len(steps)])):
            n, tau, there = steps[here]
            x = torch.add(x, task.guided(n, x), alpha=there - tau)
            x = task.kept(x, fresh(2 * k), there)
            if after <= here:
                x = disturbed(x, there, steps[after][1], fresh(2 * k + 1))
        return x


def disturbed(x: Tensor, tau: float, up: float, noise: Tensor) -> Tensor:
    """States (n, *shape) of the level tau, noised to the level `up` above it."""
    a = (1 - up) / (1 - tau)
    return a * x + math.sqrt(up**2 - (a * tau) ** 2) * noise
