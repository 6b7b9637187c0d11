"""Samplers of DDIM's kind for any corruption: restore a state to an earlier time, and corrupt it again with the noise it had.

The forward process dx = f(x, t) dt + g(t) dw may have any drift f. From a state x at time t a step to t' < t goes by way of an
earlier time s <= t',

    restored    y = M_{t -> s}(x + v^2 score(x, t))              v the deviation of the noise between s and t
    degraded    x' = M_{s -> t'}(y) - v' v score(x, t)           v' that between s and t'

M the flow of the drift alone. The first is a step of gradient ascent on log p(x_s | x_t), whose maximum it is to first order;
-v score is the unit noise that leads from M(y) back to x. As t - t' and t - s go to 0, the first faster, x' follows the probability
flow. Where the drift is linear and s the time of the data it is DDIM, at any length.

Per unit of time restoring errs by O(t - s) where the drift is not linear, and both steps together by O((t - t') / (t - s)): of the
order of the root of a step where t - s is, as `sample` has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from fewer.errors import InputError
from fewer.registry import part

Flow = Callable[[Tensor, float, float], Tensor]
Deviation = Callable[[float, float], float]
Score = Callable[[Tensor, float], Tensor]


@part(
    "restoration-degradation",
    title="Restore a state a little, and corrupt it again with the noise it had: DDIM for any drift",
    source="Chen, Daras & Dimakis 2023, Restoration-degradation beyond linear diffusions, arXiv:2303.03384",
    papers=(54,),
    role="procedure",
)
@dataclass(frozen=True, eq=False)
class RestorationDegradation:
    """The deterministic sampler of a forward process of times from 0, the data, to its end.

    flow       flow(x (n, *shape), t, t') -> where the drift alone carries states from time t to t', forward and back
    deviation  deviation(s, t) -> of the noise that is added between times s <= t, as it is at t
    score      score(x, t) -> the gradient of the log density at time t, such as a network's; one call a step
    """

    flow: Flow
    deviation: Deviation
    score: Score

    def step(self, x: Tensor, t: float, there: float, back: float) -> Tensor:
        """States (n, *shape) of time t at time `there`, by way of the time `back`.

        Raises InputError unless 0 <= back <= there <= t.
        """
        if not 0 <= back <= there <= t:
            raise InputError(f"times are {back:g}, {there:g} and {t:g}; expected 0 <= back <= there <= t")
        score, deviation = self.score(x, t), self.deviation(back, t)
        restored = self.flow(x + deviation**2 * score, t, back)
        return self.flow(restored, back, there) - self.deviation(back, there) * deviation * score

    def sample(self, x: Tensor, times: Sequence[float], reach: float = 0.5) -> Tensor:
        """Where states (n, *shape) of the first of the falling times come to at the last.

        reach  how far a step of length h restores: reach sqrt(h L) with L the first time, no farther than to 0 and at least the
               step; inf restores to 0 always

        Raises InputError for times that do not fall to 0 or above, and a reach that is not positive.
        """
        times = [float(t) for t in times]
        if len(times) < 2 or any(b >= a for a, b in pairwise(times)) or times[-1] < 0:
            raise InputError(f"times are {times!r:.80}; expected two or more, falling, none below 0")
        if not reach > 0:
            raise InputError(f"reach is {reach}; expected a positive number")
        for t, there in pairwise(times):
            length = max(t - there, reach * math.sqrt((t - there) * times[0]))
            x = self.step(x, t, there, max(0.0, t - length) if length < t else 0.0)
        return x
