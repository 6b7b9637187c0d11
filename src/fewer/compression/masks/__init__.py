"""Masks of units that are learnt by gradient steps, most of them together with the weights.

A mask learner stands where a score does (`--score NAME`): what it learns of each unit is the unit's importance, from which an
allocator takes exact numbers, and the weights that it leaves are those that are cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from fewer.compression.costs import Costs
    from fewer.compression.subject import Subject


@dataclass(frozen=True)
class Learnt:
    """What came of the steps.

    importance  group name -> of each unit (size,) float64, at least 0; comparable between groups
    weights     parameter of the network -> its values after the steps; those not named are as they were
    steps       gradient steps that were made
    score       name of the score whose importance it is, of learners that choose one of several
    """

    importance: dict[str, Tensor]
    weights: dict[str, Tensor]
    steps: int
    score: str | None = None


class MaskLearner(Protocol):
    """A part that learns which units stay within a budget."""

    def learn(self, subject: Subject, costs: Costs) -> Learnt:
        """Masks whose cost is what may stay. The subject's network is left as it was.

        Raises InputError for kinds of units that the method is not for.
        """
