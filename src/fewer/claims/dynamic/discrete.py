"""Discrete samplers on a Markov chain, whose every conditional, and so whose law, is known: calls saved, and the law kept."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import geometric_mean, mean
from fewer.dynamic.absorbing import Unmasked, expected_evaluations, sample_masked, uniform_levels
from fewer.dynamic.speculative import Speculated, speculative
from fewer.models.masked import MarkovChain, MaskedDenoiser

LONG, STEPS = MarkovChain.random(4, 16, seed=0, sharpness=2.0), 64
SHORT = MarkovChain.random(2, 8, seed=0, sharpness=3.0)  # 256 sequences, whose law is compared whole
CALLS, STEPS_OF_EQUAL_CALLS = 6, 12  # of eight tokens: with reuse 12 steps take 6.02 calls
BLOCKS, BLOCK = 12, 4096
DRAFTS, AHEAD, TOKENS = 2, 3, 6
TARGET = MarkovChain.random(TOKENS, 16, seed=0, sharpness=1.5)


@claim(
    "absorbing-cache/calls",
    statement=f"In {STEPS} steps of 16 tokens the network is called less than a {3.5:g}th as often for the same samples, as the "
    "paper says: mean calls of a sequence over steps; beside, what the formula foretells and the share of equal sequences.",
    baseline=f"a call a step: {STEPS} calls, same draws; exact denoiser of a Markov chain of four tokens",
    below=1 / 3.5,
)
def calls(seed: int, sabotage: bool) -> Measured:
    """The broken variant calls in every step."""
    model, levels = LONG.denoiser(), uniform_levels(STEPS)
    mine, its = (sample_masked(model, 1024, levels=levels, seed=seed, reuse=reuse) for reuse in (not sabotage, False))
    beside: Beside = {
        "foretold": expected_evaluations(LONG.length, levels) / STEPS,
        "equal sequences": float((mine.tokens == its.tokens).all(1).double().mean()),
    }
    return Measured(mean((mine.evaluations.double() / STEPS).tolist()), beside)


def off(tokens: Tensor, chain: MarkovChain) -> float:
    """Sum of squared differences between a sampler's law and the chain's, without bias."""
    law, n = chain.log_prob(chain.sequences()).exp(), len(tokens)
    shares = torch.bincount(chain.numbers(tokens), minlength=len(law)) / n
    return float(((shares - law) ** 2).sum() - (1 - shares.square().sum()) / (n - 1))


def blocks(seed: int, steps: int, reuse: bool) -> list[Unmasked]:
    """Independent blocks of sequences of the short chain."""
    model, levels = SHORT.denoiser(), uniform_levels(steps)
    firsts = range(0, BLOCKS * BLOCK, BLOCK)
    return [sample_masked(model, BLOCK, levels=levels, seed=seed, reuse=reuse, first_sample=first) for first in firsts]


@claim(
    "absorbing-cache/equal-calls",
    statement=f"For as many calls, {CALLS} of eight tokens, the law of all sequences is nearer to the true one: difference of the "
    f"sums of squared differences of probabilities, mean of {BLOCKS} blocks.",
    baseline=f"{CALLS} steps with a call in each; with reuse {STEPS_OF_EQUAL_CALLS} steps take as many in the mean; exact "
    "denoiser of a Markov chain of two tokens",
    below=0.0,
)
def equal_calls(seed: int, sabotage: bool) -> Measured:
    """The broken variant takes half as many steps as the baseline."""
    mine = blocks(seed, CALLS // 2 if sabotage else STEPS_OF_EQUAL_CALLS, True)
    its = blocks(seed, CALLS, False)
    one, other = ([off(block.tokens, SHORT) for block in found] for found in (mine, its))
    beside: Beside = {
        "distance": mean(one), "baseline's": mean(other),
        "calls": mean([float(block.evaluations.double().mean()) for block in mine]),
    }  # fmt: skip
    return Measured(mean([a - b for a, b in zip(one, other, strict=True)]), beside)


def draft() -> MaskedDenoiser:
    """The target's chain with its conditionals flattened by a third."""
    first, transition = ((2 * law + 1 / TOKENS) / 3 for law in (TARGET.first, TARGET.transition))
    return MarkovChain(first, transition, TARGET.length).denoiser()


def speculated(seed: int, drafts: int, rule: str, n: int = 128) -> Speculated:
    """Sequences of the chain of 16 tokens."""
    return speculative(TARGET.denoiser(), draft(), n, drafts=drafts, ahead=AHEAD, seed=seed, rule=rule)  # type: ignore[arg-type]


@cache
def rejected(seed: int) -> Speculated:
    """Those of recursive rejection."""
    return speculated(seed, DRAFTS, "recursive")


@claim(
    "multi-draft/block-efficiency",
    statement=f"With {DRAFTS} drafts of {AHEAD} tokens a round gives more tokens: ratio of the block efficiencies, geometric "
    "mean of eight runs; beside, those of one draft and of no draft, which is 1.",
    baseline="the same drafts tried one after the other by recursive rejection (SpecInfer); exact conditionals of a Markov chain "
    f"of {TOKENS} tokens, drafts of the chain flattened by a third",
    above=1.0,
)
def block_efficiency(seed: int, sabotage: bool) -> Measured:
    """The broken variant has one draft."""
    seeds = range(8 * seed, 8 * seed + 8)
    mine = [speculated(each, 1 if sabotage else DRAFTS, "importance").block_efficiency for each in seeds]
    its = [rejected(each).block_efficiency for each in seeds]
    one = [speculated(each, 1, "importance").block_efficiency for each in seeds]
    beside: Beside = {"block efficiency": mean(mine), "baseline's": mean(its), "one draft": mean(one)}
    return Measured(geometric_mean([a / b for a, b in zip(mine, its, strict=True)]), beside)


@claim(
    "multi-draft/law",
    statement="Sequences have the target's law whatever the draft: chi-square over its degrees of freedom, mean of 32 runs, is 1 "
    "within 0.1.",
    baseline="the exact law of 81 sequences of a Markov chain of three tokens; the drafts' places are independent",
    above=0.9,
    below=1.1,
)
def law(seed: int, sabotage: bool) -> Measured:
    """The broken variant hands out the drafts unchecked."""
    chain = MarkovChain.random(3, 4, seed=1, sharpness=1.0)
    own = chain.conditionals(chain.denoiser().masked(1))[0]
    cheap = MaskedDenoiser(lambda tokens: own.expand(len(tokens), -1, -1), chain.length, chain.vocabulary)
    found = []
    for run in range(32 * seed, 32 * seed + 32):
        tokens = speculative(cheap if sabotage else chain.denoiser(), cheap, 256, drafts=2, ahead=2, seed=run).tokens
        expected = len(tokens) * chain.log_prob(chain.sequences()).exp()
        counts = torch.bincount(chain.numbers(tokens), minlength=len(expected))
        found.append(float(((counts - expected) ** 2 / expected).sum()) / (len(expected) - 1))
    return Measured(mean(found))
