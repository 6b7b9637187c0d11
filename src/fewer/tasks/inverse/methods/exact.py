"""The exact posterior's own data prediction, of models that are mixtures: what is left is the error of the plan's steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.models.linear_posterior import LinearPosterior
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.tasks.inverse.methods.plans import ddim
from fewer.tasks.inverse.problem import Problem, Seen
from fewer.tasks.inverse.ranges import Ranges


@part(
    "exact-guidance",
    title="The exact posterior's data prediction, of mixtures: the error of steps alone",
    source="this package; the posterior of a Gaussian mixture under linear measurements in closed form",
)
@dataclass(frozen=True)
class ExactGuidance:
    """E[D | x, y] of the posterior in closed form (`fewer.models.linear_posterior`) in the place of D.

    For mixtures without labels and linear operators, as a bound for what other methods may reach on the same plan. The network's
    own call is made all the same, so that it costs what they do. Raises InputError for other models, and where labels are given.
    """

    derivative: ClassVar[bool] = False
    linear: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {}

    def usual(self, model: Model, nfe: int) -> Plan:
        """DDIM."""
        return ddim(model, nfe)

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Of the states at the plan's start."""
        exact = problem.model.exact
        if exact is None or problem.labels is not None:
            raise InputError(f"exact-guidance needs a mixture without labels; {problem.model.name} is none")
        posterior = LinearPosterior(exact, problem.given.linear.matrix, problem.given.noise)
        kinds, kind_of = problem.given.y.flatten(1).unique(dim=0, return_inverse=True)
        each = [posterior.given(y).to(x.device) for y in kinds]  # in float64: weights may be below float32's

        def change(seen: Seen) -> Tensor:
            found = torch.empty_like(seen.data)
            for k, mixture in enumerate(each):
                mine = kind_of == k
                found[mine] = mixture.denoise(seen.x[mine], seen.tau)
            return found - seen.data

        return problem.play(x, False, change)
