"""How sure a sample may be: how far it would move if the weights were others that the training data allow as well.

Samples differ since their noises differ; that is what a model is for. They are also uncertain, since the training data leave the
weights open to some degree: with other weights the same noise would have led elsewhere. Where it would have led far away, the
network has seen little there, and the sample is more often a bad one. This room measures it, as a variance of every value.

The package is not called like the function, `fewer.uncertainty`, which would be hidden by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from fewer.epistemic.question import Question


@dataclass(frozen=True)
class Effort:
    """Evaluations of the network on single samples by the stage that makes them, and backward passes of single states."""

    evaluations: Mapping[str, int]
    backward: int = 0


class Estimator(Protocol):
    """A part that says how uncertain samples are."""

    def effort(self, nfe: int, n: int) -> Effort:
        """What `variance` takes for n samples of a plan of so many evaluations, to the evaluation."""

    def variance(self, question: Question) -> Tensor:
        """The variance (n, *shape) of every value of the samples, from what is not known of the weights; data units squared.

        The model is left as it was. Raises InputError for networks and plans that the method is not for.
        """
