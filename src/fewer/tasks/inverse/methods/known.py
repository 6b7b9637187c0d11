"""What a linear measurement knows of a sample: coordinates along orthonormal directions, each with a noise of its own.

A = U L^(1/2) B with orthonormal rows of B: c = B x is seen as U' y / L^(1/2), under noise of deviation n = noise / L^(1/2). A
process of diffusion adds as much up to the level s = n: with X = x + s eps, the coordinate of X is N(seen, s^2 - n^2) above that
level, and below it seen is N(coordinate of X, n^2 - s^2); both are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.tasks.inverse.operators import DENSE, Inpainting
from fewer.tasks.inverse.problem import Likelihood

SINGULAR = 1e-10  # of the largest eigenvalue of A A', below which a direction is not seen


@dataclass(frozen=True, eq=False)
class Known:
    """The known coordinates of samples (n, *shape).

    coordinates  B x (n, k); `back` is B' c (n, *shape)
    seen         (n, k), and `noise` (k,), float64
    """

    coordinates: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    seen: Tensor
    noise: Tensor

    @classmethod
    def of(cls, given: Likelihood) -> Known:
        """Of linear measurements. Raises InputError for over 1024 values that are not pixels."""
        operator, y = given.linear, given.y
        if isinstance(operator, Inpainting):
            deviation = torch.full(operator.measured, given.noise, dtype=torch.float64)
            return cls(operator, operator.adjoint, y, deviation)
        if math.prod(operator.measured) > DENSE:
            raise InputError(f"this method takes pixels as they are (inpaint), or at most {DENSE} measured values")
        values, vectors = operator.spectrum
        some = values > SINGULAR * values.max()
        widths, basis = values[some].sqrt(), vectors[:, some]

        def coordinates(x: Tensor) -> Tensor:
            return operator(x).flatten(1) @ (basis / widths).to(x)

        def back(c: Tensor) -> Tensor:
            return operator.adjoint((c @ (basis / widths).T.to(c)).view(len(c), *operator.measured))

        return cls(coordinates, back, y.flatten(1) @ (basis / widths).to(y), given.noise / widths)

    def put(self, x: Tensor, c: Tensor) -> Tensor:
        """X with these coordinates."""
        return x + self.back(c - self.coordinates(x))

    def above(self, s: float) -> Tensor:
        """Whether the level is above a coordinate's noise (k,)."""
        return self.noise < s

    def apart(self, s: float) -> Tensor:
        """|s^2 - n^2| (k,), at least a millionth of s^2."""
        return (s**2 - self.noise**2).abs().clamp_min(1e-6 * s**2)

    def noisy(self, x: Tensor, s: float, own: Tensor) -> Tensor:
        """X with the seen coordinates at a level, under unit noise `own` (n, k); those below their noise stay."""
        c = self.coordinates(x)
        return self.put(x, torch.where(self._at(c, s), self.seen + self.apart(s).sqrt().to(c) * own, c))

    def stiffness(self, s: float, guidance: float) -> Tensor:
        """By which the score of a coordinate falls (k,), its data prediction held."""
        apart = self.apart(s)
        return torch.where(self.above(s), (1 + guidance) / apart, 1 / s**2 + 1 / apart)

    def pull(self, c: Tensor, data: Tensor, s: float, guidance: float) -> Tensor:
        """The score plus stiffness times c, where the data prediction has the coordinates `data`.

        Above a coordinate's noise the score is that of N(seen, s^2 - n^2), led by the model's; below, the posterior's own.
        """
        seen = self.seen / self.apart(s).to(c)
        led = (1 + guidance) * seen + guidance * (c - data) / s**2
        return torch.where(self._at(c, s), led, data / s**2 + seen)

    def step(self, x: Tensor, data: Tensor, s: float, to: float) -> Tensor:
        """DDIM from level s to a lower one; a coordinate that is still known there is left to `noisy`, one that was known above
        starts from its seen value at the level of its noise.
        """
        c, d = self.coordinates(x), self.coordinates(data)
        share = torch.where(self.above(s), to / self.noise.clamp_min(to), to / s).to(c)
        begun = torch.where(self._at(c, s), self.seen, c)
        return self.put(data + (to / s) * (x - data), d + share * (begun - d))

    def at_end(self, data: Tensor, s: float) -> Tensor:
        """The data prediction with the seen coordinates of those whose noise is below the last level."""
        c = self.coordinates(data)
        return self.put(data, torch.where(self._at(c, s), self.seen, c))

    def _at(self, c: Tensor, s: float) -> Tensor:
        return self.above(s).to(c.device).expand(c.shape)
