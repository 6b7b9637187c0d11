"""The side of the leaderboard that runs in k_diffusion's environment: its samplers, its code, our models.

    python -m benchmarks.leaderboard.k_diffusion_side FOLDER MODEL 4,5,6 --screen 64 --keep 6

reads FOLDER/noises.safetensors (noise, target, labels) and writes FOLDER/k_diffusion-NFE.safetensors for each budget
(see `field.Standing`). k_diffusion integrates dx / dsigma = (x - D(x; sigma)) / sigma of the variance-exploding state
x = D + sigma eps, so it is given that denoiser of the same network: x / (1 + sigma) = (1 - tau) D + tau eps at
sigma = s = sigma / alpha. Every sampler starts from sigma_0 times the noise, as the reference does.

Samplers that add noise have no paired error and are left out, but for those that add none at eta = 0.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.diffusers_settings import settings
from benchmarks.leaderboard.field import Player, run
from benchmarks.leaderboard.models import build
from fewer.engine import MICRO_BATCH
from fewer.evaluate.modes import Modes
from fewer.models.model import Model

CUSTOMARY_TOP = 80.0  # sigma that k_diffusion's users start from where a model has no noisiest level


class Denoiser:
    """D(x; sigma) (n, *shape) of a model at x = D + sigma eps, sigma (n,) all equal; `calls` counts network calls."""

    def __init__(self, model: Model, labels: Tensor | None) -> None:
        self.model, self.labels, self.calls = model, labels, 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Data prediction x~ - tau u of x~ = x / (1 + sigma), u = p x~ + q F."""
        self.calls += 1
        s = float(sigma[0])
        tau = s / (1 + s)
        c_in, p, q = (float(number) for number in self.model.affine(tau))
        state = x / (1 + s)
        u = p * state + q * self.model(c_in * state, float(self.model.schedule.time(tau)), self.labels)
        return state - tau * u


def load_sampling() -> Any:
    """The module k_diffusion.sampling, without what the package's __init__ imports besides (networks, wandb, clip).

    k_diffusion.utils imports torchvision for reading pictures. Sampling never does, and torchvision is built for one
    build of torch, so an empty module stands in its place while it is imported, and no longer: others ask whether
    torchvision is there.
    """
    if "k_diffusion" not in sys.modules:
        spec = importlib.util.find_spec("k_diffusion")
        if spec is None:
            raise SystemExit("k_diffusion is not installed here: see benchmarks/leaderboard/environment.py")
        transforms = ModuleType("torchvision.transforms")
        transforms.functional = ModuleType("torchvision.transforms.functional")  # type: ignore[attr-defined]
        empty = {"torchvision": ModuleType("torchvision"), "torchvision.transforms": transforms}
        sys.modules["k_diffusion"] = importlib.util.module_from_spec(spec)
        sys.modules.update(empty)
        try:
            return importlib.import_module("k_diffusion.sampling")
        finally:
            for name in empty:
                del sys.modules[name]
    return importlib.import_module("k_diffusion.sampling")


def ends(model: Model) -> tuple[float, float]:
    """sigma_min and sigma_max: the cleanest and noisiest trained s; at tau = 1, where s is infinite, s just below it."""
    low = model.schedule.tau_min
    top = model.start if model.start < 1 else 1 - low
    return low / (1 - low), top / (1 - top)


def grids(model: Model, sampling: Any, n: int) -> dict[str, Tensor]:
    """Levels sigma_0 > .. > sigma_n = 0 (n + 1,): k_diffusion's own, and those of diffusers' EulerDiscreteScheduler."""
    low, top = ends(model)
    found = {
        "karras": sampling.get_sigmas_karras(n, low, top),
        "karras rho 3": sampling.get_sigmas_karras(n, low, top, rho=3.0),
        "exponential": sampling.get_sigmas_exponential(n, low, top),
        "polyexponential 0.7": sampling.get_sigmas_polyexponential(n, low, top, rho=0.7),
    }
    if model.start == 1:
        found["karras from 80"] = sampling.get_sigmas_karras(n, low, CUSTOMARY_TOP)
        found["exponential from 80"] = sampling.get_sigmas_exponential(n, low, CUSTOMARY_TOP)
    for name, scheduler in settings(model):
        grid = name.removeprefix("Euler").strip() or "uniform"
        if not name.startswith("Euler") or grid in found:
            continue
        scheduler.set_timesteps(n)
        sigmas = scheduler.sigmas.double()
        if model.predicts == "flow":  # there sigma is tau
            tau = sigmas.clamp(max=top / (1 + top))
            sigmas = tau / (1 - tau)
        found[f"diffusers {grid}"] = sigmas.float()
    return {name: sigmas for name, sigmas in found.items() if bool((sigmas.diff() < 0).all())}


