"""Guidance rules: frozen dataclasses of numbers, which turn the passes of a row into one output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from fewer.guidance.passes import Passes
from fewer.settings import finite


@dataclass(frozen=True)
class Rule(ABC):
    """What all rules are, with the defaults of most: two passes, no memory, no noise.

    `rule` is the part's name, `ranges` the least and largest value of fields that are numbers; the others are only finite.
    Raises InputError for numbers out of range.
    """

    rule: ClassVar[str]
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.type in ("float", float):
                finite(f"guidance {each.name}", getattr(self, each.name), *self.ranges.get(each.name, ()))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The condition of each pass, in the order of the batch."""
        return ("label", "empty")

    @property
    def passes(self) -> int:
        """Network evaluations of a row, of a single sample."""
        return len(self.conditions)

    @property
    def remembers(self) -> bool:
        """Whether it looks at the passes of earlier rows."""
        return False

    @property
    def draws(self) -> bool:
        """Whether it draws noise."""
        return False

    def parameters(self) -> dict[str, Any]:
        """The fields: numbers, and tuples of numbers."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value if isinstance(value, tuple) else float(value) for name, value in values.items()}

    @abstractmethod
    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""


@dataclass(frozen=True)
class TwoPasses(Rule):
    """A rule made of a pass with the sample's label and one with the empty label, as one call of twice the batch.

    `scale` is that of classifier-free guidance: 1 is the conditional network. Fields beside it are the rule's own.
    """

    scale: float


def guided(weak: Tensor, strong: Tensor, scale: float) -> Tensor:
    """weak + scale (strong - weak): the strong output at scale 1, beyond it above."""
    return weak + scale * (strong - weak)
