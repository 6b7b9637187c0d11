"""StyleSSP: a better start for style transfer, by inversion guided by the style's content and fewer low frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite, positive, share
from fewer.tasks.editing.task import Task, rising


@part(
    "style-ssp",
    title="StyleSSP: inversion guided by the style's content, and a start with fewer low frequencies",
    source="Xu et al. 2025, StyleSSP: Sampling StartPoint Enhancement for Training-free Diffusion-based Method for Style Transfer, "
    "arXiv:2501.11319",
    papers=(351,),
)
@dataclass(frozen=True)
class StyleSSP:
    """Up with u = guidance u(source) + (1 - guidance) u(avoid), then of the state's frequencies f, in units of the largest,

        x'(f) = (1 - (1 - low) exp(-f^2 / (2 cutoff^2))) x(f),

    and down by the plan towards the label, which stands for the style. `avoid` is the label of what the style's examples show,
    which shall not leak into the image. The paper does this before pipelines whose conditions (a style's image, edges) belong to
    the model here.

    guidance  above 1, as in the paper, `avoid` is a negative prompt of the inversion (1.5 is its code's); 1 leaves out the pass
              of `avoid`. On the way up dx/dtau = eps - D, so that a D pushed away from `avoid` leaves more of it in the start: with
              an exact model more leaks than without guidance (the claim `style-ssp/leakage` is not confirmed). Below 1 the way up
              goes as if the image were in part what it shall avoid, and less leaks there (`style-ssp/below-one`, at 0.75)
    low       share of the lowest frequencies that is left: 1 filters none
    cutoff    deviation of the Gaussian low-pass, above 0

    Raises InputError for numbers out of range, and for samples that are no pictures (.., H, W).
    """

    guidance: float = 1.5
    low: float = 0.7
    cutoff: float = 0.3
    reach: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("avoid",)

    def __post_init__(self) -> None:
        finite("guidance", self.guidance)
        share("low", self.low)
        positive("cutoff", self.cutoff)

    def cost(self, plan: Plan) -> int:
        """One or two calls a level up, and the plan."""
        return plan.nfe + len(rising(plan)) * (1 if self.guidance == 1 else 2)

    def edit(self, task: Task) -> Tensor:
        """Up, the filter, and down."""
        if task.images.ndim < 3:
            raise InputError(f"style-ssp filters pictures; {task.model.name} makes samples of shape {task.model.shape}")

        def velocity(n: int, x: Tensor) -> Tensor:
            if self.guidance == 1 or task.source is None or task.avoid is None:
                return task.seen(n, x, task.source)
            own, other = task.seen(n, torch.cat([x, x]), torch.cat([task.source, task.avoid])).chunk(2)
            return torch.lerp(other, own, self.guidance)

        return task.down(self.filtered(task.up(velocity)))

    def filtered(self, x: Tensor) -> Tensor:
        """States (.., H, W) with fewer low frequencies."""
        if self.low == 1:
            return x
        height, width = x.shape[-2:]
        down, along = (2 * torch.fft.fftfreq(size, device=x.device) for size in (height, width))
        squares = down[:, None].square() + along.square()
        gain = 1 - (1 - self.low) * torch.exp(-squares / (2 * self.cutoff**2))
        return torch.fft.ifft2(torch.fft.fft2(x) * gain).real
