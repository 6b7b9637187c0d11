"""Networks that were distilled to a few calls: their data prediction is a sample, and not the mean of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.models.model import Model

SCHEDULERS = ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler", "CMStochasticIterativeScheduler", "SCMScheduler")
USUAL = 4  # calls


@dataclass(frozen=True)
class Distilled:
    """What is known of a distilled network beside its weights.

    calls    the number of calls that it is made for
    teacher  the model that it was made from, whose many-step samples it is to have the distribution of; None where that is not
             at hand
    """

    calls: int = USUAL
    teacher: Model | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.calls, int) or not 1 <= self.calls <= 100:
            raise InputError(f"calls of a distilled model is {self.calls!r}; expected a whole number from 1 to 100")


def distilled_for(scheduler: str, steps: int) -> Distilled | None:
    """What the class name of a pipeline's scheduler, and its number of steps, tell; None for a scheduler of denoisers."""
    return Distilled(min(steps, 100)) if scheduler in SCHEDULERS else None
