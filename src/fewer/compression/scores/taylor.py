"""What removing a unit does to the loss, to first and second order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.compression.gradients import denoising_losses, differentiable
from fewer.compression.recover.ends import Ends
from fewer.compression.subject import Subject
from fewer.compression.work import Work
from fewer.registry import part, variant


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

    def work(self, subject: Subject) -> Work:
        """A gradient of each calibration state."""
        return Work(subject.size, subject.size)

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
    ends    whether changes of the output count as they do at the end of sampling (`Ends`), or over pixels and levels alike
    """

    probes: int = 2
    ends: bool = False

    def work(self, subject: Subject) -> Work:
        """A gradient of each calibration state and direction."""
        return Work(self.probes * subject.size, self.probes * subject.size)

    def rate(self, subject: Subject) -> dict[str, Tensor]:
        """Of all units, on one scale: the mean square by which outputs move, or by which samples end elsewhere."""
        total = {g.name: torch.zeros(g.size, dtype=torch.float64) for g in subject.groups}
        generator, outputs = torch.Generator().manual_seed(subject.calibration.seed), 0
        ends = Ends.of(subject.calibration) if self.ends else None
        with differentiable(subject) as weights:
            for batch in subject.states:
                for _ in range(self.probes):
                    output = subject.call(subject.network, batch)
                    signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
                    direction = signs if ends is None else ends.roots(signs, batch.t)
                    slopes = _slopes((direction * output).sum(), weights)
                    outputs += output.numel()
                    for group in subject.groups:
                        total[group.name] += group.sums(slopes).square() / 2
        return {name: each / outputs for name, each in total.items()}


EndGaussNewton = variant(
    GaussNewton,
    "end-gauss-newton",
    "Second-order change, when a unit is removed, of where samples end",
    """s_u = w_u^T H w_u / 2 with H = E[J^T W J], the Hessian of sum_k w_k |F_k - F'_k|^2 / 2 at the network itself.

    F_k are the output's Fourier coefficients, and w_k what an error of them at the state's level counts where samples end
    (`fewer.compression.recover.ends.Ends`). Directions are W^(1/2) v with v of independent signs; otherwise as `gauss-newton`.
    Where a network predicts noise, what it does at high levels changes its outputs little and its samples much.
    """,
    source="this package, by the flow of Gaussian data; directions as of Hutchinson 1990, doi:10.1080/03610919008812866",
    papers=(),
    ends=True,
)


def _slopes(loss: Tensor, weights: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """W dL/dw of every weight that the loss depends on."""
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    pairs = zip(weights.items(), gradients, strict=True)
    return {name: weight.detach() * gradient for (name, weight), gradient in pairs if gradient is not None}