def players(model: Model, sampling: Any, nfe: int) -> Iterator[tuple[str, Player]]:
    """(name, player) of every sampler on every grid at the most steps that cost at most `nfe` network calls."""

    def no_noise(*sigmas: Tensor) -> float:
        return 0.0

    eta_0 = {"eta": 0.0, "noise_sampler": no_noise}
    one, two = nfe, (nfe + 1) // 2  # a method of two calls a step takes its last step, to sigma = 0, with one
    samplers: list[tuple[str, Callable[..., Tensor], dict[str, Any], int]] = [
        ("euler", sampling.sample_euler, {}, one),
        ("heun", sampling.sample_heun, {}, two),
        ("dpm_2", sampling.sample_dpm_2, {}, two),
        ("lms 2", sampling.sample_lms, {"order": 2}, one),
        ("lms 3", sampling.sample_lms, {"order": 3}, one),
        ("lms 4", sampling.sample_lms, {"order": 4}, one),
        ("dpmpp_2s_ancestral eta 0", sampling.sample_dpmpp_2s_ancestral, eta_0, two),
        ("dpmpp_2m", sampling.sample_dpmpp_2m, {}, one),
        ("dpmpp_2m_sde eta 0", sampling.sample_dpmpp_2m_sde, eta_0, one),
        ("dpmpp_2m_sde heun eta 0", sampling.sample_dpmpp_2m_sde, {**eta_0, "solver_type": "heun"}, one),
        ("dpmpp_3m_sde eta 0", sampling.sample_dpmpp_3m_sde, eta_0, one),
    ]
    for name, sampler, options, steps in samplers:
        for grid, sigmas in grids(model, sampling, steps).items():

            def on_grid(denoiser: Denoiser, noise: Tensor, sampler: Any, sigmas: Tensor, options: Any) -> Tensor:
                return sampler(denoiser, noise * sigmas[0], sigmas, disable=True, **options)

            yield (
                f"{name}, {grid}",
                _player(model, nfe, partial(on_grid, sampler=sampler, sigmas=sigmas, options=options)),
            )
    low, top = ends(model)

    def fast(denoiser: Denoiser, noise: Tensor, last: bool) -> Tensor:
        x = sampling.sample_dpm_fast(denoiser, noise * top, low, top, nfe - last, disable=True)
        return denoiser(x, torch.full((len(x),), low)) if last else x

    yield "dpm_fast", _player(model, nfe, partial(fast, last=False))
    yield "dpm_fast, then the data prediction", _player(model, nfe, partial(fast, last=True))


def _player(model: Model, nfe: int, sampler: Callable[[Denoiser, Tensor], Tensor]) -> Player:
    """The sampler over micro-batches, its calls counted."""

    def play(noise: Tensor, labels: Tensor | None) -> Tensor:
        done = []
        with torch.inference_mode():
            for at in range(0, len(noise), MICRO_BATCH):
                part = slice(at, at + MICRO_BATCH)
                denoiser = Denoiser(model, None if labels is None else labels[part])
                done.append(sampler(denoiser, noise[part]))
                if denoiser.calls > nfe:
                    raise AssertionError(f"a sampler of {nfe} calls took {denoiser.calls}")
        return torch.cat(done)

    return play


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("nfe", nargs="?", default="")
    parser.add_argument("--screen", type=int, default=64)
    parser.add_argument("--keep", type=int, default=6)
    parser.add_argument("--check", action="store_true", help="only see whether k_diffusion.sampling can be read")
    asked = parser.parse_args()
    sampling = load_sampling()
    if asked.check:
        return
    torch.set_num_threads(1)
    model = build(asked.model)
    given = load_file(asked.folder / "noises.safetensors")
    for nfe in map(int, asked.nfe.split(",")):
        field = dict(players(model, sampling, nfe))
        standing = run(
            field, given["noise"], given.get("labels"), given["target"], asked.screen, asked.keep, Modes.of(model)
        )
        standing.save(asked.folder / f"k_diffusion-{nfe}.safetensors")


if __name__ == "__main__":
    main()
