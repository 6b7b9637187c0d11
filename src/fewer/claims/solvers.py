"""Whether higher order pays at few calls: each solver against DDIM, from equal noise, on exact image mixtures."""

from __future__ import annotations

from dataclasses import replace

from fewer import standard
from fewer.claims.claim import Check, Measured, claim
from fewer.claims.exact import against, images, images_by_sigma
from fewer.parts import find
from fewer.plan import Plan

# solver, what it is held against, grid, calls, process by sigma
PAIRS = (
    ("heun", "euler", "karras", 20, True),
    ("heun-flow", "ddim", "logsnr", 10, False),
    ("dpmpp-2m", "ddim", "logsnr", 10, False),
    ("dpmpp-3m", "dpmpp-2m", "logsnr", 10, False),
    ("unipc", "dpmpp-2m", "logsnr", 10, False),
    ("unipc-3", "ddim", "logsnr", 10, False),
    ("ipndm", "ddim", "logsnr", 10, False),
    ("deis", "ddim", "logsnr", 10, False),
    ("deis-3", "deis", "logsnr", 10, False),
    ("deis-rho", "ddim", "logsnr", 10, False),
    ("deis-tab", "deis-rho", "quadratic", 10, False),
    ("lms", "euler", "karras", 20, True),
    ("ipndm-v", "euler", "karras", 10, True),
    ("vab", "ddim", "logsnr", 10, False),
    ("midpoint", "ddim", "logsnr", 10, False),
    ("rk4", "heun", "karras", 21, True),
    ("kdpm2", "euler", "karras", 20, True),
    ("dpm-2s", "ddim", "logsnr", 20, False),
    ("dpm-3s", "dpm-2s", "logsnr", 20, False),
    ("dpmpp-2s", "ddim", "logsnr", 20, False),
    ("dpmpp-3s", "dpmpp-2s", "logsnr", 20, False),
    ("dpm-2m", "ddim", "logsnr", 10, False),
    ("dpm-3m", "dpm-2m", "logsnr", 10, False),
    ("dpmpp-2m", "dpm-2m", "logsnr", 10, False),
    ("res-2m", "dpmpp-2m", "logsnr", 10, False),
    ("res-3m", "dpmpp-3m", "logsnr", 10, False),
    ("res-4m", "res-3m", "logsnr", 20, False),
    ("unipc-1", "ddim", "logsnr", 10, False),
    ("unipc-bh1", "dpmpp-2m", "logsnr", 10, False),
    ("pndm", "ddim", "uniform", 20, False),
    ("plms", "ddim", "uniform", 10, False),
)


def reversed_weights(plan: Plan) -> Plan:
    """Each row's weights in the opposite order: the oldest output has the newest one's."""
    rows = []
    for row in plan.rows:
        weights = [b for _, b in sorted(row.b.items())]
        rows.append(replace(row, b=dict(zip(sorted(row.b), reversed(weights), strict=True))))
    return replace(plan, rows=tuple(rows))


def against_check(solver: str, other: str, grid: str, calls: int, by_sigma: bool) -> Check:
    """RMSE of one solver over that of the other."""

    def check(seed: int, sabotage: bool) -> Measured:
        model = images_by_sigma() if by_sigma else images()
        plan = standard(solver, model, calls, grid)
        plan = reversed_weights(plan) if sabotage else plan
        return Measured(against(plan, standard(other, model, calls, grid), seed, by_sigma))

    return check


for solver, other, grid, calls, by_sigma in PAIRS:
    claim(
        f"{solver}/against-{other}",
        of=(("solvers", solver),),
        papers=find("solvers", solver).papers,
        statement=f"At {calls} calls on the {grid} grid its error is below {other}'s (ratio of paired RMSE).",
        baseline=f"{other} on the same grid, calls and noise; exact 16x16 image mixture",
        below=1.0,
    )(against_check(solver, other, grid, calls, by_sigma))
