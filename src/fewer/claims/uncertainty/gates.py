"""Whether a gate keeps its promise, what that costs beside one plan, and whether it learns from its work."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean, mean, share
from fewer.claims.uncertainty.runs import (
    BED,
    BETWEEN,
    BOUND,
    CANDIDATES,
    DEAR,
    DRAWS,
    HELD_OUT,
    LEARNT,
    NOISES,
    SHARE,
    blocks,
    gate_of,
    known,
    some,
)
from fewer.epistemic.gate.gate import Gate, Pairs
from fewer.epistemic.gate.promise import Promise

TRIALS, IMPROVED, CONFIDENCE = 4000, 500, 0.9
FEW = 24  # samples that teach first
OTHERS = 1_000_000  # added to a seed: of samples that go through a gate


@claim(
    "gate/keeps-its-promise",
    statement=f"Of gates that promise with {CONFIDENCE:.0%} confidence that at most {SHARE:.0%} of samples are bad, each set by "
    f"{HELD_OUT} samples drawn from {NOISES}, at most a tenth break it on all {NOISES} (share of {TRIALS} gates): {BED}.",
    baseline=f"what was promised, {1 - CONFIDENCE:.1f}; a threshold that merely kept the share among the samples that set it would "
    "break it every other time",
    below=1 - CONFIDENCE,
)
def keeps_its_promise(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the threshold that keeps the share among the samples that set it."""
    everything, promise = known(seed), Promise(BOUND, SHARE, CONFIDENCE)
    generator = torch.Generator().manual_seed(seed)
    gate = gate_of(some(everything, blocks(seed, DRAWS, LEARNT)[0][0]), everything, promise, "movement-regression")
    scores, bad = gate.score(everything.features), everything.errors > BOUND
    broken = 0
    for _ in range(TRIALS):
        drawn = torch.randint(NOISES, (HELD_OUT,), generator=generator)
        threshold = (
            plug_in(scores[drawn], bad[drawn])
            if sabotage
            else promise.threshold(scores[drawn], everything.errors[drawn])
        )
        broken += float((bad & (scores <= threshold)).double().mean()) > SHARE
    return Measured(share(broken, TRIALS))


