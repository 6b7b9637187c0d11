"""Attentive Eraser: objects are removed by guidance towards a network that does not look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fewer.blocks.find import is_module, network_of
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite, share
from fewer.tasks.editing.attention import redirected, self_attentions
from fewer.tasks.editing.task import Task, rising


@part(
    "attentive-eraser",
    title="Attentive Eraser: an object under a mask is removed by guidance towards self-attention that does not see it",
    source="Sun et al. 2025, Attentive Eraser: Unleashing Diffusion Model's Object Removal Potential via Self-Attention "
    "Redirection Guidance, arXiv:2412.12974",
    papers=(361,),
)
@dataclass(frozen=True)
class AttentiveEraser:
    """The image is inverted, and denoised with u = u(x) + scale (u(redirected) - u(x)), what lies outside of the mask being put
    back after each row. In the redirected pass no place attends to places under the mask, in the layers that are chosen, and of
    places under it the similarities are flattened in the first rows, so that they do not take up what looks alike:

        softmax(c Q K' / sqrt(d) + m) V,    m -inf for keys under the mask, c `similarity` for queries under it, else 1.

    scale       of the guidance, at least 0: 0 is plain inpainting, 1 the redirected network alone
    similarity  c, from 0 to 1, in the share `flattened` of the rows that come first; 1 for networks that normalise queries
    first       number of the first layer that is redirected, of the network's self-attentions; the paper leaves out the first ones

    The way up costs a call a level, and each row one more than the plan's. Raises InputError for networks that have no
    self-attention of diffusers' kind over the image's places alone, for those whose attention processors heed no mask, and for
    layers that there are not.
    """

    scale: float = 6.0
    similarity: float = 0.3
    flattened: float = 0.2
    first: int = 0
    reach: ClassVar[float] = 0.8
    needs: ClassVar[tuple[str, ...]] = ("mask",)

    def __post_init__(self) -> None:
        finite("scale", self.scale, 0)
        share("similarity", self.similarity)
        share("flattened", self.flattened)
        if not isinstance(self.first, int) or isinstance(self.first, bool) or self.first < 0:
            raise InputError(f"first is {self.first!r}; expected the number of a layer, from 0")

    def cost(self, plan: Plan) -> int:
        """A call a level up, the plan, and the redirected passes."""
        return len(rising(plan)) + plan.nfe + (len(plan.rows) if self.scale else 0)

    def edit(self, task: Task) -> Tensor:
        """Up, and down under the guidance."""
        mask = task.mask
        layers = self.layers(task.model)
        if mask is None or mask.ndim != 4:
            raise InputError(f"attentive-eraser needs a mask of a picture; samples have shape {task.model.shape}")
        pooled = mask.amax(1, keepdim=True)
        if not bool((pooled == 0).flatten(1).any(1).all()):
            raise InputError("mask covers a whole image: nothing is left to look at")

        def redirect(n: int, x: Tensor, data: Tensor) -> Tensor:
            if not self.scale:
                return data
            early = n < self.flattened * len(task.plan.rows)
            with redirected(layers, pooled, self.similarity if early else 1.0):
                u = task.seen(n, x, task.labels)
            weak = torch.add(x, u, alpha=-float(task.plan.rows[n].tau))
            return torch.lerp(data, weak, self.scale)

        return task.down(task.up(), redirect)

    def layers(self, model: Model) -> list[nn.Module]:
        """The self-attentions that are redirected."""
        found = self_attentions(network_of(model)) if is_module(model) else []
        if not found:
            raise InputError(
                f"attentive-eraser needs a diffusers network with self-attention; {model.name} has none that is seen"
            )
        if self.first >= len(found):
            raise InputError(f"first is {self.first}; {model.name} has self-attentions 0 .. {len(found) - 1}")
        fused = [layer for layer in found if getattr(layer, "fused_projections", False)]
        if fused:
            raise InputError(
                "attentive-eraser scales queries, and this network's are fused with keys and values: unfuse them"
            )
        chosen = found[self.first :]
        flattens = self.scale and self.flattened and self.similarity != 1
        if flattens and any(getattr(layer, "norm_q", None) is not None for layer in chosen):
            raise InputError(
                f"{model.name} normalises its queries, which takes back the factor on their similarities: give similarity=1"
            )
        return chosen
