"""Split Gibbs: the data given a noisy copy by the diffusion model, and that copy given data and measurement, in turn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from fewer.errors import InputError, whole
from fewer.levels import s_of_tau
from fewer.models.model import Model
from fewer.noise import Draw
from fewer.plan import Plan
from fewer.registry import part
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.problem import Problem
from fewer.tasks.inverse.ranges import Ranges


@part(
    "split-gibbs",
    title="Split Gibbs sampling with the diffusion model as the denoising step, annealed",
    source="Wu et al. 2024, Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors, arXiv:2405.18782; "
    "split Gibbs: Vono et al. 2019, arXiv:1804.05809",
)
@dataclass(frozen=True)
class SplitGibbs:
    """Of p(x, z) ~ p(x) exp(-|x - z|^2 / (2 rho^2)) N(y; A z, noise^2), whose x tends to p(x | y) as rho falls, in turn

        z | x, y ~ N(x + rho^2 A' (rho^2 A A' + noise^2)^-1 (y - A x), (A' A / noise^2 + I / rho^2)^-1)
        x | z    data at which the reverse process ends from the state z of level s = rho: `inner` ancestral steps

    rho is s of the plan's rows 0, inner, 2 inner, ..; the steps of x go from rho to the plan's last level, regular in log s. z is
    drawn exactly, by solving with perturbed data (Papandreou & Yuille 2010). It is the reference among these methods: without
    derivatives, exact in the limit of many calls, and the dearest way there. Calls are those of the plan; where `inner` does not
    divide them, the last turn has the rest. Raises InputError for plans whose levels do not fall, or under guidance.
    """

    inner: int = 5
    derivative: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    levels_alone: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"inner": (1, 12)}

    def __post_init__(self) -> None:
        whole("inner", self.inner)

    def usual(self, model: Model, nfe: int) -> Plan:
        """The levels of DDIM."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """The start is a draw of z where nothing is known of x: pure noise at the first level."""
        if any(row.guidance is not None for row in problem.plan.rows):
            raise InputError("split-gibbs takes the levels of a plan alone; this plan has rows under guidance")
        rho = [s_of_tau(tau) for tau in problem.levels[:-1]]
        if any(here < there for here, there in pairwise(rho)):
            raise InputError(f"split-gibbs needs levels that fall; those of plan {problem.plan.name!r} do not")
        given, shape = problem.given, problem.model.shape
        z = x / (1 - problem.levels[0])
        for first in range(0, len(rho), self.inner):
            calls = min(self.inner, len(rho) - first)
            if first:
                width = rho[first]
                about = x + width * problem.unit(Draw.MOVE(2 * first), shape)
                noisy = given.y + given.noise * problem.unit(Draw.MOVE(2 * first + 1), given.operator.measured)
                weighted = given.linear.solve(noisy - given.linear(about), width**2, given.noise**2)
                z = about + width**2 * given.linear.adjoint(weighted)
            x = self._denoised(problem, z, _between(rho[first], rho[-1], calls), first)
        return x

    @staticmethod
    def _denoised(problem: Problem, z: Tensor, levels: list[float], first: int) -> Tensor:
        """Ancestral steps from z along these levels s, and the data prediction at the last."""
        for k, (here, there) in enumerate(pairwise(levels)):
            kept = (there / here) ** 2  # of X' ~ N(D + kept (X - D), s'^2 (1 - kept))
            data = problem.predict(z, here)
            fresh = problem.unit(Draw.ROW(first + k), problem.model.shape)
            z = data + kept * (z - data) + there * math.sqrt(1 - kept) * fresh
        return problem.predict(z, levels[-1])


def _between(high: float, low: float, count: int) -> list[float]:
    """So many levels from `high` down to `low`, regular in their logarithm; one is `high`."""
    return [high * (low / high) ** (k / max(count - 1, 1)) for k in range(count)]
