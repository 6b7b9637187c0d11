"""Nested diffusion: at each level a short diffusion of its own all the way to the data, so that it can stop anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fewer.errors import whole
from fewer.registry import part
from fewer.solvers.sde.ancestral import posterior
from fewer.solvers.trace import Level, Trace, Vector


@part(
    "nested",
    title="Each level's data prediction is a sample of a short inner diffusion (anytime)",
    source="Elata et al. 2023, Nested Diffusion Processes for Anytime Image Generation, arXiv:2305.19066",
    papers=(82,),
    ranked=False,
)
@dataclass(frozen=True)
class Nested:
    """x'/alpha' ~ q(x' | x, D^) with D^ ~ p(D | x) from `inner` ancestral calls down from x, in place of E[D | x].

    The inner calls lie on levels of the plan, regular in their number. Every D^ is an image to stop with: the data
    prediction of the calls that `results` numbers. With `inner` = 1 it is ancestral sampling. With many levels the
    result is of the data's law where the mean of D^ is E[D | x]: for Gaussian data always, else for many inner calls.
    """

    inner: int = 2
    order: int = 1

    def __post_init__(self) -> None:
        whole("inner", self.inner)

    def steps(self, calls: int) -> int:
        """The fewest levels whose inner runs, each with at most a call for every level left, need that many calls."""
        return next(n for n in range(1, calls + 1) if self._most_in_all(n) >= calls)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Inner runs, each followed by the posterior's step from the state that it began with."""
        x = trace.start
        for n, (here, there) in enumerate(pairwise(levels)):
            y = x
            for start, end in pairwise(self.inner_levels(levels, n, calls)):
                out = trace.call(y, start)
                y = posterior(trace, out.data, out.noise, start, end)
            x = posterior(trace, y, (x - (1 - here.tau) * y) / here.tau, here, there)
        return x

    def results(self, calls: int) -> list[int]:
        """After how many calls each inner run has ended, with an image."""
        n = self.steps(calls)
        spare = self._most_in_all(n) - calls
        return list(accumulate(most - (i < spare) for i, most in enumerate(self._most(n))))

    def inner_levels(self, levels: Sequence[Level], n: int, calls: int) -> list[Level]:
        """The levels of the n-th inner run, from level n to 0."""
        left = len(levels) - 1 - n
        counts = self._most(len(levels) - 1)
        spare = sum(counts) - calls
        m = counts[n] - (n < spare)  # the first runs are a call shorter where the budget requires it
        return [*(levels[n + j * left // m] for j in range(m)), levels[-1]]

    def _most(self, n: int) -> list[int]:
        return [min(self.inner, n - i) for i in range(n)]

    def _most_in_all(self, n: int) -> int:
        """The sum of `_most`: n inner runs of m calls, of which the last m - 1 have 1, 2, .. fewer."""
        m = min(self.inner, n)
        return m * n - m * (m - 1) // 2
