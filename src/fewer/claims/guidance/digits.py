"""Rules of guidance at a high scale on a trained network, by the Frechet distance to the digits it learned from.

The papers of these rules say the same of each: at a high scale its images are nearer to the data than those of
classifier-free guidance at that scale.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from fewer import Model, Plan, load, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean, share
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.features.linear import PCA
from fewer.evaluate.statistics.interval import Interval
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.cfg_rescale import Rescaled
from fewer.guidance.fdg import BandScales
from fewer.guidance.mambo_g import MagnitudeAware
from fewer.guidance.tcfg import Tangential
from fewer.models.bundled import digits_classifier, digits_images
from fewer.noise import unit_noise
from fewer.plan import Guidance

MODEL, ROWS, SAMPLES, SCALE = "dit-digits", 12, 576, 5.0
BLOCK, AXES = 96, 16  # images of a block; leading axes of the features that distances are measured on
OTHER_NOISE = 1000  # added to the seed where a choice is made, so that it is not made on the noise of the verdict

RULES: dict[str, tuple[Guidance, str]] = {
    "apg": (ProjectedGuidance(SCALE, 0.0, 2.0, -0.5), "parallel 0, norm 2 (a third of an image's), momentum -0.5"),
    "rescaled": (Rescaled(SCALE, 0.7), "share 0.7"),
    "tangential": (Tangential(SCALE), "no further number"),
    "band-scales": (BandScales(SCALE, 0.5, 1.0), "the lower half of the frequencies scaled by 0.5"),
    "magnitude-aware": (MagnitudeAware(SCALE), "damping 8"),
}  # fmt: skip


@cache
def data_features() -> Tensor:
    """Features (n, 48) of all digits."""
    return digits_classifier().features(torch.cat([digits_images(split)[0] for split in ("train", "test")]))


@cache
def axes() -> PCA:
    """The projection on the features' leading axes."""
    return PCA.fit(data_features()[..., None, None], AXES)


def alone(name: str, rows: int) -> Plan:
    """The network with the label, without guidance, in so many rows."""
    return standard("dpmpp-2m", load(name), rows, "logsnr")


def plain(name: str = MODEL) -> Plan:
    """The rows that every rule plays here."""
    return alone(name, ROWS)


def images(plan: Plan, seed: int, n: int = SAMPLES, of: str | Model = MODEL) -> Tensor:
    """Samples (n, 1, 8, 8) of a model, or of the bundled one of this name."""
    model = load(of) if isinstance(of, str) else of
    return sample(model, plan, noise=unit_noise(seed, range(n), model.shape), labels=classes(seed, n), batch=192)


def classes(seed: int, n: int) -> Tensor:
    """Labels (n,) drawn independently, as the distance assumes; equal for equal seeds."""
    return torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))


def features(x: Tensor) -> Tensor:
    """The bundled classifier's features of images, on their leading axes (n, 16)."""
    return axes()(digits_classifier().features(x)[..., None, None])


@cache
def data() -> Tensor:
    """The same features of all digits, which stand for the data."""
    return axes()(data_features()[..., None, None])


def distances(x: Tensor) -> list[float]:
    """The Frechet distances of independent blocks of images to the digits."""
    return [frechet(block, data()).value for block in features(x).split(BLOCK)]


def distance(plan: Plan, seed: int, n: int, of: str | Model = MODEL) -> float:
    """The sum of the distances of the images that a plan makes from n noises of this seed: what choices are made by."""
    return sum(distances(images(plan, seed, n, of)))


def right(x: Tensor, labels: Tensor) -> Tensor:
    """Whether a support vector machine of the held-out digits finds each image's label, (n,)."""
    from sklearn.svm import SVC

    held_out, known = digits_images("test")
    machine = SVC(gamma="scale").fit(held_out.flatten(1).numpy(), known.numpy())
    return torch.from_numpy(machine.predict(x.flatten(1).numpy())) == labels


def accuracy(x: Tensor, labels: Tensor) -> Interval:
    """Share of images whose label it finds."""
    return share(int(right(x, labels).sum()), len(x))


def nearer(mine: Tensor, its: Tensor, seed: int) -> Measured:
    """Mean difference of the Frechet distances of blocks from the same noise, with both, and the accuracies."""
    one, other, labels = distances(mine), distances(its), classes(seed, len(mine))
    beside = {
        "distance": mean(one), "baseline's": mean(other),
        "accuracy": accuracy(mine, labels), "its": accuracy(its, labels),
    }  # fmt: skip
    return Measured(mean([a - b for a, b in zip(one, other, strict=True)]), beside)


@cache
def constant(scale: float, seed: int, n: int = SAMPLES, name: str = MODEL) -> Tensor:
    """Images of classifier-free guidance."""
    return images(guide(plain(name), scale), seed, n, name)


def against_cfg(rule: Guidance, seed: int, sabotage: bool) -> Measured:
    """A rule against classifier-free guidance of its scale. The broken variant guides away from the label.

    With its damping the magnitude-aware rule would hardly guide either way, so that is taken from it too.
    """
    broken = {"scale": -SCALE} | ({"damping": 0.0} if isinstance(rule, MagnitudeAware) else {})
    taken = replace(rule, **broken) if sabotage else rule  # type: ignore[type-var]
    return nearer(images(guide(plain(), taken), seed), constant(SCALE, seed), seed)


for name, (rule, numbers) in RULES.items():
    claim(
        f"{name}/digits",
        statement=f"At scale {SCALE:g} ({numbers}) images of {MODEL} are nearer to the digits: difference of the Frechet "
        "distances on classifier features.",
        baseline=f"classifier-free guidance at scale {SCALE:g}, same {ROWS} rows and noise",
        below=0.0,
    )(partial(against_cfg, rule))
