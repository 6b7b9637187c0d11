"""Inverse problems: samples of the posterior p(x | y) of a measurement y = A(x) + noise, by a model of x."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from fewer.models.model import Model
from fewer.plan import Plan
from fewer.tasks.inverse.problem import Problem
from fewer.tasks.inverse.ranges import Ranges


class PosteriorSampler(Protocol):
    """A method that draws from posteriors by a model's data prediction, one network call a row of a plan.

    derivative  whether it takes derivatives through the network
    linear      whether it is for linear operators alone
    ranges      of the settings that a search may choose: the least and the largest value, regular in the logarithm; whole numbers
                where both are

    A method that takes a plan's levels alone, and neither its weights nor its noise, says `levels_alone = True`.
    """

    derivative: ClassVar[bool]
    linear: ClassVar[bool]
    ranges: ClassVar[Ranges]

    def usual(self, model: Model, nfe: int) -> Plan:
        """The plan of so many calls that its paper plays it on."""

    def draw(self, problem: Problem, x: Tensor) -> Tensor:
        """Samples (n, *shape) of the posteriors from the plan's starting state x (n, *shape)."""
