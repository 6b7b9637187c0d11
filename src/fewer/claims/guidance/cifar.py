"""Images of the trained networks of 16x16 in colour, by the Frechet distance to the images that they learned from.

The distance is on the leading axes of a classifier's features, to the moments of the training images' features that are bundled
with it. Two sets of images from the same noise are compared by the jackknife of the difference, in which most of the noise cancels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from fewer import Plan, load, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import share
from fewer.evaluate.distances.frechet import against_moments
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import jackknife
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.fdg import FrequencyDecoupled
from fewer.guidance.policies.limited_interval import limited_interval
from fewer.models.bundled import cifar_classifier
from fewer.models.cifar_classifier import CifarClassifier
from fewer.noise import unit_noise

ROWS, SAMPLES, CHOOSING, SCALE = 8, 192, 64, 5.0
WITHIN, CHOOSING_WITHIN = 2304, 576  # of the limited interval, whose gap is smaller than that between scales
SAMPLING = {  # solver and grid by which 8 rows of the network alone come as near to the data as 16
    "cifar16-dit": ("ipndm", "uniform"),
    "cifar16-unet": ("dpmpp-2m", "logsnr"),
}
AXES, PARTS = 16, 16  # of the features, and of the jackknife
SCALES, LOW, HIGH = (1.5, 2.0, 3.0, 4.0), 0.22, 0.74  # sigma / alpha from 0.28 to 2.9
OTHER_NOISE = 1000  # added to the seed where a choice is made

classifier = cache(cifar_classifier)


@cache
def data() -> tuple[Tensor, Tensor, Tensor]:
    """The leading axes (64, AXES) of the features of the data, and their mean (AXES,) and covariance (AXES, AXES) along these."""
    of: CifarClassifier = classifier()
    values, vectors = torch.linalg.eigh(of.data_covariance.double())
    along = vectors[:, -AXES:]
    return along, of.data_mean.double() @ along, values[-AXES:].diag()


def alone(name: str, rows: int) -> Plan:
    """The network with the label, without guidance, in so many rows."""
    solver, grid = SAMPLING[name]
    return standard(solver, load(name), rows, grid)


def plain(name: str) -> Plan:
    """The rows that every rule plays here."""
    return alone(name, ROWS)


def classes(seed: int, n: int) -> Tensor:
    """Labels (n,) drawn independently; equal for equal seeds."""
    return torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))


def images(plan: Plan, seed: int, n: int, name: str) -> Tensor:
    """Samples (n, 3, 16, 16) of a bundled network."""
    model = load(name)
    return sample(model, plan, noise=unit_noise(seed, range(n), model.shape), labels=classes(seed, n), batch=64)


def features(x: Tensor) -> Tensor:
    """The classifier's features of images (n, 3, 16, 16), clipped to what a picture holds, on the data's leading axes (n, AXES)."""
    return classifier().features(x.clamp(-1, 1)).double() @ data()[0]


def to_data(rows: Tensor) -> float:
    """The squared Frechet distance of features (n, AXES) to the data's."""
    return float(against_moments(rows, *data()[1:]))


def distance(plan: Plan, seed: int, n: int, name: str) -> float:
    """That of the images that a plan makes from n noises of this seed: what choices are made by."""
    return to_data(features(images(plan, seed, n, name)))


def difference(mine: Tensor, its: Tensor | None = None) -> Interval:
    """The distance of images to the data less that of others from the same noise, each without its bias in 1 / n."""
    numbers, one = torch.arange(len(mine)) % PARTS, features(mine)
    other = None if its is None else features(its)

    def figure(kept: list[int]) -> float:
        rows = torch.isin(numbers, torch.tensor(kept))
        return to_data(one[rows]) - (0.0 if other is None else to_data(other[rows]))

    return jackknife(figure, PARTS)


def accuracy(x: Tensor, labels: Tensor) -> Interval:
    """The share of images whose label the classifier finds."""
    return share(int((classifier()(x.clamp(-1, 1)).argmax(1) == labels).sum()), len(x))


def nearer(mine: Tensor, its: Tensor, seed: int) -> Measured:
    """The difference of the distances, with both, and the accuracies."""
    labels = classes(seed, len(mine))
    beside = {
        "distance": difference(mine), "baseline's": difference(its),
        "accuracy": accuracy(mine, labels), "its": accuracy(its, labels),
    }  # fmt: skip
    return Measured(difference(mine, its), beside)


@cache
def constant(scale: float, seed: int, name: str) -> Tensor:
    """Images of classifier-free guidance."""
    return images(guide(plain(name), scale), seed, SAMPLES, name)


def against_cfg(rule: ProjectedGuidance | FrequencyDecoupled, name: str, seed: int, sabotage: bool) -> Measured:
    """A rule against classifier-free guidance of its scale. The broken variant guides away from the label."""
    taken = replace(rule, scale=-SCALE) if sabotage else rule
    return nearer(images(guide(plain(name), taken), seed, SAMPLES, name), constant(SCALE, seed, name), seed)


for part, name, rule, numbers in (
    ("frequency-decoupled", "cifar16-unet", FrequencyDecoupled(SCALE, SCALE / 2), "half of it on the coarse level"),
    ("apg", "cifar16-dit", ProjectedGuidance(SCALE, 0.0, 4.5, -0.5), "parallel 0, norm 4.5, a third of an image's, momentum -0.5"),
):  # fmt: skip
    claim(
        f"{part}/{name}",
        statement=f"At scale {SCALE:g} ({numbers}) images of {name} are nearer to the data: difference of the Frechet distances on "
        "classifier features.",
        baseline=f"classifier-free guidance at scale {SCALE:g}, same {ROWS} rows and noise",
        below=0.0,
        tier="full",
    )(partial(against_cfg, rule, name))


@claim(
    "limited-interval/cifar16-dit",
    statement=f"Guidance in the levels tau from {LOW:g} to {HIGH:g}, those of the paper's, brings images of cifar16-dit nearer to "
    "the data than in all levels: difference of the Frechet distances on classifier features.",
    baseline=f"classifier-free guidance, same {ROWS} rows and noise; each at the best scale, on other noise, of "
    f"{', '.join(f'{scale:g}' for scale in SCALES)}",
    below=0.0,
    tier="full",
)
def interval(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    name, other = "cifar16-dit", seed + OTHER_NOISE

    def within(scale: float) -> Plan:
        return limited_interval(plain(name), scale, LOW, HIGH)

    mine = min(SCALES, key=lambda scale: distance(within(scale), other, CHOOSING_WITHIN, name))
    its = min(SCALES, key=lambda scale: distance(guide(plain(name), scale), other, CHOOSING_WITHIN, name))
    made = images(within(-mine if sabotage else mine), seed, WITHIN, name)
    return nearer(made, images(guide(plain(name), its), seed, WITHIN, name), seed).with_beside(
        {"scale": mine, "best constant scale": its}
    )
