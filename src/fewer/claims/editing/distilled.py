"""Score distillation where the model is exact: windows of levels, and the levels that an editor is trained at."""

from __future__ import annotations

import torch
from torch import Tensor

from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.editing.beds import drawn, means_of, model, seen
from fewer.claims.repeated import mean
from fewer.evaluate.statistics.paired import ratio
from fewer.tasks.editing.distillation import Distillation, Window, distil
from fewer.tasks.editing.selective import CANDIDATES, distil_editor

STEPS, PICTURES, FULL, LAST = 150, 256, (0.02, 0.98), (0.02, 0.2)
TRAINING, HELD_OUT, TARGET, ITERATIONS, KEEP = 256, 192, 2, 200, (0.1, 0.3)


def sharpened(window: Window, until: Window, seed: int) -> tuple[Tensor, Distillation]:
    """Squared errors (n,) of pictures from their means of 2 x 2 pixels, to the means of what they show, and how it went."""
    truth = drawn(PICTURES, seed)

    def small(x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 2)

    seen_small = small(truth.images)
    picture = torch.zeros_like(truth.images, requires_grad=True)
    done = distil(
        model(), [picture], lambda: picture, steps=STEPS, window=window, until=until, rate=0.05, seed=seed,
        loss=lambda: 5 * (small(picture) - seen_small).square().sum(),
    )  # fmt: skip
    return (picture.detach() - means_of(truth)).double().square().flatten(1).mean(1), done


@claim(
    "score-distillation/annealed-window",
    statement=f"Pictures made from means of 2 x 2 pixels by {STEPS} steps are nearer to what they show where the window of levels "
    f"shrinks from {FULL} to {LAST}: ratio of RMSE. Beside, the root mean square of gradients.",
    baseline=f"levels from {FULL} in all steps; pictures of a style and a layout, exact denoiser",
    below=1.0,
)
def annealed_window(seed: int, sabotage: bool) -> Measured:
    """The broken variant ends at the highest levels alone."""
    mine, how = sharpened(FULL, (0.8, 0.98) if sabotage else LAST, seed)
    its, other = sharpened(FULL, FULL, seed)
    beside: Beside = {
        "gradients with": sum(how.gradients) / STEPS, "gradients without": sum(other.gradients) / STEPS
    }  # fmt: skip
    return Measured(ratio(mine, its), beside)


@claim(
    "selective-distillation/levels",
    statement=f"An editor trained in {ITERATIONS} steps at the third of levels whose gradients have the lowest entropy makes more "
    "held-out pictures of the asked style, with their layout: difference of the shares, mean over weights of what stays, "
    f"{KEEP[0]:g} and {KEEP[1]:g}.",
    baseline=f"the same editor and steps at all levels from {CANDIDATES[0]:g} to {CANDIDATES[-1]:g}; pictures of a style and a "
    "layout, exact denoiser",
    above=0.0,
    tier="full",
)
def levels(seed: int, sabotage: bool) -> Measured:
    """The broken variant takes the levels of the highest entropy."""
    mine, its = (
        torch.stack([_shares(chosen, keep, seed, sabotage) for keep in KEEP]).mean(0) for chosen in (0.34, 1.0)
    )
    beside: Beside = {"chosen levels": mean(mine.tolist()), "all levels": mean(its.tolist())}
    return Measured(mean((mine - its).tolist()), beside)


def _shares(chosen: float, keep: float, seed: int, sabotage: bool) -> Tensor:
    """Whether each held-out edit is of the asked style, with its layout (n,)."""
    wrong = sabotage and chosen < 1
    made = distil_editor(
        model(), drawn(TRAINING, 2 * seed + 1).images, TARGET, keep=keep, seed=seed, steps=ITERATIONS,
        levels=(0.1, 0.2, 0.9) if wrong else CANDIDATES, chosen=1.0 if wrong else chosen,
    )  # fmt: skip
    truth = drawn(HELD_OUT, 2 * seed)
    style, layout = seen(made(truth.images))
    return ((style == TARGET) & (layout == truth.layout)).double()
