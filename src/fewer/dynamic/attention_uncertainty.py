"""Starting noises by how far the network's own attention, with some of it dropped, agrees with itself in one call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.blocks.find import is_module, network_of
from fewer.blocks.forwards import forward_of, replaced
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError, whole
from fewer.guidance.pag import layers as layers_of
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import part
from fewer.settings import finite


@dataclass(frozen=True, eq=False)
class ChosenNoise:
    """Noise (n, *shape) for `fewer.sample(model, plan, noise=..)`, and the scores (n, candidates, layers) it was chosen by."""

    noise: Tensor
    scores: Tensor


@part(
    "attention-uncertainty",
    title="ANSE: of several starting noises the one in which masked attention maps disagree least",
    source="Kim & Kim 2025, Model Already Knows the Best Noise: Bayesian Active Noise Selection via Attention in Video Diffusion "
    "Model (its abstract; the masks' form is ours), arXiv:2505.17561",
    papers=(166,),
    role="procedure",
)
def choose_noise(
    model: Model,
    plan: Plan,
    n: int,
    labels: Any = None,
    *,
    candidates: int = 8,
    masks: int = 10,
    keep: float = 0.8,
    layers: tuple[int, ...] | None = None,
    seed: int = 0,
    batch: int = MICRO_BATCH,
) -> ChosenNoise:
    """Of each sample's candidates the noise of least score, from one call of the network at the plan's start,

        BANSA = H(mean_k A_k) - mean_k H(A_k),    A_k = softmax(Q K' / sqrt(d)) over the pairs that mask k keeps,

    averaged over places, heads and layers: H is the entropy of a place's attention (nats), and the difference how far the K
    masked maps disagree (Houlsby et al. 2011, BALD). The logits of one call serve all masks.

    candidates  each costs one pass a sample, on top of the plan's; those of sample i begin at number i times as many of the seed
    masks       K, at least 2; a pair is kept with probability `keep` in (0, 1), a place's pair with itself always
    layers      numbers of a transformer's blocks or of a UNet's attention layers, from 0; None for all. `enough_layers` says
                how many of the first ones rank noises as all do.

    Of the paper we have read the abstract, which has Bernoulli masks and not where they are put. What is chosen is no draw
    of the model's law any more. Raises InputError for networks other than diffusers' DiTTransformer2DModel and UNet2DModel,
    plans whose start is not a multiple of the noise, and numbers out of range.
    """
    for name, value, least in (("n", n, 1), ("candidates", candidates, 1), ("masks", masks, 2), ("batch", batch, 1)):
        whole(name, value, least)
    finite("keep", keep, 0, 1)
    if not 0 < keep < 1:
        raise InputError(f"keep is {keep}; expected a probability in (0, 1)")
    start = plan.check(tuple(model.shape)).start
    if isinstance(start.scale, Tensor) or start.directions is not None:
        raise InputError(
            f"plan {plan.name!r} starts from more than a multiple of the noise; its noise cannot be chosen"
        )
    chosen, y = _chosen(model, layers), model.labels(n, labels)
    noise = unit_noise(seed, Stream.SAMPLES.numbers(n * candidates), model.shape, device=model.device)
    asked = None if y is None else y.repeat_interleave(candidates)
    found = []
    with torch.inference_mode():
        for at in range(0, len(noise), batch):
            some = slice(at, at + batch)
            x, its = float(start.scale) * noise[some], None if asked is None else asked[some]
            logits = _logits(model, chosen, x, float(start.tau), its)
            found.append(torch.stack([disagreement(s, _masks(s.shape[-1], masks, keep, seed)) for s in logits], 1))
    scores = torch.cat(found).view(n, candidates, len(chosen))
    best = torch.arange(n, device=noise.device) * candidates + scores.mean(2).argmin(1)
    return ChosenNoise(noise[best], scores)


def enough_layers(scores: Tensor, correlation: float = 0.7) -> int:
    """The least number of first layers whose mean score has this Pearson correlation with that of all, of scores (.., layers)."""
    finite("correlation", correlation, -1, 1)
    flat = scores.reshape(-1, scores.shape[-1]).double()
    means = flat.cumsum(1) / torch.arange(1, flat.shape[1] + 1)
    with_all = torch.corrcoef(means.T)[-1] if flat.shape[1] > 1 else torch.ones(1)
    return int((with_all >= correlation - 1e-12).to(torch.int8).argmax()) + 1


def disagreement(logits: Tensor, masks: Tensor) -> Tensor:
    """H(mean_k A_k) - mean_k H(A_k) (n,), averaged over heads and places, of logits (n, heads, P, P) and masks (K, P, P)."""
    total, entropies = torch.zeros_like(logits), torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    for mask in masks:
        attention = logits.masked_fill(~mask, -torch.inf).softmax(-1)
        total += attention
        entropies += _entropy(attention)
    return _entropy(total / len(masks)) - entropies / len(masks)


def _entropy(attention: Tensor) -> Tensor:
    return -torch.xlogy(attention, attention).sum(-1).flatten(1).double().mean(1)


def _masks(places: int, masks: int, keep: float, seed: int) -> Tensor:
    """Which pairs are kept (K, P, P): the same for all samples, so that scores compare noises."""
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(masks, places, places, generator=generator) < keep
    return kept | torch.eye(places, dtype=torch.bool)


def _chosen(model: Model, layers: tuple[int, ...] | None) -> list[Any]:
    known = layers_of(network_of(model)) if is_module(model) else []
    if not known:
        raise InputError("attention-uncertainty needs a DiTTransformer2DModel, or a UNet2DModel with attention")
    wrong = [k for k in layers or () if not 0 <= k < len(known)]
    if wrong:
        raise InputError(f"layers has {wrong[0]}; the network has layers 0 .. {len(known) - 1}")
    attentions = [getattr(layer, "attn1", layer) for layer in known]
    if any(getattr(attention, "fused_projections", False) for attention in attentions):
        raise InputError("attention-uncertainty reads queries and keys, and this network's are fused: unfuse them")
    return attentions if layers is None else [attentions[k] for k in layers]


def _logits(model: Model, attentions: list[Any], x: Tensor, tau: float, labels: Tensor | None) -> list[Tensor]:
    """Q K' / sqrt(d) (n, heads, P, P) of each layer in one call at states x of level tau."""
    seen: dict[tuple[int, str], Tensor] = {}

    def kept(own: Callable[[Tensor], Tensor], key: tuple[int, str]) -> Callable[[Tensor], Tensor]:
        def forward(hidden_states: Tensor) -> Tensor:
            seen[key] = own(hidden_states)
            return seen[key]

        return forward

    with ExitStack() as stack:
        for number, attention in enumerate(attentions):
            for name in ("to_q", "to_k"):
                project = attention.get_submodule(name)
                stack.enter_context(replaced(project, kept(forward_of(project), (number, name))))
        model.velocity(x, tau, labels)
    if len(seen) < 2 * len(attentions):
        raise InputError(
            f"attention-uncertainty cannot be used with {model.name}: its attention layers do not ask to_q and to_k"
        )
    found = []
    for number, attention in enumerate(attentions):
        q, k = (
            seen[number, name].unflatten(2, (attention.heads, -1)).transpose(1, 2).float() for name in ("to_q", "to_k")
        )
        found.append(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5)
    return found
