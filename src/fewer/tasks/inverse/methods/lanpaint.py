"""LanPaint: at each noise level Langevin steps of what is known and what is not, then a step of the sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.levels import s_of_tau
from fewer.models.model import Model
from fewer.noise import Draw
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import positive
from fewer.tasks.inverse.methods.known import Known
from fewer.tasks.inverse.methods.oscillator import Oscillator
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.problem import Problem
from fewer.tasks.inverse.ranges import Ranges


@part(
    "lanpaint",
    title="LanPaint: Langevin steps of known and unknown values at each noise level, without derivatives",
    source="Zheng et al. 2025, LanPaint: Training-Free Diffusion Inpainting with Asymptotically Exact and Fast Conditional "
    "Sampling, arXiv:2502.03491",
    papers=(132,),
)
@dataclass(frozen=True)
class LanPaint:
    """`inner` Langevin steps at a level, one call each, of the scores, X = D + s eps being the state in data units,

        unknown values    (D - X) / s^2
        known ones        -(1 + guidance) (X - y) / (s^2 - n^2) + guidance (X - D) / s^2

    then DDIM to the next level, at which known values begin as y and noise of their own, the same at every level.

    inner     steps a level; of the plan's rows the levels of 0, inner + 1, 2 (inner + 1), .. are those of the steps
    step      of a Langevin step, in units of s^2
    friction  gamma: the velocity forgets itself in s^2 / (5 gamma^2)
    guidance  lambda, of the score that leads known and unknown values to agree

    The paper is on inpainting without noise, n = 0. Of any linear A the known values are here coordinates of x along the singular
    vectors of A, and noise of deviation n in such a coordinate is what the process itself has at s = n: above that level the
    coordinate is known as N(y, s^2 - n^2), and below it its score is the posterior's, (D - X) / s^2 + (y - X) / (n^2 - s^2), and
    the step is the model's own; all of that is exact. No derivative is taken.

    Raises InputError for plans whose levels do not fall, for rows under guidance, and for over 1024 measured values that are not
    pixels.
    """

    inner: int = 5
    step: float = 0.2
    friction: float = 15.0
    guidance: float = 8.0
    derivative: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    levels_alone: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"inner": (1, 10), "step": (0.05, 1.0), "guidance": (0.5, 16.0)}

    def __post_init__(self) -> None:
        whole("inner", self.inner)
        for name in ("step", "friction", "guidance"):
            positive(name, getattr(self, name))

    def usual(self, model: Model, nfe: int) -> Plan:
        """The levels of DDIM."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """The start is pure noise at the first level, known coordinates included."""
        if any(row.guidance is not None for row in problem.plan.rows):
            raise InputError("lanpaint takes the levels of a plan alone; this plan has rows under guidance")
        levels = [s_of_tau(tau) for tau in problem.levels[:-1]]
        if any(here < there for here, there in pairwise(levels)):
            raise InputError(f"lanpaint needs levels that fall; those of plan {problem.plan.name!r} do not")
        known = Known.of(problem.given)
        x = x / (1 - problem.levels[0])
        own = known.coordinates(x) / levels[0]  # of the noise of known values
        for first in range(0, len(levels), self.inner + 1):
            s, calls = levels[first], min(self.inner + 1, len(levels) - first)
            x = known.noisy(x, s, own)
            x = self._langevin(problem, known, x, s, range(first, first + calls - 1))
            data = problem.predict(x, s)
            if first + self.inner + 1 >= len(levels):
                return known.at_end(data, s)
            x = known.step(x, data, s, levels[first + self.inner + 1])
        return x

    def _langevin(self, problem: Problem, known: Known, x: Tensor, s: float, rows: range) -> Tensor:
        """Steps at a level s: of each the first half with the last score, the second with that of its middle."""
        stiff = known.stiffness(s, self.guidance)
        time, gamma = self.step * s**2, 5 * self.friction**2 / s**2
        unknown, seen = (Oscillator(each, gamma) for each in (torch.tensor(1 / s**2, dtype=torch.float64), stiff))

        def moved(x: Tensor, v: Tensor, pull: Tensor, time: float, number: int) -> tuple[Tensor, Tensor]:
            """The exact motion under score = pull - stiffness x, with fresh noise."""
            noise = [problem.unit(Draw.MOVE(2 * number + k), problem.model.shape) for k in range(2)]
            new = unknown.moved(x, v, pull, time, noise[0], noise[1])
            c = [known.coordinates(each) for each in (x, v, pull, *noise)]
            exact = seen.moved(c[0], c[1], c[2], time, c[3], c[4])
            return known.put(new[0], exact[0]), known.put(new[1], exact[1])

        def pull(x: Tensor) -> Tensor:
            data = problem.predict(x, s)
            return known.put(data / s**2, known.pull(known.coordinates(x), known.coordinates(data), s, self.guidance))

        v, last = torch.zeros_like(x), None
        for n in rows:
            if last is None:
                v = problem.unit(Draw.ROW(n), problem.model.shape)
                last = pull(x)
                x, v = moved(x, v, last, time, 2 * n)
                continue
            x, v = moved(x, v, last, time / 2, 2 * n)
            now = pull(x)
            v = v + math.sqrt(gamma) * (now - last) * time
            x, v = moved(x, v, now, time / 2, 2 * n + 1)
            last = now
        return x
