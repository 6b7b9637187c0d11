"""fewer's sampler against those of k-diffusion: the same list of sigmas on an exact model, in float64.

    python -m benchmarks.k_diffusion --k-diffusion FOLDER

FOLDER is the environment of `benchmarks.leaderboard.environment`. Prints the largest difference of samples over their size,
one line a sampler and number of steps, and ends with status 1 where one is above 1e-9.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
from torch import Tensor

import fewer
from benchmarks.leaderboard.k_diffusion_side import Denoiser, load_sampling
from fewer.integrations.engines import COMFY_ONLY, K_SAMPLERS

STEPS = (1, 2, 3, 5, 8, 20)
MOST = 1e-9


def apart(sampler: str, solver: str, n: int, model: fewer.Model, noise: Tensor) -> float:
    """The largest difference of n-step samples, over the largest of k-diffusion's."""
    sampling = load_sampling()
    sigmas = sampling.get_sigmas_karras(n, 0.03, 14.0).double() if n > 1 else torch.tensor([14.0, 0.0]).double()
    plan = fewer.from_sigmas(sigmas.tolist(), model, solver)
    with torch.no_grad():
        there = getattr(sampling, f"sample_{sampler}")(Denoiser(model, None), noise * sigmas[0], sigmas, disable=True)
        here = fewer.sample_k_diffusion(
            Denoiser(model, None), noise * sigmas[0], fewer.plan_sigmas(plan), disable=True, plan=plan
        )
    return float((here - there).abs().max() / there.abs().max())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k-diffusion", type=Path, required=True, metavar="FOLDER")
    for packages in parser.parse_args().k_diffusion.glob("lib/python3*/site-packages"):
        sys.path.append(str(packages))
    if importlib.util.find_spec("k_diffusion") is None:
        raise SystemExit("k_diffusion is not there: see benchmarks/leaderboard/environment.py")
    model = fewer.load("mixture16")
    noise = torch.randn(8, *model.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    worst = 0.0
    for sampler, solver in K_SAMPLERS.items():
        for n in STEPS if sampler not in COMFY_ONLY else ():
            found = apart(sampler, solver, n, model, noise)
            worst = max(worst, found)
            print(f"{sampler:10} {n:3} steps  {found:.1e}")
    print(f"largest: {worst:.1e}")
    if worst > MOST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
