"""The damped stochastic oscillator, whose motion is Gaussian in closed form: an underdamped Langevin step under a linear score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Oscillator:
    """dx = g^(1/2) v dt,  dv = -g v dt + g^(1/2) (pull - stiffness x) dt + (2 g)^(1/2) dW, for friction g > 0 and stiffness > 0.

    stiffness  float64, one for all or one a coordinate (k,), which broadcasts to states (n, .., k)

    It leaves N(pull / stiffness, 1 / stiffness) for x and N(0, 1) for v as they are, and for a large g it is overdamped Langevin.
    """

    stiffness: Tensor
    friction: float

    def moved(
        self, x: Tensor, v: Tensor, pull: Tensor, time: float, first: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor]:
        """X and v after this time under a constant pull; `first` and `second` are unit noise of x's shape."""
        whole, root = (each.to(x) for each in self.transition(time))
        about = pull / self.stiffness.to(x)
        away = x - about
        return (
            about + whole[..., 0, 0] * away + whole[..., 0, 1] * v + root[..., 0, 0] * first,
            whole[..., 1, 0] * away + whole[..., 1, 1] * v + root[..., 1, 0] * first + root[..., 1, 1] * second,
        )

    def transition(self, time: float) -> tuple[Tensor, Tensor]:
        """exp(M time) (.., 2, 2) of (x less its mean, v), and the lower root of the covariance that noise adds.

        M = -g / 2 + K with K^2 = g^2 / 4 - g stiffness, so that the exponential is that of a number times cosh + sinh K / root.
        """
        a, g = self.stiffness, self.friction
        square = g**2 / 4 - g * a
        root = square.abs().sqrt().clamp_min(1e-12 * g)
        slow = torch.exp(-g * a / (root + g / 2) * time)  # exp((root - g / 2) time), where the square is positive
        fast = torch.exp(-(root + g / 2) * time)
        damped = torch.exp(torch.full_like(a, -g / 2 * time))
        even = torch.where(square > 0, (slow + fast) / 2, damped * torch.cos(root * time))
        odd = torch.where(square > 0, (slow - fast) / 2, damped * torch.sin(root * time)) / root
        whole = _matrix(even + g / 2 * odd, g**0.5 * odd, -(g**0.5) * a * odd, even - g / 2 * odd)
        still = _matrix(1 / a, torch.zeros_like(a), torch.zeros_like(a), torch.ones_like(a))
        added = still - whole @ still @ whole.mT
        x = added[..., 0, 0].clamp_min(0).sqrt()
        across = torch.where(x > 0, added[..., 1, 0] / torch.where(x > 0, x, 1.0), 0.0)
        v = (added[..., 1, 1] - across**2).clamp_min(0).sqrt()
        return whole, _matrix(x, torch.zeros_like(x), across, v)


def _matrix(*entries: Tensor) -> Tensor:
    """Entries (..) of 2 x 2 matrices, row by row, as (.., 2, 2)."""
    return torch.stack(entries, -1).unflatten(-1, (2, 2))
