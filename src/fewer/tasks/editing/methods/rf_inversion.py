"""RF-inversion: up to noise and down to an edit, either way steered by a linear-quadratic regulator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.noise import Draw
from fewer.plan import Plan
from fewer.registry import part, variant
from fewer.settings import share
from fewer.tasks.editing.task import Task, rising


@part(
    "rf-inversion",
    title="RF-inversion: inversion and editing steered towards typical noise and towards the image",
    source="Rout et al. 2024, Semantic Image Inversion and Editing using Rectified Stochastic Differential Equations, "
    "arXiv:2410.10792",
    papers=(44,),
)
@dataclass(frozen=True)
class RFInversion:
    """Up, from the image y0, under the source's label, and down, under the asked one, with u the model's velocity eps - D:

        dx/dtau = u + gamma ((y1 - x) / (1 - tau) - u)      y1 ~ N(0, I)
        dx/dtau = u + eta   ((x - y0) / tau       - u)      within the window, else u

    The terms beside u are what a linear-quadratic regulator adds to reach y1, and y0. The second is the data prediction
    (1 - eta) D + eta y0, in which form any plan plays it; gamma = eta = 1 over all rows is the image again, to rounding.

    gamma       share of the way to noise that is straight: 0 is DDIM inversion, whose noise may be untypical
    eta         share of the way back that leads to the image: more keeps more of it
    begin, end  the window, in shares of the plan's rows
    stochastic  the paper's equivalent stochastic equations in place of these. Up

                    dx = -(x - gamma y1) / (1 - tau) dtau + sqrt(2 (1 - gamma) tau / (1 - tau)) dW,

                which needs no network: x = (1 - tau) y0 + tau (gamma y1 + sqrt(1 - gamma) z). Down with noise of variance
                2 (1 - eta) tau / (1 - tau) dtau, in steps of first order between the plan's levels

    The defaults are those that kept most of a picture for as many successful edits on the bundled networks; the paper plays Flux
    with gamma 0.5 and eta 0.9 over a quarter of 28 rows. The way up costs a call a level, without guidance.

    Raises InputError for shares outside of [0, 1], and for plans with noise of their own.
    """

    gamma: float = 0.0
    eta: float = 0.5
    begin: float = 0.0
    end: float = 0.5
    stochastic: bool = False
    reach: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in ("gamma", "eta", "begin", "end"):
            share(name, getattr(self, name))
        if self.begin > self.end:
            raise InputError(f"begin is {self.begin:g} and end {self.end:g}; a window begins before it ends")

    def cost(self, plan: Plan) -> int:
        """A call a level up, unless the way is stochastic, and the plan."""
        return plan.nfe + (0 if self.stochastic else len(rising(plan)))

    def edit(self, task: Task) -> Tensor:
        """Up, and down again."""
        if task.plan.stochastic:
            raise InputError(f"rf-inversion has noise of its own; plan {task.plan.name!r} draws some besides")
        if self.stochastic:
            fresh = task.unit(Draw.START_NOISE(), task.model.shape)
            noise = self.gamma * task.noise + math.sqrt(1 - self.gamma) * fresh
            return self._down_with_noise(task, task.noised(noise, task.top))
        target = task.noise

        def towards_noise(x: Tensor, tau: float, u: Tensor) -> Tensor:
            return torch.lerp(u, (target - x) / (1 - tau), self.gamma)

        x = task.up(control=towards_noise if self.gamma else None)

        def towards_image(n: int, x: Tensor, data: Tensor) -> Tensor:
            return torch.lerp(data, task.images, self.weight(n, len(task.plan.rows)))

        return task.down(x, towards_image)

    def weight(self, n: int, rows: int) -> float:
        """Eta of row n: 0 outside of the window."""
        return self.eta if self.begin * rows <= n < self.end * rows else 0.0

    def _down_with_noise(self, task: Task, x: Tensor) -> Tensor:
        """x' = (1 - tau') D + sqrt(tau'^2 - sigma^2) eps + sigma z, sigma^2 = (1 - eta) of what DDPM's step adds.

        DDPM adds tau'^2 (1 - s'^2 / s^2), s = tau / (1 - tau), which is 2 tau / (1 - tau) dtau in short steps.
        """
        levels, noise = task.plan.levels, task.noise_in(x)
        for n, row in enumerate(task.plan.rows):
            tau, there = float(row.tau), float(levels[n + 1])
            weight = self.weight(n, len(task.plan.rows))
            data = torch.lerp(torch.add(x, task.guided(n, x), alpha=-tau), task.images, weight)
            eps = (x - (1 - tau) * data) / tau
            ratio = there * (1 - tau) / (tau * (1 - there))  # s' / s
            sigma = there * math.sqrt(max((1 - weight) * (1 - ratio**2), 0.0))
            x = (1 - there) * data + math.sqrt(max(there**2 - sigma**2, 0.0)) * eps
            if sigma:
                x = torch.add(x, task.draws.row(n), alpha=sigma)  # type: ignore[misc]
            x = task.kept(x, noise, there)
        return x


DDIMInversion = variant(
    RFInversion, "ddim-inversion", "DDIM inversion: up with what an image is, down with what it shall be",
    """Up and down by the model's own velocity: `rf-inversion` with gamma and eta 0, the baseline of methods that invert.""",
    source="Song et al. 2021, DDIM, arXiv:2010.02502; Hertz et al. 2022, Prompt-to-Prompt, arXiv:2208.01626", papers=(),
    gamma=0.0, eta=0.0,
)  # fmt: skip
