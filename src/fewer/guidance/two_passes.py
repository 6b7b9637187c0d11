"""What rules that combine a pass with the label and one without have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from fewer.guidance.passes import Passes, finite


@dataclass(frozen=True)
class TwoPasses(ABC):
    """A rule made of a pass with the sample's label and one with the empty label, as one call of twice the batch.

    `scale` is that of classifier-free guidance: 1 is the conditional network. Fields beside it are the rule's own.
    """

    scale: float
    rule: ClassVar[str]
    remembers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        finite("guidance scale", self.scale)

    @property
    def passes(self) -> int:
        """Always 2."""
        return 2

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the passes are told, in the order of the batch."""
        return ("label", "empty")

    def parameters(self) -> dict[str, Any]:
        """The fields."""
        return {each.name: float(getattr(self, each.name)) for each in fields(self)}

    @abstractmethod
    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
