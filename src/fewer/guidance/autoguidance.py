"""Autoguidance: away from a weaker version of the network, with the label in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.passes import Passes, finite
from fewer.parts import part


@part(
    "autoguidance",
    title="Autoguidance by a weaker network",
    source="Karras et al. 2024, Guiding a Diffusion Model with a Bad Version of Itself",
)
@dataclass(frozen=True)
class Autoguidance:
    """u = u(weaker) + scale (u - u(weaker)), one pass of the network and one of its `Model.weaker`, both with the label.

    The weaker network may have another schedule and prediction: it is called at the row's level. Both passes count
    as one evaluation each, whatever the weaker network's size. Raises InputError for models without a weaker network.
    """

    scale: float
    rule: ClassVar[str] = "autoguidance"
    passes: ClassVar[int] = 2
    conditions: ClassVar[tuple[str, ...]] = ("label",)
    remembers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        finite("guidance scale", self.scale)

    def parameters(self) -> dict[str, Any]:
        """The scale."""
        return {"scale": float(self.scale)}

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        if passes.weaker is None:
            raise InputError("autoguidance needs a model with a weaker network: give Model.weaker")
        (u,) = passes.outputs("label")
        weak = passes.weaker()
        return weak + self.scale * (u - weak)
