"""PNDM: the weights of classical methods on the noise prediction, carried by DDIM's step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from fewer.registry import part
from fewer.solvers.ode.ipndm import ADAMS_BASHFORTH
from fewer.solvers.trace import Level, Output, Trace, Vector


def transfer(x: Vector, here: Level, there: Level, outputs: Sequence[Output], weights: Sequence[float]) -> Vector:
    """DDIM's step from x with eps = sum_j w_j eps_j; the first output is the one at x, and the weights sum to one.

    From pure noise (s = inf) on, where eps says nothing of D, it is u that is combined.
    """
    first, h = outputs[0], there.tau - here.tau
    step = x + h * first.u
    for weight, out in zip(weights[1:], outputs[1:], strict=True):
        step = step + weight * h * (out.u - first.u if here.tau == 1 else (out.noise - first.noise) / (1 - here.tau))
    return step


@part(
    "pndm",
    title="Pseudo numerical method, Runge-Kutta start",
    source="Liu et al. 2022, PNDM, arXiv:2202.09778",
    ranked=False,
)
@dataclass(frozen=True)
class PNDM:
    """Up to three pseudo Runge-Kutta steps of four calls each, then Adams-Bashforth with the weights of regular steps.

    A Runge-Kutta step combines eps at its start, twice at the middle in time, and at its end by 1, 2, 2, 1 over 6. All
    three are made from 13 calls on, two from 9, one from 5; below, the history grows from one output as in iPNDM.
    """

    order: int = 1
    extra: ClassVar[int] = 3  # calls of a starting step beyond one

    def steps(self, calls: int) -> int:
        """A Runge-Kutta step costs three calls more than a level."""
        return calls - 3 * min(3, (calls - 1) // 4)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """The starting steps, then one call a level."""
        x = trace.start
        history: list[Output] = []
        starting = (calls - len(levels) + 1) // self.extra
        for n, (here, there) in enumerate(pairwise(levels)):
            first = trace.call(x, here)
            history = [first, *history][:4]
            if n < starting:
                x = self.starting_step(trace, x, here, there, first)
            else:
                x = transfer(x, here, there, history, ADAMS_BASHFORTH[len(history) - 1])
        return x

    def starting_step(self, trace: Trace, x: Vector, here: Level, there: Level, first: Output) -> Vector:
        """The classical Runge-Kutta method with DDIM's step for its additions."""
        middle = here.middle_in_time(there)
        second = trace.call(transfer(x, here, middle, [first], [1.0]), middle)
        third = trace.call(transfer(x, here, middle, [first, second], [0.0, 1.0]), middle)
        fourth = trace.call(transfer(x, here, there, [first, third], [0.0, 1.0]), there)
        return transfer(x, here, there, [first, second, third, fourth], [1 / 6, 1 / 3, 1 / 3, 1 / 6])


@part(
    "plms",
    title="Pseudo linear multistep, one call more at its start",
    source="Liu et al. 2022, PNDM, arXiv:2202.09778; Rombach et al. 2022, Latent Diffusion (PLMS), "
    "arXiv:2112.10752; diffusers' skip_prk_steps",
    ranked=False,
)
@dataclass(frozen=True)
class PLMS(PNDM):
    """iPNDM, but that the first step is Heun's: made again with the mean of eps at both of its ends.

    The second level is called twice, and only the second of these outputs is kept.
    """

    extra: ClassVar[int] = 1

    def steps(self, calls: int) -> int:
        """One call more than levels; two calls are too few for that."""
        return calls - 1 if calls > 2 else calls

    def starting_step(self, trace: Trace, x: Vector, here: Level, there: Level, first: Output) -> Vector:
        """Heun's step on eps."""
        trial = trace.call(transfer(x, here, there, [first], [1.0]), there)
        return transfer(x, here, there, [first, trial], [1 / 2, 1 / 2])
