"""Classifiers for guidance, trained on noisy states with targets that their own past answers soften."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fewer.batch import per_sample
from fewer.errors import InputError, whole
from fewer.guidance.classifier import check_logits
from fewer.registry import part
from fewer.settings import finite


@part(
    "ps-kd",
    room="guidance",
    title="Classifiers of noisy states, trained on targets that their answers of the epoch before refine",
    source="Kim et al. 2021, Self-Knowledge Distillation with Progressive Refinement of Targets, arXiv:2006.12000",
    papers=(350,),
    role="procedure",
)
def train_classifier(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    refined: float = 0.8,
    epochs: int = 60,
    batch: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
) -> Callable[[Tensor, float], Tensor]:
    """Train `network(x, tau)` in place; returns it as a `Model.classifier`: (x (n, *shape), tau) -> logits (n, K).

    Of epoch t = 0 .. T - 1, on states x = (1 - tau) D + tau eps with tau uniform in [0, 1] and fresh eps,

        loss = -sum_k q_k log p_k(x),    q = (1 - a_t) label + a_t p(x) of the network after epoch t - 1,    a_t = refined t / T

    network  called with x (n, *shape) and tau (n,), gives logits (n, K)
    images   (N, *shape) float, clean; labels (N,) int64 in 0 .. K - 1
    refined  in [0, 1), the paper's alpha_T; 0 trains on the labels alone. A classifier that guides needs the truth's
             probabilities, not only its choice, and of noisy states few are sure
    epochs   T, each of all images in batches of `batch`; `lr` is AdamW's rate, which falls to 0 along a cosine

    The network is left in eval mode, without gradients of its weights. Raises InputError for images and labels that do not
    belong together, and numbers out of range.
    """
    finite("refined", refined, 0, 0.999)
    finite("lr", lr, 1e-12)
    whole("epochs", epochs)
    whole("batch", batch)
    if not len(images) or labels.shape != images.shape[:1] or labels.dtype != torch.int64 or int(labels.min()) < 0:
        both = f"images {tuple(images.shape)} and labels {tuple(labels.shape)} of {labels.dtype}"
        raise InputError(f"{both}; expected as many labels, int64, from 0")
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.requires_grad_(True).train().parameters(), lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for t in range(epochs):
        past = copy.deepcopy(network).eval().requires_grad_(False)
        for some in torch.randperm(len(images), generator=draw).to(images.device).split(batch):
            tau = torch.rand(len(some), dtype=torch.float32, generator=draw).to(images)
            noise = torch.randn(images[some].shape, dtype=torch.float32, generator=draw).to(images)
            share = per_sample(tau, images)
            x = (1 - share) * images[some] + share * noise
            logits = check_logits("network", network(x, tau), labels[some])
            target = nn.functional.one_hot(labels[some], logits.shape[1]).to(logits)
            if a := refined * t / epochs:
                target = (1 - a) * target + a * past(x, tau).softmax(1)
            loss = nn.functional.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        falling.step()
    network.eval().requires_grad_(False)
    return lambda x, tau: network(x, torch.full((len(x),), tau, dtype=x.dtype, device=x.device))
