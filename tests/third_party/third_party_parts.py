"""A solver, a grid, a rule of guidance, a strategy and a distance, of which the strategy alone has a base class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fewer.evaluate.statistics.interval import Interval
from fewer.grids import Levels, Range
from fewer.guidance.passes import Passes
from fewer.registry import part
from fewer.samplers import standard
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy
from fewer.solvers.trace import Level, Trace, Vector


@part("their-ab2", title="Adams-Bashforth of second order in tau", source="Bashforth & Adams 1883")
@dataclass(frozen=True)
class TheirAB2:
    """x' = x + h (u + h / (2 h_before) (u - u_before)), the first and the last step by Euler's method."""

    order: ClassVar[int] = 2

    def steps(self, calls: int) -> int:
        """A call a level."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """The state at the last level."""
        x, before, u_before = trace.start, 0.0, None
        for here, there in pairwise(levels):
            h, u = there.tau - here.tau, trace.call(x, here).u
            bent = u if u_before is None or there.tau == 0 else u + (u - u_before) * (h / (2 * before))
            x, before, u_before = x + bent * h, h, u
        return x


@part("their-cosine", title="Levels whose angles are regular, tau = sin^2 of them", source="this test")
def their_cosine(span: Range, n: int) -> Levels:
    """Denser at both ends than regular levels."""
    top, low = (math.asin(math.sqrt(tau)) for tau in (span.start, span.schedule.tau_min))
    levels = np.sin(top + (low - top) * np.arange(n) / n) ** 2
    levels[0] = span.start
    return levels


@part("their-damped", title="Guidance whose scale falls with the level", source="this test")
@dataclass(frozen=True)
class TheirDamped:
    """u = u(label) + (scale - 1) tau (u(label) - u(empty))."""

    scale: float
    rule: ClassVar[str] = "their-damped"
    passes: ClassVar[int] = 2
    conditions: ClassVar[tuple[str, ...]] = ("label", "empty")
    remembers: ClassVar[bool] = False
    draws: ClassVar[bool] = False

    def parameters(self) -> dict[str, Any]:
        """The scale."""
        return asdict(self)

    def output(self, passes: Passes) -> Tensor:
        """The guided u."""
        label, empty = passes.outputs("label", "empty")
        return label + (self.scale - 1) * passes.tau * (label - empty)


@part("their-powers", title="Levels of the best power of regular times, by trial", source="this test")
@dataclass(frozen=True)
class TheirPowers(Strategy):
    """DDIM on levels start (1 - n / N)^p, for each of the powers."""

    name = "their-powers"
    columns = frozenset({"steps"})

    powers: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)

    @property
    def candidates(self) -> int:
        """One a power."""
        return len(self.powers)

    def search(self, problem: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """The powers in turn."""
        for power in self.powers[len(done) :]:
            taus = space.model.start * (1 - np.arange(space.calls) / space.calls) ** power
            plan = standard("ddim", space.model, space.calls, taus.tolist())
            yield Candidate(plan, problem.rmse(plan), self.name, {"power": power})


@part("their-medians", title="Distance between coordinatewise medians", source="this test")
def their_medians(x: Tensor, y: Tensor) -> Interval:
    """|median x - median y|, give or take three of its deviations by resampling both sides 50 times."""
    generator = torch.Generator().manual_seed(0)

    def gap(some: bool) -> float:
        a, b = (z[torch.randint(len(z), (len(z),), generator=generator)] if some else z for z in (x, y))
        return float((a.median(0).values - b.median(0).values).norm())

    value, spread = gap(False), float(np.std([gap(True) for _ in range(50)]))
    return Interval(value, max(0.0, value - 3 * spread), value + 3 * spread, len(x))
