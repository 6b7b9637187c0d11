"""Autoguidance: away from a weaker version of the network, with the label in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.passes import Passes
from fewer.guidance.rule import Rule, guided
from fewer.registry import part


@part(
    "autoguidance",
    title="Autoguidance by a weaker network",
    source="Karras et al. 2024, Guiding a Diffusion Model with a Bad Version of Itself, arXiv:2406.02507",
)
@dataclass(frozen=True)
class Autoguidance(Rule):
    """u = u(weaker) + scale (u - u(weaker)), one pass of the network and one of its `Model.weaker`, both with the label.

    The weaker network may have another schedule and prediction: it is called at the row's level. Both passes count
    as one evaluation each, whatever the weaker network's size. Raises InputError for models without a weaker network.
    """

    scale: float
    rule: ClassVar[str] = "autoguidance"
    conditions: ClassVar[tuple[str, ...]] = ("label",)  # of the network's own pass
    passes: ClassVar[int] = 2

    def output(self, passes: Passes) -> Tensor:
        """The guided u (n, *shape)."""
        weaker = None if passes.model is None else passes.model.weaker
        if weaker is None:
            raise InputError("autoguidance needs a model with a weaker network: give Model.weaker")
        (u,) = passes.outputs("label")
        return guided(weaker.velocity(passes.x, passes.tau, passes.labels), u, self.scale)
