"""Binary choices under a budget, and the way that a search of them is asked and told.

A search is a generator: it yields a mask and is sent the mask's error, so that its state is its own local variables,

    error = yield mask

The same seed and errors give the same masks. So an interrupted search goes on by being run again on the errors that are known.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewer.knapsack import UNITS, choose

Mask = NDArray[np.bool_]  # (n,): what is on
Array = NDArray[np.float64]
Asking = Generator[Mask, float, None]
Propose = Callable[[Sequence[Mask], Sequence[float]], Mask]

_WORST = 10.0  # times the median error, beyond which errors are alike to a model of them


@dataclass(frozen=True)
class Choices:
    """n things that may be on, their positive costs (n,), and the most, at least 0, that those which are on may cost together."""

    costs: Array
    room: float

    def __len__(self) -> int:
        return len(self.costs)

    def fits(self, mask: Mask) -> bool:
        """Whether what is on can be paid for."""
        return float(self.costs @ mask) <= self.room * (1 + 1e-12)

    def filled(self, mask: Mask, order: Sequence[int] | NDArray[np.int64]) -> Mask:
        """The mask with more on, in this order, wherever it still fits."""
        full = mask.copy()
        left = self.room * (1 + 1e-12) - float(self.costs @ mask)
        for i in order:
            if not full[i] and self.costs[i] <= left:
                full[i] = True
                left -= float(self.costs[i])
        return full

    def drawn(self, rng: np.random.Generator) -> Mask:
        """A random mask to which nothing can be added: things in random order, each on where it fits."""
        return self.filled(np.zeros(len(self), dtype=np.bool_), rng.permutation(len(self)))

    def best(self, values: Array) -> Mask:
        """The mask of the largest sum of values (n,) that fits, filled by falling value: of equal costs, the largest values.

        Exact but for costs, which are rounded up to 1/4096 of the room (`fewer.knapsack`).
        """
        mask = np.zeros(len(self), dtype=np.bool_)
        order = np.argsort(-values, kind="stable")
        if np.ptp(self.costs) > 1e-12 * self.costs.max() and self.room >= self.costs.min():
            whole = np.minimum(np.ceil(self.costs / (self.room / UNITS) - 1e-9), UNITS + 1).astype(np.int64)
            options = [(np.array([0.0, -v]), np.array([0, c])) for v, c in zip(values, whole, strict=True)]
            mask = np.array(choose(options, UNITS), dtype=np.bool_)
        return self.filled(mask, order)


def modelled(choices: Choices, first: int, propose: Propose, rng: np.random.Generator) -> Asking:
    """`first` random masks, then without end what `propose` makes of all masks and their errors so far."""
    asked: list[Mask] = []
    errors: list[float] = []
    while True:
        asked.append(choices.drawn(rng) if len(asked) < first else propose(asked, errors))
        errors.append((yield asked[-1]))


def levelled(errors: Sequence[float]) -> Array:
    """Logarithms of errors, of mean 0 and deviation 1, for a model of them: the worst count as ten times the median."""
    logs = np.log(np.maximum(np.array(errors, dtype=np.float64), 1e-300))
    logs = np.minimum(logs, np.median(logs) + np.log(_WORST))
    spread = float(logs.std())
    scores: Array = (logs - logs.mean()) / (spread if spread > 0 else 1.0)
    return scores
