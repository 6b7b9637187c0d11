"""Which sampler on a trained network: methods on held-out digits, where no posterior is known.

    python -m benchmarks.posteriors_digits --out benchmarks/results/posteriors-digits.json     # a quarter of an hour on one core

Of each method the best of its settings, by the energy score of other images: peak signal-to-noise ratio of the mean of its samples,
energy score, coverage of true pixels by the central 50, 80 and 95 % of its samples, and the energy distance of its samples, one an
image, to the digits in the features of a classifier that the network has not seen. What the file has is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.posteriors import METHODS
from fewer import load, solve
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.posteriors import coverage, energy_scores
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.models.bundled import digits_classifier, digits_images
from fewer.registry import find
from fewer.tasks.inverse.given_operators import as_operator

PROBLEMS, CALLS, NOISE = ("super-resolution", "inpaint", "deblur"), (20, 50), 0.1
IMAGES, DRAWS = 64, 8
CHOICE_IMAGES, CHOICE_DRAWS = 24, 4
RANGE = 2.0  # of pixels, for the peak signal-to-noise ratio


class Bed:
    """Measurements of held-out digits by one operator; the last images of the shuffled set choose settings."""

    def __init__(self, name: str, images: int = IMAGES) -> None:
        self.model, self.images = load("digits"), digits_images("test")[0]
        self.operator = as_operator(name, self.model.shape)
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
        self.truth, self.others = self.images[order[:images]], self.images[order[-min(images, CHOICE_IMAGES) :]]

    def measured(self, truth: Tensor, seed: int) -> Tensor:
        """With noise."""
        clean = self.operator(truth)
        return clean + NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))

    def samples(
        self, truth: Tensor, method: str, settings: Mapping[str, float], calls: int, n: int, seed: int
    ) -> Tensor:
        """(B, n, *shape)."""
        made = find("tasks", method).make(**settings)
        y = self.measured(truth, seed)
        return solve(
            self.model, self.operator, y, plan=calls, method=made, noise=NOISE, n=n, seed=seed, batch=512
        ).samples

    def cell(self, method: str, calls: int) -> dict[str, Any]:
        """Settings and figures of a method."""
        settings = METHODS[method]
        scores = [
            float(energy_scores(self.samples(self.others, method, each, calls, CHOICE_DRAWS, 1), self.others).mean())
            for each in (settings if len(settings) > 1 else ())
        ]
        best = settings[scores.index(min(scores))] if scores else settings[0]
        began = time.process_time()
        x = self.samples(self.truth, method, best, calls, DRAWS, 0)
        seconds = time.process_time() - began
        features = digits_classifier().features
        figures: dict[str, Interval] = {
            "psnr": _ratio(x.mean(1), self.truth),
            "energy score": student(energy_scores(x, self.truth).tolist()),
            "features": energy_distance(features(x[:, 0]), features(self.images)),
            **{f"coverage {p:g}": share for p, share in coverage(x, self.truth).items()},
        }
        return {
            "settings": dict(best), "seconds": round(seconds, 2),
            "figures": {name: (each.value, each.low, each.high) for name, each in figures.items()},
        }  # fmt: skip


def _ratio(x: Tensor, truth: Tensor) -> Interval:
    """10 log10(RANGE^2 / mean squared error), mean over images, in decibels."""
    errors = (x - truth).double().square().flatten(1).mean(1)
    return student([10 * math.log10(RANGE**2 / error) for error in errors.tolist()])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calls", type=int, nargs="+", default=list(CALLS))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--images", type=int, default=IMAGES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    known: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for calls in given.calls:
        for name in given.problems:
            bed = Bed(name, given.images)
            for method in METHODS:
                key = f"{name}/{method}/{calls}"
                if method == "exact-guidance" or key in known:
                    continue
                known[key] = bed.cell(method, calls)
                given.out.parent.mkdir(parents=True, exist_ok=True)
                part = given.out.with_suffix(".part")
                part.write_text(json.dumps(known, indent=1) + "\n")
                part.replace(given.out)
                print(key, known[key]["settings"], known[key]["figures"], flush=True)


if __name__ == "__main__":
    main()
