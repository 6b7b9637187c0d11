"""Images pushed apart inside the network: tokens of attention layers away from those of other images that they are most like."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewer.batch import per_sample
from fewer.blocks.find import is_module, network_of
from fewer.blocks.forwards import forward_of, watched
from fewer.engine import MICRO_BATCH, sample
from fewer.engine.bind import bind
from fewer.errors import InputError, whole
from fewer.guidance.pag import layers
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite


@dataclass(frozen=True)
class Merged:
    """Samples x (n, *shape), and the network `evaluations` a sample, those of the references included."""

    x: Tensor
    evaluations: float


@part(
    "negative-merging",
    title="NegToMe: tokens pushed away from the most similar ones of other images",
    source="Singh et al. 2024, Negative Token Merging: Image-based Adversarial Feature Guidance, arXiv:2412.01339",
    papers=(344,),
)
@dataclass(frozen=True, eq=False)
class NegativeMerging:
    """In the outputs of self-attention layers, for token o_i of an image with r_j the most similar token of the others by cosine,

        o_i <- o_i + strength (o_i - r_j)    where cos(o_i, r_j) > threshold

    in each pass by itself. The others are the images of the same group: samples 0 .. group - 1, and so on, which then
    differ more. Or they are `references` (m, *shape), brought to the row's level with noise of their own, which samples then
    resemble less.

    plan       its guidance is kept
    strength   the paper's alpha, at least 0: 0 is the plan alone
    threshold  in [-1, 1]; 1 changes nothing
    group      at least 2, and n is a multiple of it; it does not depend on the micro-batch
    layers     numbers of a transformer's blocks or of a UNet's attention layers, from 0; None for all
    reference_labels  integers (m,), or one for all, of a model with classes

    References cost their own passes, m a call of a micro-batch; a group costs no pass. Raises InputError for networks other than
    diffusers' DiTTransformer2DModel and UNet2DModel, numbers out of range, and references without classes where the model has some.
    """

    plan: Plan
    strength: float = 0.9
    threshold: float = 0.65
    group: int = 4
    layers: tuple[int, ...] | None = None
    references: Tensor | None = None
    reference_labels: Any = None

    def __post_init__(self) -> None:
        finite("strength", self.strength, 0, 1e6)
        finite("threshold", self.threshold, -1, 1)
        whole("group", self.group, 2)

    def sample(
        self, model: Model, n: int = 64, *, seed: int = 0, noise: Tensor | None = None, labels: Any = None,
        batch: int = MICRO_BATCH,
    ) -> Merged:  # fmt: skip
        """Samples as `fewer.sample` draws them from these arguments; a micro-batch holds whole groups."""
        n = n if noise is None else len(noise)
        whole("n", n)
        whole("batch", batch)
        m = 0 if self.references is None else len(self.references)
        if not m and n % self.group:
            raise InputError(f"n is {n}; expected a multiple of the group, {self.group}")
        size = batch if m else max(self.group, batch - batch % self.group)
        bind(model, self.plan)  # which looks for the blocks that rows leave out in a call of one sample, no whole group
        with ExitStack() as stack:
            attentions = [getattr(layer, "attn1", layer) for layer in self._chosen(model)]
            ran = [stack.enter_context(watched(each, self._pushing(forward_of(each), m))) for each in attentions]
            played = self._beside(model, seed) if m else model
            x = sample(played, self.plan, n, seed=seed, noise=noise, labels=labels, batch=size)
        enough = any if any(row.blocks for row in self.plan.rows) else all  # rows may leave out a layer's block
        if not enough(each.yes for each in ran):
            raise InputError(f"negative-merging cannot be used with {model.name}: it does not run its attention layers")
        calls = len(self.plan.rows) * -(-n // size)
        return Merged(x, self.plan.nfe + calls * m / n)

    def _chosen(self, model: Model) -> list[Any]:
        known = layers(network_of(model)) if is_module(model) else []
        if not known:
            raise InputError("negative-merging needs a DiTTransformer2DModel, or a UNet2DModel with attention")
        wrong = [k for k in self.layers or () if not 0 <= k < len(known)]
        if wrong:
            raise InputError(f"layers has {wrong[0]}; the network has layers 0 .. {len(known) - 1}")
        return known if self.layers is None else [known[k] for k in self.layers]

    def _pushing(self, own: Callable[..., Tensor], m: int) -> Callable[..., Tensor]:
        """The attention whose last m images are references, or whose images are in groups where m is 0."""

        def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            out = own(hidden_states, *args, **kwargs)
            tokens = out.flatten(2).transpose(1, 2) if out.ndim == 4 else out
            if m:
                others = tokens[-m:].flatten(0, 1).expand(len(tokens) - m, -1, -1)
                pushed = torch.cat([pushed_apart(tokens[:-m], others, self.strength, self.threshold), tokens[-m:]])
            else:
                together = tokens.reshape(-1, self.group * tokens.shape[1], tokens.shape[2])
                image = torch.arange(self.group).repeat_interleave(tokens.shape[1]).to(out.device)
                own_image = image[:, None] == image
                pushed = pushed_apart(together, together, self.strength, self.threshold, own_image).view_as(tokens)
            return pushed.transpose(1, 2).reshape(out.shape) if out.ndim == 4 else pushed

        return forward

    def _beside(self, model: Model, seed: int) -> Model:
        """The model whose calls run the references too, at the level of the call."""
        assert self.references is not None
        if tuple(self.references.shape[1:]) != tuple(model.shape):
            expected = f"(m, {', '.join(map(str, model.shape))})"
            raise InputError(f"references have shape {tuple(self.references.shape)}; {model.name} needs {expected}")
        if model.classes is not None and self.reference_labels is None:
            raise InputError(f"{model.name} has classes: give reference_labels")
        m = len(self.references)
        labels = model.labels(m, self.reference_labels)
        noise = unit_noise(seed, Stream.CHOICE.numbers(m), model.shape, device=model.device)
        return replace(model, network=_Beside(model, self.references.to(noise), noise, labels))


@dataclass(frozen=True, eq=False)
class _Beside:
    """A network that sees references with every batch, and gives the outputs of the batch alone."""

    model: Model
    references: Tensor
    noise: Tensor
    labels: Tensor | None

    @property
    def module(self) -> Any:
        """The network in which blocks are found."""
        return network_of(self.model)

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        tau = self.model.schedule.tau(t[:1].double())
        c_in = self.model.affine(tau).c_in
        level, scale = (per_sample(value, self.references).to(self.references) for value in (tau, c_in))
        noised = scale * ((1 - level) * self.references + level * self.noise)
        both = None if labels is None or self.labels is None else torch.cat([labels, self.labels])
        return self.model.output(torch.cat([x, noised.to(x)]), t[:1], both)[: len(x)]


def pushed_apart(
    tokens: Tensor, others: Tensor, strength: float, threshold: float, forbidden: Tensor | None = None
) -> Tensor:
    """o_i + strength (o_i - r_j) (n, P, d) of tokens (n, P, d), r_j the most similar of the others (n, R, d).

    Tokens without one above the threshold stay.

    forbidden  (P, R): pairs that are not matched
    """
    similar = F.normalize(tokens, dim=-1) @ F.normalize(others, dim=-1).transpose(1, 2)
    if forbidden is not None:
        similar = similar.masked_fill(forbidden, -2.0)
    best, j = similar.max(-1)
    nearest = others.gather(1, j[..., None].expand(-1, -1, tokens.shape[-1]))
    return torch.where((best > threshold)[..., None], tokens + strength * (tokens - nearest), tokens)
