"""Runs of a cheap and a dear plan from the same noises, of which gates and their predictors are made again and again."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer import sample
from fewer.claims.dynamic.escalation import model_of, plan
from fewer.epistemic.gate import ErrorPredictor
from fewer.epistemic.gate.calibrate import known_pairs
from fewer.epistemic.gate.gate import Gate, Origin, Pairs
from fewer.epistemic.gate.promise import Promise
from fewer.noise import Stream, unit_noise

NAME, CHEAP, BETWEEN, DEAR = "mixture", 6, range(7, 20), 20  # the model, and calls
CANDIDATES = range(6, 12)  # calls of the cheap plans of which the best is taken
DRAWS, LEARNT, HELD_OUT, BATCH = 16, 256, 512, 256
NOISES = DRAWS * (LEARNT + HELD_OUT)
BOUND, SHARE = 0.3, 0.02  # of the promise: the bound is twice what the cheap plan typically misses by
BED = (
    f"eight Gaussians in 16 dimensions, unipc of {CHEAP} calls where nothing else is said, and of {DEAR} where the gate asks for "
    f"it; a sample is bad where it is farther than {BOUND} from that of {DEAR} calls"
)


def noises(seed: int) -> Tensor:
    """The noises of a seed (n, *shape)."""
    return unit_noise(seed, Stream.HELD_OUT.numbers(NOISES), model_of(NAME).shape)


@cache
def ends(seed: int) -> Tensor:
    """Samples (n, *shape) of the dear plan."""
    return sample(model_of(NAME), plan(NAME, DEAR), noise=noises(seed), batch=BATCH)


@cache
def known(seed: int, calls: int = CHEAP) -> Pairs:
    """What is known of all runs of so many calls."""
    cheap = plan(NAME, calls)
    return known_pairs(model_of(NAME), cheap, ends(seed), noises(seed), None, BATCH, lambda stage, done, total: None)


def some(pairs: Pairs, which: Tensor) -> Pairs:
    """Those of these numbers."""
    return Pairs(pairs.features[which], pairs.errors[which])


def gate_of(
    learnt: Pairs, held_out: Pairs, promise: Promise, predictor: str | ErrorPredictor = "ensemble", calls: int = CHEAP
) -> Gate:
    """A gate between the plan of so many calls and the dear one."""
    return Gate(plan(NAME, calls), plan(NAME, DEAR), promise, learnt, held_out, predictor, of=Origin.of(model_of(NAME)))


def blocks(seed: int, count: int, teach: int) -> list[tuple[Tensor, Tensor]]:
    """Numbers of samples that teach and that judge, of so many draws that have no sample in common."""
    order = torch.randperm(NOISES, generator=torch.Generator().manual_seed(seed))
    return [(part[:teach], part[teach:]) for part in order.split(NOISES // count)]
