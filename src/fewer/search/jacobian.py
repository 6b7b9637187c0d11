"""How the samples of a plan change with its numbers: differences of rollouts, kept good by secant updates as the plan moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.engine import History
from fewer.plan import Plan


@dataclass(frozen=True)
class Rollout:
    """A plan's samples (n, *shape), and what was made on the way to them, a history for each micro-batch."""

    plan: Plan
    samples: Tensor
    histories: tuple[History, ...]


@dataclass(frozen=True)
class Jacobian:
    """Changes (K, n, d), float32 on the CPU, of n samples of d numbers by a step `widths` (K,) along each of K parameters.

    parts  slices of the samples, over which sums are taken one after the other
    """

    changes: Tensor
    widths: Tensor
    parts: Sequence[slice]

    def equations(self, residuals: Tensor, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """J'J (K, K) and J'r (K,), float64, of residuals (n, *shape) divided by sqrt(n d): r'r is the mean squared error.

        counted  (n,) which samples count; all by default
        """
        size, n, d = self.changes.shape
        gram = torch.zeros(size, size, dtype=torch.float64)
        slope = torch.zeros(size, dtype=torch.float64)
        counted = torch.ones(n, dtype=torch.float32) if counted is None else counted
        for part in self.parts:
            weight = (n * d) ** -0.5 * counted[part].double().repeat_interleave(d)
            r = residuals[part].flatten().double().cpu() * weight
            columns = self.changes[:, part].flatten(1).double() * weight / self.widths[:, None]
            gram += columns @ columns.T
            slope += columns @ r
        return gram, slope

    def centred(self, opposite: Sequence[int]) -> Jacobian:
        """The Jacobian of central differences along the parameters whose opposite steps, by -widths, are its last columns:
        (x(theta + h) - x(theta - h)) / 2 h.

        opposite  indices of these parameters, in the order of the last columns
        """
        forward = len(self.widths) - len(opposite)
        changes = self.changes[:forward].clone()
        for i, back in zip(opposite, self.changes[forward:], strict=True):
            changes[i].sub_(back).div_(2)
        return Jacobian(changes, self.widths[:forward], self.parts)

    def updated(self, step: Tensor, change: Tensor, scale: Tensor) -> Jacobian:
        """The Jacobian that gives what a step (K,) has changed, (n, *shape), and is nearest to this one: J + (y - J s) v',
        v = scale^2 s / |scale s|^2.

        scale  (K,) what a unit of each parameter amounts to
        Source: Broyden 1965, doi:10.1090/S0025-5718-1965-0198670-6, in scaled parameters.
        """
        along = (step / self.widths).float()
        missed = change.flatten(1).float().cpu() - torch.einsum("k,knd->nd", along, self.changes)
        share = scale.square() * step / (scale * step).square().sum()
        return Jacobian(self.changes + (share * self.widths).float()[:, None, None] * missed, self.widths, self.parts)
