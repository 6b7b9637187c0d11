"""Whether higher order pays at few calls: each solver against DDIM, from equal noise, on exact image mixtures."""

from __future__ import annotations

from fewer.claims.broken import reversed_weights
from fewer.claims.exact import NOISES, Pair, ratio_claim

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
    ("res-4m", "dpmpp-3m", "logsnr", 10, False),
    ("unipc-1", "ddim", "logsnr", 10, False),
    ("unipc-bh1", "dpmpp-2m", "logsnr", 10, False),
    ("pndm", "ddim", "uniform", 20, False),
    ("plms", "ddim", "uniform", 10, False),
)

# noises that two near each other take
CLOSE = {
    ("unipc", "dpmpp-2m"): 1024,
    ("res-3m", "dpmpp-3m"): 1024,
    ("dpmpp-3m", "dpmpp-2m"): 2048,
    ("res-4m", "dpmpp-3m"): 2048,
}

for solver, other, grid, calls, by_sigma in PAIRS:
    ratio_claim(
        f"{solver}/against-{other}",
        Pair((solver, grid), (other, grid), calls, by_sigma, CLOSE.get((solver, other), NOISES)),
        statement=f"At {calls} calls on the {grid} grid its error is below {other}'s",
        baseline=f"{other} on the same grid, calls and noise",
        broken=lambda plan, solver, model: reversed_weights(plan),
    )
