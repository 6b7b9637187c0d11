"""DYffusion: a forecaster and an interpolator in turn, along physical time in the place of noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from fewer.arguments import as_count
from fewer.errors import InputError, whole
from fewer.noise import Draw, unit_noise
from fewer.registry import part
from fewer.tasks.series.states import BATCH, from_states, output

Forecaster = Callable[[Tensor, float], Tensor]
Interpolator = Callable[[Tensor, Tensor, float, Tensor], Tensor]


@part(
    "dyffusion",
    title="Cold sampling along physical time: a forecaster of the end and a stochastic interpolator of times between",
    source="Rühling Cachay et al. 2023, DYffusion: A Dynamics-informed Diffusion Model for Spatiotemporal Forecasting, "
    "arXiv:2306.01984",
    papers=(171,),
    role="procedure",
)
@dataclass(frozen=True)
class DYffusion:
    """From s_0 = x_0 at times 0 = i_0 < i_1 < .. < i_{N-1} < h, with x^ = F(s_n, i_n) the forecast of time h from time i_n:

        s_{n+1} = s_n + I(x_0, x^, i_{n+1}) - I(x_0, x^, i_n)        I(x_0, x^, 0) = x_0

    and the last x^ is the forecast of time h. The naive rule is s_{n+1} = I(x_0, x^, i_{n+1}).

    forecaster    F(s, i): x_h (n, *frame) from states s (n, *frame) of time i; one call a step
    interpolator  I(x_0, x_h, i, z): a draw of x_i (n, *frame), 0 < i < h, by unit noise z (n, *frame). One whose chance is its own
                  dropout leaves z alone. Two calls a step, one in the first
    horizon       h, in the data's times
    times         i_1, .., which need not be whole; by default 1, 2, .., h - 1
    cold          the rule above, or the naive one
    refined       whether times between are drawn again by I(x_0, x_h, j) at the end, as the paper does where accuracy counts
    kept          whether a draw has one noise z for all of its interpolations; the paper's have fresh ones, so that a
                  step of the cold rule adds the noise of two
    """

    forecaster: Forecaster
    interpolator: Interpolator
    horizon: int
    times: Sequence[float] | None = None
    cold: bool = True
    refined: bool = True
    kept: bool = False

    def __post_init__(self) -> None:
        whole("horizon", self.horizon)
        try:
            rising = all(a < b for a, b in pairwise((0.0, *self._between, float(self.horizon))))
        except TypeError:
            rising = False
        if not rising:
            raise InputError(
                f"times are {self.times!r}; expected rising numbers between 0 and the horizon {self.horizon}"
            )

    @property
    def _between(self) -> tuple[float, ...]:
        return tuple(range(1, self.horizon)) if self.times is None else tuple(self.times)

    @property
    def nfe(self) -> int:
        """Calls of the forecaster a draw; the interpolator is called about twice as often."""
        return 1 + len(self._between)

    def draw(self, start: Tensor, n: int = 100, seed: int = 0, batch: int = BATCH) -> Tensor:
        """Draws (B, n, horizon, *frame) of the times 1 .. h after states `start` (B, *frame), so many of them at a time.

        Whole times that the sampler does not visit are drawn by the interpolator between x_0 and the forecast of time h, and so
        are all with `refined`. Raises InputError for states or draws that are not finite and for what a network returns that is
        no tensor of its states' shape, and ForeignError for what it raises.
        """
        seed = as_count(seed, "seed", 0)
        return from_states(start, n, batch, lambda first, numbers: self._drawn(first, seed, numbers))

    def _drawn(self, first: Tensor, seed: int, numbers: range) -> Tensor:
        """Draws (n, horizon, *frame) after states (n, *frame), the noise of each its own by its number."""
        count = 0

        def between(end: Tensor, time: float) -> Tensor:
            nonlocal count
            if time == 0:
                return first
            z = unit_noise(seed, numbers, first.shape[1:], Draw.MOVE(count), first.device)
            count += not self.kept
            return output("the interpolator", self.interpolator, first, first, end, time, z)

        visited: dict[float, Tensor] = {}
        s, end = first, first
        for here, there in pairwise((0.0, *self._between, float(self.horizon))):
            end = output("the forecaster", self.forecaster, first, s, here)
            if there == self.horizon:
                break
            ahead = between(end, there)
            s = s + ahead - between(end, here) if self.cold else ahead
            visited[there] = s
        own = {} if self.refined else visited
        frames = [own[j] if j in own else between(end, float(j)) for j in range(1, self.horizon)]
        return torch.stack([*frames, end], 1)
