"""What a pipeline's thread and the one that asks hand each other."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from torch import Tensor


class LetGo(BaseException):
    """Raised in the pipeline's thread to end its call; no pipeline's `except Exception` holds it up."""


@dataclass(frozen=True)
class Ask:
    """The state and the time of the next turn; `last` for a state with which the loop ends, and which the pipeline decodes.

    `modes` are torch's dispatch modes of the asking thread, such as its counter of multiply-adds, under which the turn runs.
    """

    x: Tensor
    t: float = 0.0
    last: bool = False
    modes: tuple[AbstractContextManager[Any], ...] = ()


@dataclass(frozen=True)
class Handed:
    """What a turn gave to `step`: the network's output, guided as the pipeline guides, and the state."""

    output: Tensor
    sample: Tensor


@dataclass(frozen=True)
class Ended:
    """The end of a call: its result, or what it raised."""

    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Exchange:
    """What the asking thread and the pipeline's hand each other; None asks the call to end."""

    asks: SimpleQueue[Ask | None] = field(default_factory=SimpleQueue)
    answers: SimpleQueue[Handed | Ended] = field(default_factory=SimpleQueue)
