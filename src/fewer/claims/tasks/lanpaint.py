"""LanPaint, where the posterior is known: mixtures under linear measurements."""

from __future__ import annotations

from fewer.claims.claim import Measured, claim
from fewer.claims.tasks.posteriors import distances
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.methods.diffpir import DiffPIR
from fewer.tasks.inverse.methods.dps import DPS
from fewer.tasks.inverse.methods.lanpaint import LanPaint
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.inverse.methods.split_gibbs import SplitGibbs

CALLS = 100
PROBLEMS = ("inpaint", "super-resolution")
WITHOUT: tuple[PosteriorSampler, ...] = (
    *(DiffPIR(weight) for weight in (1.0, 3.0, 8.0)),
    *(SplitGibbs(n) for n in (2, 5, 10)),
)
WITH: tuple[PosteriorSampler, ...] = (MMPS(), *(DPS(strength) for strength in (0.3, 1.0, 3.0)))


@claim(
    "lanpaint/against-gradient-free",
    statement=f"At {CALLS} calls its samples are nearer to the exact posteriors of inpainting and super-resolution than those of "
    "the best other method without derivatives: difference of energy distances, mean over measurements; the best of three numbers "
    "of Langevin steps a level. Beside, the best method with derivatives.",
    baseline="DiffPIR and split Gibbs, each at three settings; mixture in 16 dimensions",
    below=0.0,
    tier="full",
)
def against_gradient_free(seed: int, sabotage: bool) -> Measured:
    """Sabotage: LanPaint sees other samples' measurements."""

    def best(methods: tuple[PosteriorSampler, ...], roll: int = 0) -> list[float]:
        found = [distances(each, CALLS, seed, PROBLEMS, roll) for each in methods]
        return min(found, key=lambda each: sum(each))

    mine = best(tuple(LanPaint(inner) for inner in (1, 2, 5)), int(sabotage))
    its, theirs = best(WITHOUT), best(WITH)
    beside: dict[str, Interval | float] = {
        "its energy distance": student(mine),
        "without derivatives, the best": student(its),
        "with derivatives, the best": student(theirs),
    }
    return Measured(student([a - b for a, b in zip(mine, its, strict=True)]), beside)
