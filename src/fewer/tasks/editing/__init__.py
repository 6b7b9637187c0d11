"""Edits of images by a pretrained model: towards a label, within a mask, by methods that are asked for by name."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor

from fewer.plan import Plan
from fewer.tasks.editing.task import Task


class Editor(Protocol):
    """A method that makes edited images from images, by a model and the levels of a plan.

    reach  the level tau up to which images are noised unless the caller says otherwise: 1 keeps nothing but by the method
    needs  the arguments of `fewer.edit` that it cannot do without: "mask", "avoid"
    """

    reach: ClassVar[float]
    needs: ClassVar[tuple[str, ...]]

    def cost(self, plan: Plan) -> int:
        """Network evaluations an image."""

    def edit(self, task: Task) -> Tensor:
        """The edited images (n, *shape) of one micro-batch."""
