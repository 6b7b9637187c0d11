"""What rules that change the output of classifier-free guidance have in common."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from torch import Tensor

from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.passes import Passes


class OnGuided:
    """A rule whose passes are those of classifier-free guidance at its scale `cfg`: 0 and 1 make a single one."""

    cfg: float
    remembers: ClassVar[bool] = False
    __dataclass_fields__: ClassVar[dict[str, Any]]  # of the rule, which is a dataclass

    @property
    def passes(self) -> int:
        """Those of classifier-free guidance."""
        return ClassifierFree(self.cfg).passes

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the passes are told, in the order of the batch."""
        return ClassifierFree(self.cfg).conditions

    def parameters(self) -> dict[str, Any]:
        """The fields."""
        return {each.name: float(getattr(self, each.name)) for each in fields(self)}

    def guided(self, passes: Passes) -> Tensor:
        """u (n, *shape) of classifier-free guidance."""
        return ClassifierFree(self.cfg).output(passes)
