"""What removing a unit does to the loss, to first and second order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.gradients import denoising_losses, differentiable
from fewer.compression.subject import Subject
from fewer.registry import part


@part(
    "taylor",
    title="First-order change of the denoising loss when a unit is removed",
    source="Molchanov et al. 2019, Importance Estimation for Neural Network Pruning, arXiv:1906.10771, equation 8; of diffusion "
    "models Fang et al. 2023, Structural Pruning for Diffusion Models, arXiv:2305.10924",
)
@dataclass(frozen=True)
class Taylor:
    """s_u = mean over parts of the states of ( sum_(w in u) w dL/dw )^2, with L = mean |F - truth|^2

    each  states in a part, over which the derivative is averaged before it is squared
    """

    each: int = 16

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale."""
        total = {g.name: torch.zeros(g.size, dtype=torch.float64) for g in subject.groups}
        with differentiable(subject) as weights:
            for loss in denoising_losses(subject, self.each):
                slopes = _slopes(loss, weights)
                for group in subject.groups:
                    total[group.name] += group.sums(slopes).square()
        parts = sum(-(-len(batch.x) // self.each) for batch in subject.states)
        return {name: each / parts for name, each in total.items()}


@part(
    "gauss-newton",
    title="Second-order change of the outputs when a unit is removed, by random directions",
    source="LeCun, Denker & Solla 1989, Optimal Brain Damage; the estimate by Hutchinson 1990, A stochastic estimator, "
    "doi:10.1080/03610919008812866",
)
@dataclass(frozen=True)
class GaussNewton:
    """s_u = w_u^T H w_u / 2 with H = E[J^T J], the Hessian of |F - F'|^2 / 2 at the network itself, where F' = F.

    J^T J is PSD and needs no second derivative: with v of independent signs, a product

        w_u^T J^T J w_u = E_v ( sum_(w in u) w d(v . F)/dw )^2

    counts what the weights of a unit do together, which a diagonal of H leaves out.

    probes  directions v for each batch of states
    """

    probes: int = 2

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale: the mean square by which outputs move."""
        total = {g.name: torch.zeros(g.size, dtype=torch.float64) for g in subject.groups}
        generator, outputs = torch.Generator().manual_seed(subject.calibration.seed), 0
        with differentiable(subject) as weights:
            for batch in subject.states:
                for _ in range(self.probes):
                    output = subject.call(subject.network, batch)
                    signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
                    slopes = _slopes((signs * output).sum(), weights)
                    outputs += output.numel()
                    for group in subject.groups:
                        total[group.name] += group.sums(slopes).square() / 2
        return {name: each / outputs for name, each in total.items()}


def _slopes(loss: Tensor, weights: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """W dL/dw of every weight that the loss depends on."""
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    pairs = zip(weights.items(), gradients, strict=True)
    return {name: weight.detach() * gradient for (name, weight), gradient in pairs if gradient is not None}
