"""Optimal brain surgery with the inverse of an empirical Fisher matrix that is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.gradients import denoising_losses, differentiable
from fewer.compression.subject import Subject
from fewer.registry import part


@part(
    "m-fac",
    title="Optimal brain surgery by a matrix-free inverse of the empirical Fisher matrix",
    source="Frantar, Kurtic & Alistarh 2021, M-FAC: Efficient Matrix-Free Approximations of Second-Order Information, "
    "arXiv:2107.03356",
    papers=(286,),
)
@dataclass(frozen=True)
class MFAC:
    """s_u = sum_(w in u) w^2 / (2 [F^-1]_ww) with F = lambda I + (1/m) sum_i g_i g_i^T over m gradients g_i of the loss.

    The inverse's diagonal follows from Woodbury's identity with G (m, d) the gradients' rows, in O(d m^2):

        diag F^-1 = 1/lambda - sum_ab G_a K_ab G_b / lambda^2,    K = (m I + G G^T / lambda)^-1

    damp  lambda as a share of the mean of the diagonal of the sum
    each  states that one gradient is averaged over
    """

    damp: float = 1e-2
    each: int = 8

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale."""
        names = {span.parameter for g in subject.groups for span in g.spans}
        inside = tuple(f"{member}." for g in subject.groups for member in g.members)
        with differentiable(subject) as every:
            weights = {name: w for name, w in every.items() if name in names or (inside and name.startswith(inside))}
            rows = [
                torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(weights.values()))])
                for loss in denoising_losses(subject, self.each)
            ]
        inverse = inverse_diagonal(torch.stack(rows), self.damp).split([w.numel() for w in weights.values()])
        pairs = zip(weights.items(), inverse, strict=True)
        saliency = {name: w.detach().square() / (2 * own.view_as(w)) for (name, w), own in pairs}
        return {group.name: group.sums(saliency) for group in subject.groups}


def inverse_diagonal(gradients: Tensor, damp: float) -> Tensor:
    """The diagonal (d,) of the inverse of lambda I + G^T G / m for gradients G (m, d), lambda = damp times the mean of the other.

    Raises no error for gradients that are all 0: lambda is then 1.
    """
    m = len(gradients)
    mean = float(gradients.double().square().mean())
    level = damp * mean if mean > 0 else 1.0
    products = (gradients @ gradients.T).double()
    k = torch.linalg.inv(m * torch.eye(m, dtype=torch.float64, device=gradients.device) + products / level)
    factor = torch.linalg.cholesky(k).to(gradients)
    taken = (factor.T @ gradients).double().square().sum(0)
    return ((1 - taken / level) / level).clamp(min=1e-12 / level)
