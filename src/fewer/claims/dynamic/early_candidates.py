"""Edits of exact images whose middle belongs to the class and whose rim does not: which seeds keep the rim."""

from __future__ import annotations

from functools import cache

import torch
from scipy.stats import spearmanr
from torch import Tensor

from fewer import GaussianMixture, Model, standard
from fewer.claims.beds import scaled_linear
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import mean
from fewer.dynamic.early_candidates import Edited, edit_best
from fewer.guidance import guide

CLASSES, RIMS, SIDE, VARIANCE = 3, 6, 4, 0.02
ROWS, STRENGTH, SCALE, SOURCES = 16, 0.8, 2.0, 600
CANDIDATES, EARLY, WHOLE = 8, 3, 3


@cache
def images() -> tuple[GaussianMixture, Model]:
    """Every class with every rim, so that the class says nothing of the rim."""
    generator = torch.Generator().manual_seed(0)
    middles, rims = (torch.randn(k, SIDE, SIDE, dtype=torch.float64, generator=generator) for k in (CLASSES, RIMS))
    means = torch.where(middle(), middles[:, None], rims[None]).view(-1, SIDE * SIDE)
    k, d = means.shape
    one = torch.ones(k, dtype=torch.float64)
    mixture = GaussianMixture(
        one, means, torch.zeros(k, d, 0, dtype=torch.float64), torch.zeros(k, 0, dtype=torch.float64), VARIANCE * one,
        (1, SIDE, SIDE), torch.arange(CLASSES).repeat_interleave(RIMS),
    )  # fmt: skip
    return mixture, Model.from_mixture(mixture, scaled_linear(), conditional=True, name="middle and rim")


def middle() -> Tensor:
    """Where the class is seen."""
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    return inside


def edits(seed: int, candidates: int, early: int | None) -> tuple[Edited, Tensor]:
    """Edits of draws to the next class, after so many rows or all of them, and the mean squared change of the rim (n,)."""
    mixture, model = images()
    sources, labels = mixture.sample(SOURCES, 7919 * seed + 1)
    assert labels is not None
    plan = guide(standard("dpmpp-2m", model, ROWS, "logsnr"), SCALE)
    left = len(plan.from_level(STRENGTH).rows)
    found = edit_best(
        model, plan, sources.float(), (labels + 1) % CLASSES, strength=STRENGTH, candidates=candidates,
        early=left if early is None else early, seed=seed, batch=4800,
    )  # fmt: skip
    changed = (found.x - sources).square()[:, 0][:, ~middle()].double().mean(1)
    return found, changed


@claim(
    "early-candidates/equal-calls",
    statement=f"Of {CANDIDATES} seeds the one that is chosen after {EARLY} rows changes the rim of an image less: difference of "
    "mean squared changes; beside, one seed, the best of as many finished, the share of edits that are of the asked class, and "
    "the rank "
    "correlation of early and finished scores.",
    baseline=f"the best of {WHOLE} finished seeds by the same score, which takes as many network calls or more; exact images of "
    f"{CLASSES} middles and {RIMS} rims, dpmpp-2m of {ROWS} rows, those from level {STRENGTH:g} on",
    below=0.0,
)
def equal_calls(seed: int, sabotage: bool) -> Measured:
    """The broken variant has one seed."""
    (mine, changed), (its, baseline) = edits(seed, 1 if sabotage else CANDIDATES, EARLY), edits(seed, WHOLE, None)
    (_, single), (every, finished) = edits(seed, 1, EARLY), edits(seed, CANDIDATES, None)
    beside: Beside = {
        "change": mean(changed.tolist()), "baseline's": mean(baseline.tolist()), "of one seed": mean(single.tolist()),
        "of all finished": mean(finished.tolist()), "calls": mine.evaluations, "its calls": its.evaluations,
        "calls of all finished": every.evaluations,
        "of the class": float(as_asked(mine.x, seed).mean()), "its": float(as_asked(its.x, seed).mean()),
        "rank correlation": mean([_rank(a, b) for a, b in zip(mine.scores, every.scores, strict=True)] if not sabotage else [0, 0]),
    }  # fmt: skip
    return Measured(mean((changed - baseline).tolist()), beside)


def as_asked(x: Tensor, seed: int) -> Tensor:
    """Whether the asked class is the likeliest of each edit (n,), 0 or 1."""
    mixture, _ = images()
    _, labels = mixture.sample(SOURCES, 7919 * seed + 1)
    assert labels is not None
    likely = torch.stack([mixture.log_prob(x.double(), labels=torch.full_like(labels, k)) for k in range(CLASSES)], 1)
    return (likely.argmax(1) == (labels + 1) % CLASSES).double()


def _rank(a: Tensor, b: Tensor) -> float:
    return float(spearmanr(a, b).statistic)
