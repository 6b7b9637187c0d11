"""What parts of `compress` take, before they are begun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from fewer.compression.subject import Subject

BACKWARD = 2  # evaluations that a gradient takes as long as, beside the one that it is of


@dataclass(frozen=True)
class Work:
    """What a part takes of the networks, full, light or in between.

    evaluations  of single samples
    gradients    how many of them are differentiated
    steps        gradient steps
    """

    evaluations: int = 0
    gradients: int = 0
    steps: int = 0

    @property
    def in_evaluations(self) -> int:
        """All of it, in evaluations that take as long."""
        return self.evaluations + BACKWARD * self.gradients


@runtime_checkable
class WithWork(Protocol):
    """A score, mask learner, allocator or recovery that knows what it takes."""

    def work(self, subject: Subject) -> Work:
        """At most, on a subject whose calibration states need not be there; the calls that make them are not counted."""


class WithoutCalls:
    """A part that reads weights and numbers alone."""

    def work(self, subject: Subject) -> Work:
        """Nothing."""
        return Work()


def taught(steps: int, batch: int) -> Work:
    """Gradient steps on fresh states: a call of the full network for what it gives, and one of the other to differentiate."""
    return Work(2 * steps * batch, steps * batch, steps)
