"""SDEdit: noise an image, and denoise it towards a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.plan import Plan
from fewer.registry import part
from fewer.tasks.editing.task import Task


@part(
    "sdedit",
    title="SDEdit: noise an image up to a level, and denoise it towards a label",
    source="Meng et al. 2022, SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations, arXiv:2108.01073",
)
@dataclass(frozen=True)
class SDEdit:
    """x = (1 - tau) D + tau eps at the level `strength`, then the plan. It is diffusers' image-to-image, and the baseline."""

    reach: ClassVar[float] = 0.7
    needs: ClassVar[tuple[str, ...]] = ()

    def cost(self, plan: Plan) -> int:
        """That of the plan."""
        return plan.nfe

    def edit(self, task: Task) -> Tensor:
        """The images, noised and denoised."""
        return task.down(task.noised(task.noise, task.top))
