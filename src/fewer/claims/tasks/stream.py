"""Streams on trained networks, and residual guidance where the class's true distribution is known."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from fewer import load, sample, standard
from fewer.claims.beds import CHOOSING, SAYS, bed
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.guidance.digits import right
from fewer.claims.repeated import geometric_mean, mean
from fewer.evaluate.statistics.paired import ratio, squared_errors
from fewer.guidance import guide
from fewer.guidance.residual import ResidualGuidance, residual_once
from fewer.models.bundled import digits_images
from fewer.plan import Guidance
from fewer.tasks.stream import Stream

ROWS, FRAMES, REPEATS, PAPERS = 8, 16, 5, 1.5
EDITING, STRENGTH, EDITED = 1.2, 0.6, 96
PASSES, SCALES = 12, (1.1, 1.25, 1.5, 2.0, 3.0)


@claim(
    "stream-batch/throughput",
    statement=f"A frame in {ROWS} rows takes {PAPERS:g} times less of the processor's time than frame by frame, as the paper "
    f"says: ratio of "
    f"times, geometric mean of {REPEATS} turns of either; beside, the largest difference of a value between the two.",
    baseline="`fewer.sample` of each frame, the same rows, network (digits) and noise, one thread",
    above=PAPERS,
    tier="full",
)
def throughput(seed: int, sabotage: bool) -> Measured:
    """The broken variant finishes each frame before the next."""
    model = load("digits")
    plan = standard("ddim", model, ROWS, "logsnr")
    frames = digits_images("test")[0][:FRAMES]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios, off = [], 0.0
        for _ in range(REPEATS):
            began = time.process_time()
            stream = Stream(model, plan, strength=1.0, label=3, seed=seed)
            if sabotage:
                mine = [done for frame in frames for done in [stream.push(frame), *stream.flush()] if done is not None]
            else:
                mine = list(stream.play(frames))
            between = time.process_time()
            its = [one_by_one(plan, frame, k, seed) for k, frame in enumerate(frames)]
            ratios.append((time.process_time() - between) / (between - began))
            off = max(off, float((torch.stack(mine) - torch.cat(its)).abs().max()))
    finally:
        torch.set_num_threads(threads)
    return Measured(geometric_mean(ratios), {"largest difference": off})


def one_by_one(plan: object, frame: Tensor, k: int, seed: int) -> Tensor:
    """What a frame becomes by itself."""
    return sample(load("digits"), plan, init=frame[None], strength=1.0, seed=seed, first_sample=k, labels=3)  # type: ignore[arg-type]


@claim(
    "residual-once/equal-passes",
    of=(("guidance", "residual"), ("guidance", "residual-once")),
    statement=f"In {PASSES} passes, {PASSES - 1} rows of which one makes the unconditional pass, samples are nearer to the "
    f"class's true "
    "distribution: difference of energy distances.",
    baseline=f"classifier-free guidance in {PASSES // 2} rows; either at its best scale of "
    f"{', '.join(f'{s:g}' for s in SCALES)}, on other "
    f"noise; DDIM, {SAYS['underfit']}",
    below=0.0,
)
def equal_passes(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    on = bed("underfit")
    many, few = (on.plain("ddim", calls) for calls in (PASSES - 1, PASSES // 2))
    scale = on.best({s: residual_once(many, s) for s in SCALES}, seed)
    cfg = on.best({s: guide(few, s) for s in SCALES}, seed)
    mine = on.made(residual_once(many, -scale if sabotage else scale), seed)
    its = on.made(guide(few, cfg), seed)
    beside: Beside = {
        "scale": scale, "its scale": cfg, "distance": on.distance(mine, seed), "baseline's": on.distance(its, seed),
        "without guidance, as many passes": on.distance(on.made(on.plain("ddim", PASSES), seed), seed),
    }  # fmt: skip
    return Measured(on.nearer(mine, its, seed), beside)


@claim(
    "residual-once/stands-for-guidance",
    of=(("guidance", "residual"), ("guidance", "residual-once")),
    statement="Its samples at scale 1.5 are nearer to those of classifier-free guidance at that scale than samples without "
    "guidance are: "
    "ratio of RMSE to them.",
    baseline=f"the conditional network alone; same {PASSES - 1} rows of DDIM and noise, {SAYS['underfit']}",
    below=1.0,
)
def stands_for_guidance(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    on = bed("underfit")
    rows = on.plain("ddim", PASSES - 1)
    true, alone = (on.made(guide(rows, scale), seed, CHOOSING) for scale in (1.5, 1.0))
    mine = on.made(residual_once(rows, 0.5 if sabotage else 1.5), seed, CHOOSING)
    return Measured(ratio(squared_errors(mine, true), squared_errors(alone, true)))


@claim(
    "residual/editing",
    of=(("guidance", "residual"), ("tasks", "stream-batch")),
    statement=f"With the frame itself in the place of the unconditional pass (scale {EDITING:g}, found on other frames) more "
    "frames of a "
    f"stream become the asked digit from level {STRENGTH:g} on, in as many passes: difference of the shares that a support "
    "vector machine "
    "finds; beside, classifier-free guidance at scale 2 in twice the passes, and how far frames move.",
    baseline=f"the conditional network alone (digits), DDIM, {ROWS} rows in all, same frames and noise",
    above=0.0,
    tier="full",
)
def editing(seed: int, sabotage: bool) -> Measured:
    """The broken variant goes towards the frame."""
    images, labels = digits_images("test")
    found: dict[str, list[Tensor]] = {"": [], "its": [], "of guidance": []}
    moved: dict[str, list[float]] = {name: [] for name in found}
    rules: dict[str, float | Guidance] = {
        "": ResidualGuidance(2 - EDITING if sabotage else EDITING, 1.0, 0.0),
        "its": 1.0,
        "of guidance": 2.0,
    }
    for label in (3, 8):
        frames = images[labels != label][EDITED : 2 * EDITED]
        for name, rule in rules.items():
            plan = guide(standard("ddim", load("digits"), ROWS, "logsnr"), rule)
            made = torch.stack(
                list(Stream(load("digits"), plan, strength=STRENGTH, label=label, seed=seed).play(frames))
            )
            found[name].append(right(made, torch.full((EDITED,), label)).double())
            moved[name] += squared_errors(made, frames).tolist()
    shares = {name: torch.cat(hits) for name, hits in found.items()}
    beside: Beside = {
        **{f"share {name}".strip(): mean(hits.tolist()) for name, hits in shares.items()},
        **{f"squared change {name}".strip(): mean(changes) for name, changes in moved.items()},
    }  # fmt: skip
    return Measured(mean((shares[""] - shares["its"]).tolist()), beside)
