"""Whether a grid is better than the one that its authors or users hold it against, from equal noise, exactly."""

from __future__ import annotations

from fewer.claims.broken import crowded
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import Pair, against, images, ratio_claim
from fewer.grids import Range
from fewer.grids.shift import shift
from fewer.registry import find
from fewer.solvers import compile_plan, places

# grid, what it is held against, solver, calls, process by sigma, whether it is claimed to be worse
COMPARISONS = (
    ("uniform", "leading", "ddim", 10, False, False),
    ("trailing", "leading", "ddim", 10, False, False),
    ("leading", "trailing", "ddim", 10, False, True),
    ("linspace", "uniform", "ddim", 10, False, True),
    ("quadratic", "uniform", "ddim", 10, False, False),
    ("logsnr", "uniform", "dpmpp-2m", 10, False, False),
    ("lu", "uniform", "dpmpp-2m", 10, False, False),
    ("karras", "uniform", "heun", 20, True, False),
    ("exponential", "uniform", "euler", 10, True, False),
    ("polynomial", "karras", "heun", 20, True, True),
    ("beta", "uniform", "ddim", 10, False, False),
    ("beta-sigma", "beta", "dpmpp-2m", 10, False, True),
    ("simple", "leading", "ddim", 10, False, False),
    ("sgm-uniform", "leading", "ddim", 10, False, False),
    ("normal", "uniform", "ddim", 10, False, True),
    ("ddim-uniform", "leading", "ddim", 10, False, False),
    ("kl-optimal", "uniform", "dpmpp-2m", 10, False, False),
    ("linear-quadratic", "uniform", "ddim", 10, False, True),
    ("bong-tangent", "uniform", "ddim", 10, False, False),
    ("beta57", "beta", "dpmpp-2m", 10, False, False),
)

for grid, other, solver, calls, by_sigma, worse in COMPARISONS:
    ratio_claim(
        f"{grid}/against-{other}",
        Pair((solver, grid), (solver, other), calls, by_sigma),
        statement=f"With {solver} at {calls} calls its error is {'at least 1 % above' if worse else 'below'} that on the {other} "
        "grid",
        baseline=f"{other} with the same solver, calls and noise",
        broken=None if worse else crowded,
    )

for solver in ("euler", "heun"):
    ratio_claim(
        f"jump/with-{solver}",
        Pair((solver, "jump"), (solver, "karras"), 10, by_sigma=True),
        statement=f"With {solver} at 10 calls an early jump to the data prediction saves the last steps: its error is below "
        "that of the whole karras grid with as many calls",
        baseline="karras with the same solver, calls and noise",
        broken=crowded,
    )

for part, solver, grid in (("iadb", "iadb", "straight"), ("trigonometric", "ddim", "trigonometric")):
    ratio_claim(
        f"{part}/against-ddim-uniform",
        Pair((solver, grid), ("ddim", "uniform"), 10),
        statement=f"At 10 calls {solver} on the {grid} grid has less error than ddim in regular training times",
        baseline="ddim on the uniform grid, same calls and noise",
        broken=crowded,
    )


@claim(
    "shift/against-unshifted",
    statement="With ddim at 10 calls on levels regular in tau its error falls if s is multiplied by 3 (ratio of paired RMSE).",
    baseline="the same levels unshifted (m = 1), same solver, calls and noise; exact 16x16 image mixture",
    below=1.0,
)
def shifted(seed: int, sabotage: bool) -> Measured:
    """RMSE on the shifted grid over that on the unshifted one; sabotage: crowded levels."""
    model = images()
    span = Range(model.schedule, model.start)
    plan, other = (compile_plan(find("solvers", "ddim").make(), places(model, shift(span, 10, m))) for m in (3.0, 1.0))
    return Measured(against(crowded(plan, "ddim", model) if sabotage else plan, other, seed))
