"""Lighter networks: fewer channels, heads, blocks and bits.

A light network comes of three choices, each a part of this room: what every unit is worth (a score, or a mask learner of
`fewer.compression.masks`), how many units of each group stay within a budget (an allocator), and how the rest learns to do
without the others (a recovery).

The package is not called like the function, `fewer.compress`, which would be hidden by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

if TYPE_CHECKING:
    from fewer.compression.costs import Costs
    from fewer.compression.subject import Subject


class Score(Protocol):
    """A part that says what units are worth."""

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Group name -> the importance of each unit (size,), at least 0: the more, the worse to remove it.

        Comparable within a group; between groups as far as the method says so.
        """


class Allocator(Protocol):
    """A part that says how many units of each group stay."""

    def allocate(self, subject: Subject, importance: Mapping[str, Tensor], costs: Costs) -> dict[str, int]:
        """Group name -> number of units to keep, whose cost together is at most `costs.limit`.

        Raises InputError where not even the fewest units fit.
        """


class Recovery(Protocol):
    """A part that repairs a light network, without or with gradient steps."""

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """Change the light network in place, which has the `kept` units of the subject's; the number of gradient steps made."""


@runtime_checkable
class WithLoss(Protocol):
    """A recovery that lowers another loss than the mean squared difference of outputs, or a share of it."""

    def own_loss(self, subject: Subject, light: nn.Module) -> float:
        """On the calibration states; of the light network as it is."""
