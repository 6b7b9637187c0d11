"""Optimal brain surgery with the inverse of an empirical Fisher matrix that is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.gradients import denoising_losses, differentiable
from fewer.compression.subject import Subject
from fewer.compression.work import Work
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

    F is taken in blocks of neighbouring weights of one matrix: of a million weights together m gradients say so little that the
    diagonal would be a constant, and the score that of magnitudes.

    damp   lambda as a share of the mean of the diagonal of the sum
    each   states that one gradient is averaged over
    block  weights of a block
    """

    damp: float = 1e-2
    each: int = 8
    block: int = 256

    def work(self, subject: Subject) -> Work:
        """A gradient of each calibration state."""
        return Work(subject.size, subject.size)

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale."""
        with differentiable(subject) as every:
            weights = {name: w for name, w in every.items() if any(g.holds(name) for g in subject.groups)}
            rows = [torch.autograd.grad(loss, list(weights.values())) for loss in denoising_losses(subject, self.each)]
        gradients = [torch.stack([row[n].flatten() for row in rows]) for n in range(len(weights))]
        mean = torch.cat([each.square().mean(0) for each in gradients]).double().mean()
        level = self.damp * float(mean) or 1.0
        saliency = {}
        for (name, weight), own in zip(weights.items(), gradients, strict=True):
            inverse = torch.cat([inverse_diagonal(part, level) for part in own.split(self.block, 1)])
            saliency[name] = weight.detach().square() / (2 * inverse.view_as(weight))
        return {group.name: group.sums(saliency) for group in subject.groups}


def inverse_diagonal(gradients: Tensor, level: float) -> Tensor:
    """The diagonal (d,) of the inverse of level I + G^T G / m for gradients G (m, d), float64."""
    g = gradients.double()
    k = torch.linalg.inv(len(g) * torch.eye(len(g), dtype=g.dtype, device=g.device) + g @ g.T / level)
    taken = (torch.linalg.cholesky(k).T @ g).square().sum(0)
    return (1 - taken / level).clamp(min=1e-12) / level
