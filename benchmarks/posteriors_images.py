"""Which sampler on a trained network: methods on held-out images, of which no posterior is known.

    python -m benchmarks.posteriors_images --out benchmarks/results/posteriors-digits.json     # half an hour on one core
    python -m benchmarks.posteriors_images --model cifar16-unet --data cifar10-test.zip --images 24 --draws 8 --choose-by 6 \\
        --calls 20 --out benchmarks/results/posteriors-cifar16-unet.json                       # 35 minutes on one core

Of each method the best of its settings, by the energy score of other images (`--choose-by` of them, all settings on the same
measurements and from the same noise, half as many samples an image): peak signal-to-noise ratio of the mean of its samples,
energy score, coverage of true pixels by the central 50, 80 and 95 % of its samples, and the energy distance of its samples, one an
image, to all held-out images in the features of a classifier that the network has not seen. What the file has is not made again.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import fill
from benchmarks.cifar import images16
from benchmarks.posteriors import METHODS
from fewer import InputError, load, solve
from fewer.errors import NotFinite
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.posteriors import LEAST, coverage, energy_scores
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.models.bundled import cifar_classifier, digits_classifier, digits_images
from fewer.models.model import Model
from fewer.registry import find
from fewer.tasks.inverse.given_operators import as_operator

MODELS = ("digits", "dit-digits", "cifar16-unet", "cifar16-dit")
OWN = tuple(name for name in METHODS if name != "exact-guidance")
PROBLEMS, CALLS, NOISE = ("super-resolution", "inpaint", "deblur"), (20, 50), 0.1
IMAGES, DRAWS = 64, 8
LEAST_IMAGES = 8  # of a distance in features
MOST = 2000  # held-out images that samples are compared with
RANGE = 2.0  # of pixels, for the peak signal-to-noise ratio


@dataclass(frozen=True)
class Bed:
    """A network with held-out images, whose order is shuffled once: the first are measured, the last choose settings.

    images, draws  that are measured, and samples of each
    choosing       other images, by which settings are chosen
    data           zip of CIFAR-10's test images, for the 16x16 networks
    """

    model_name: str
    images: int
    draws: int
    choosing: int
    data: Path | None = None

    @cached_property
    def model(self) -> Model:
        """The network."""
        return load(self.model_name)

    @cached_property
    def held_out(self) -> Tensor:
        """All held-out images (N, *shape), shuffled. Raises InputError where there are too few."""
        if "digits" in self.model_name:
            found = digits_images("test")[0]
        elif self.data is None:
            raise InputError(f"{self.model_name} needs --data, a zip of CIFAR-10's test images")
        else:
            found = images16(self.data)[0]
        needed = self.images + self.choosing
        if len(found) < needed:
            raise InputError(
                f"there are {len(found)} held-out images; {needed} are needed, {self.choosing} to choose by"
            )
        return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]

    @property
    def truth(self) -> Tensor:
        """The images that are measured."""
        return self.held_out[: self.images]

    @property
    def others(self) -> Tensor:
        """The images by which settings are chosen."""
        return self.held_out[-self.choosing :]

    def features(self, x: Tensor) -> Tensor:
        """Of the classifier of such images."""
        return (digits_classifier() if "digits" in self.model_name else cifar_classifier()).features(x)

    def samples(
        self, truth: Tensor, name: str, method: str, settings: Mapping[str, float | str], calls: int, n: int
    ) -> Tensor:
        """N samples of each image's posterior by its measurement, (B, n, *shape)."""
        operator = as_operator(name, self.model.shape)
        clean = operator(truth)
        y = clean + NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(len(truth)))
        made = find("tasks", method).make(**settings)
        return solve(self.model, operator, y, plan=calls, method=made, noise=NOISE, n=n).samples

    def cell(self, name: str, method: str, calls: int) -> dict[str, Any]:
        """Settings and figures of a method; no figures where samples are not finite."""
        settings, few = METHODS[method], max(2, self.draws // 2)
        scores = [self._score(name, method, each, calls, few) for each in (settings if len(settings) > 1 else ())]
        best = settings[scores.index(min(scores))] if scores else settings[0]
        began = time.process_time()
        cell = {"settings": dict(best), "images": self.images, "draws": self.draws, "chosen by": self.choosing}
        try:
            x = self.samples(self.truth, name, method, best, calls, self.draws)
        except NotFinite:
            return cell | {"seconds": 0.0, "figures": {}}
        seconds = time.process_time() - began
        figures: dict[str, Interval] = {
            "psnr": _ratio(x.mean(1), self.truth),
            "energy score": student(energy_scores(x, self.truth).tolist()),
            "features": energy_distance(self.features(x[:, 0]), self.features(self.held_out[:MOST])),
            **{f"coverage {p:g}": share for p, share in coverage(x, self.truth).items()},
        }
        ends = {figure: (each.value, each.low, each.high) for figure, each in figures.items()}
        return cell | {"seconds": round(seconds, 2), "figures": ends}

    def _score(self, name: str, method: str, settings: Mapping[str, float | str], calls: int, n: int) -> float:
        """The mean energy score of the images by which settings are chosen; infinite where samples are not finite."""
        try:
            samples = self.samples(self.others, name, method, settings, calls, n)
        except NotFinite:
            return math.inf
        return float(energy_scores(samples, self.others).mean())

    def cost(self, method: str, calls: int) -> float:
        """Of a cell, in network evaluations; a derivative through the network is two more."""
        settings = len(METHODS[method])
        choice = settings * self.choosing * max(2, self.draws // 2) if settings > 1 else 0
        return calls * (self.images * self.draws + choice) * (1 + 2 * find("tasks", method).make().derivative)


def _ratio(x: Tensor, truth: Tensor) -> Interval:
    """10 log10(RANGE^2 / mean squared error), mean over images, in decibels."""
    errors = (x - truth).double().square().flatten(1).mean(1)
    return student([10 * math.log10(RANGE**2 / error) for error in errors.tolist()])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--data", type=Path, help="zip of CIFAR-10's test images, for the 16x16 networks")
    parser.add_argument("--calls", type=int, nargs="+", default=list(CALLS))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=OWN, default=list(OWN))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument(
        "--choose-by", type=int, help="other images, to choose settings by (default: half as many as measured)"
    )
    given = parser.parse_args()
    choosing = given.images // 2 if given.choose_by is None else given.choose_by
    if given.images < LEAST_IMAGES or given.draws < LEAST or choosing < 1:
        parser.error(f"expected at least {LEAST_IMAGES} images, {LEAST} draws, and 1 image to choose by")
    torch.set_num_threads(1)
    bed = Bed(given.model, given.images, given.draws, choosing, given.data)
    costs = {f"{p}/{m}/{n}": bed.cost(m, n) for n in given.calls for p in given.problems for m in given.methods}

    def make(key: str) -> dict[str, Any]:
        name, method, calls = key.split("/")
        return bed.cell(name, method, int(calls))

    def said(found: Mapping[str, Any]) -> str:
        figures = found["figures"]
        shown = [f"{key} {figures[key][0]:.3f}" for key in ("psnr", "energy score", "coverage 0.8") if figures]
        return f"{found['settings']}: {', '.join(shown) or 'not finite'}"

    fill(given.out, costs, make, said)


if __name__ == "__main__":
    main()
