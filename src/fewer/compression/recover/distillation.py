"""Gradient steps of the light network towards the full one's outputs and features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fewer.arguments import as_count
from fewer.compression.cut import masked, zeros_of
from fewer.compression.recover.ends import Ends
from fewer.compression.recover.least_squares import reader
from fewer.compression.subject import Subject, watched
from fewer.compression.work import Work, taught
from fewer.registry import part, variant
from fewer.settings import positive, share

Error = Callable[[Tensor, Tensor, Tensor], Tensor]
"""of outputs (n, *shape), the full network's and times (n,)"""
ROUGH = 0.02  # the relative loss from which on the rate is not lowered


@part(
    "distillation",
    title="Distillation of outputs and normalised features",
    source="Zhang et al. 2024, LAPTOP-Diff: Layer Pruning and Normalized Distillation for Compressing Diffusion Models, "
    "arXiv:2404.11098, section 3.3",
    papers=(160,),
)
@dataclass(frozen=True)
class Distillation:
    """AdamW on    |F - F'|^2 / |F|^2 + features / L sum_l |f_l - f'_l|^2 / |f_l|^2

    F is the full network's output, F' the light one's, f_l and f'_l the outputs of the layers that read removed units, or of
    blocks that lost all of theirs. Each term is divided by the full network's own mean square, so that none of large numbers
    decides alone. The rate warms up over a tenth of the steps and falls to 0 along a cosine. Its highest value is
    lr min(1, e / 0.02)^caution, with e = |F - F'|^2 / |F|^2 before the first step: AdamW's steps are as long as their rate whatever
    the loss, and long ones undo a cut that is nearly repaired.

    steps     gradient steps, of `batch` fresh states each; `lr` the highest rate
    caution   how fast the rate falls with what is left to repair; 0: not at all
    features  weight of the features; 0 for outputs alone
    ends      whether errors of the output count as they do at the end of sampling (`Ends`), or over pixels and levels alike
    """

    steps: int = 100
    batch: int = 64
    lr: float = 3e-3
    caution: float = 1.0
    features: float = 1.0
    ends: bool = False

    def __post_init__(self) -> None:
        as_count(self.steps, "steps", 1)
        as_count(self.batch, "batch", 1)
        positive("lr", self.lr)
        share("caution", self.caution, math.inf)
        share("features", self.features, math.inf)

    def work(self, subject: Subject) -> Work:
        """The steps, and the loss before the first."""
        steps = taught(self.steps, self.batch)
        return replace(steps, evaluations=steps.evaluations + subject.size)

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """As many gradient steps as there are `steps`, or fewer where the loss is no longer finite."""
        rate = self.lr * min(1.0, self._loss(subject, light, alike) / ROUGH) ** self.caution
        stay = zeros_of(light, subject.groups)
        return trained(subject, light, self.steps, rate, self._terms(subject, light, kept), lambda: masked(light, stay))

    def own_loss(self, subject: Subject, light: nn.Module) -> float:
        """The first term, of all calibration states together."""
        return self._loss(subject, light, self._error(subject))

    @torch.no_grad()
    def _loss(self, subject: Subject, light: nn.Module, error: Error) -> float:
        states = subject.states
        outputs, targets, t = (
            torch.cat(each) for each in zip(*((subject.call(light, b), b.target, b.t) for b in states), strict=True)
        )
        return float(error(outputs, targets, t))

    def _error(self, subject: Subject) -> Error:
        return Ends.of(subject.calibration).relative if self.ends else alike

    def _terms(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> Callable[[int], Tensor]:
        groups = [g for g in subject.groups if g.spans and g.name in kept and self.features]
        names = [reader(g) if len(kept[g.name]) else g.module for g in groups]
        error = self._error(subject)

        def loss(number: int) -> Tensor:
            with watched(subject.network, names) as full, watched(light, names) as own:
                batch = subject.fresh(self.batch, number)
                total = error(subject.call(light, batch), batch.target, batch.t)
            terms = [relative(own[name].float(), full[name].float()) for name in names]
            return total + self.features * torch.stack(terms).mean() if terms else total

        return loss


EndDistillation = variant(
    Distillation,
    "end-distillation",
    "Distillation of outputs whose errors count as they do at the end of sampling",
    """AdamW on    sum_k w_k |F_k - F'_k|^2 / sum_k w_k |F_k|^2

    F_k are the output's Fourier coefficients, and w_k what an error of them at the state's level counts where samples end, by the
    spectrum of the calibration's samples (`fewer.compression.recover.ends.Ends`). Features are left out: they are compared over
    places and levels alike, and of a cut that is nearly repaired they would decide alone. Steps are as of `distillation`, with more
    caution: errors at high levels count many times, and a few long steps undo more of them than all later ones repair.
    """,
    source="this package, by the flow of Gaussian data; the steps as of Zhang et al. 2024, LAPTOP-Diff, arXiv:2404.11098",
    papers=(),
    ends=True,
    caution=2.0,
    features=0.0,
)


def alike(output: Tensor, target: Tensor, t: Tensor) -> Tensor:
    """`relative`, whatever the times."""
    return relative(output, target)


def relative(output: Tensor, target: Tensor) -> Tensor:
    """|output - target|^2 / |target|^2."""
    return (output - target).square().mean() / target.square().mean().clamp(min=1e-12)


def trained(
    subject: Subject, light: nn.Module, steps: int, lr: float, loss: Callable[[int], Tensor],
    after: Callable[[], object] | None = None, parameters: Sequence[nn.Parameter] | None = None,
) -> int:  # fmt: skip
    """The light network after so many steps of AdamW down the loss of a step's number; `after` is called after each.

    All its parameters are trained, or those that are given.

    The number of steps that were made: it ends before one whose loss is not finite.
    """
    moving = list(light.parameters() if parameters is None else parameters)
    for parameter in moving:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(moving, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    try:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = (
                lr * min(1.0, 10 * (step + 1) / steps) * (1 + math.cos(math.pi * step / steps)) / 2
            )
            value = loss(step)
            if not bool(value.isfinite()):
                return step
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(moving, 1.0)
            optimizer.step()
            if after is not None:
                after()
            subject.progress("recovery", step + 1, steps)
    finally:
        light.requires_grad_(False)
    return steps