@claim(
    "gate/keeps-its-promise-improved",
    statement=f"Of gates that {FEW} samples taught, and then those that they ran again of {LEARNT - FEW}, at most a tenth break a "
    f"promise of {CONFIDENCE:.0%} confidence that at most {SHARE:.0%} of samples are bad, though the same {HELD_OUT} samples set "
    f"the threshold before and after (share of {IMPROVED} gates; all samples drawn from {NOISES}): {BED}.",
    baseline=f"what was promised, {1 - CONFIDENCE:.1f}",
    below=1 - CONFIDENCE,
)
def keeps_its_promise_improved(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the threshold that keeps the share among the samples that set it."""
    everything, promise = known(seed), Promise(BOUND, SHARE, CONFIDENCE)
    generator, bad, broken = torch.Generator().manual_seed(seed), everything.errors > BOUND, 0
    for _ in range(IMPROVED):
        taught, passing, judging = (
            some(everything, torch.randint(NOISES, (count,), generator=generator))
            for count in (FEW, LEARNT - FEW, HELD_OUT)
        )
        gate = gate_of(taught, judging, promise, "movement-regression")
        again = gate.score(passing.features) > gate.threshold
        better = gate_of(taught.with_more(some(passing, again)), judging, promise, "movement-regression")
        scores = better.score(everything.features)
        threshold = plug_in(better.score(judging.features), judging.errors > BOUND) if sabotage else better.threshold
        broken += float((bad & (scores <= threshold)).double().mean()) > SHARE
    return Measured(share(broken, IMPROVED))


def plug_in(scores: Tensor, bad: Tensor) -> float:
    """The largest score up to which the share of bad samples among all is at most the promised one."""
    order = scores.argsort()
    kept = bad[order].double().cumsum(0) / len(bad) <= SHARE
    return float(scores[order][kept][-1])


@cache
def best_gates(seed: int) -> list[Gate]:
    """Of each draw the gate of the fewest evaluations among those of the candidates."""
    promise, best = Promise(BOUND, SHARE, among=len(CANDIDATES)), []
    for teach, judge in blocks(seed, DRAWS, LEARNT):
        runs = [(calls, known(seed, calls)) for calls in CANDIDATES]
        made = [gate_of(some(run, teach), some(run, judge), promise, calls=calls) for calls, run in runs]
        best.append(min(made, key=lambda gate: gate.nfe))
    return best


def calls_alone(seed: int, judge: Tensor) -> int:
    """The fewest calls of one plan that keeps the promise by the same test on the same held-out samples."""
    allowed = Promise(BOUND, SHARE).allowed(HELD_OUT)
    return next((n for n in BETWEEN if int((known(seed, n).errors[judge] > BOUND).sum()) <= allowed), DEAR)


@claim(
    "gate/against-one-plan",
    statement=f"A promise that at most {SHARE:.0%} of samples are bad takes fewer calls a sample by the best gate with a cheap "
    f"plan of {CANDIDATES[0]} to {CANDIDATES[-1]} calls than by one plan (ratio, over {DRAWS} draws of the samples that teach and "
    f"judge): {BED}.",
    baseline=f"the fewest calls from {BETWEEN[0]} to {BETWEEN[-1]} of the same solver and grid that keep the promise by the same "
    "test, without the correction for a choice",
    below=1.0,
    tier="full",
)
def against_one_plan(seed: int, sabotage: bool) -> Measured:
    """Sabotage: scores of other samples."""
    made = best_gates(seed)
    shares = [by_chance(gate) if sabotage else gate.share for gate in made]
    its = [float(calls_alone(seed, judge)) for _, judge in blocks(seed, DRAWS, LEARNT)]
    mine = [gate.cheap.nfe + again * DEAR for gate, again in zip(made, shares, strict=True)]
    beside = {
        "share that is run again": mean(shares),
        "calls by the gate": mean(mine),
        "calls of one plan": mean(its),
    }
    return Measured(geometric_mean([a / b for a, b in zip(mine, its, strict=True)]), beside)


def by_chance(gate: Gate) -> float:
    """The share that is run again where scores are those of other samples."""
    scores = gate.score(gate.held_out.features).roll(1)
    return float((scores > gate.promise.threshold(scores, gate.held_out.errors)).double().mean())


@claim(
    "gate/improves",
    statement=f"A gate that {FEW} samples have taught runs fewer again, at the same promise and by the same held-out samples, once "
    f"it has learnt from those that it ran again of {LEARNT + HELD_OUT} (difference of shares, over {DRAWS} draws): {BED}.",
    baseline="the gate before",
    below=0.0,
    tier="full",
)
def improves(seed: int, sabotage: bool) -> Measured:
    """Sabotage: what it learns is the errors of other samples."""
    every, others, before, after = known(seed), known(OTHERS + seed), [], []
    for (teach, judge), numbers in zip(blocks(seed, DRAWS, FEW), torch.arange(NOISES).chunk(DRAWS), strict=True):
        gate = gate_of(some(every, teach), some(every, judge[:HELD_OUT]), Promise(BOUND, SHARE))
        passing = some(others, numbers)
        again = gate.score(passing.features) > gate.threshold
        found = Pairs(passing.features[again], passing.errors[again])
        found = Pairs(found.features, found.errors.roll(1)) if sabotage else found
        before.append(gate.share)
        after.append(gate_of(gate.learnt.with_more(found), gate.held_out, gate.promise).share)
    gains = [b - a for a, b in zip(before, after, strict=True)]
    return Measured(mean(gains), {"before": mean(before), "after": mean(after)})
