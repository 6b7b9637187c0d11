"""Gradient-free classifier guidance: class accuracy against what it costs in distance, where both are known and where not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fewer import Model, load
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.guidance import digits
from fewer.claims.guidance.classifiers import posterior
from fewer.claims.guidance.exact_classes import MORE_BLUR, OTHER_NOISE, ROWS, bias, blurred, classes, drawn, plain
from fewer.claims.repeated import mean, share
from fewer.guidance import guide
from fewer.guidance.autoguidance import Autoguidance
from fewer.guidance.gradient_free import GradientFree
from fewer.models.bundled import digits_classifier
from fewer.plan import Guidance

SCALE, REPEATS = 2.0, 6
SECOND = "digits"  # a UNet that predicts the noise
CHOOSING, CLOSE = digits.SAMPLES // 2, 2304  # images of a choice, and of a comparison of two near each other
SCALES = {"gradient-free": (2.0, 4.0, 8.0), "cfg": (1.5, 2.0, 3.0)}  # the first is weighed down


class Backwards(GradientFree):
    """The broken variant on the mixture: it pushes where the classifier is sure, and where it is not it leaves off."""

    def weight(self, surety: Tensor) -> Tensor:
        """(scale - 1) p_y."""
        return (self.scale - 1) * surety


def model() -> Model:
    """Three classes that overlap, with their true posterior and a weaker network."""
    return replace(classes(), classifier=posterior, weaker=blurred(MORE_BLUR))


def right(x: Tensor) -> Tensor:
    """Whether the wanted class is each sample's likeliest by the true posterior, (n,)."""
    return posterior(x, 0.0).argmax(1) == torch.arange(len(x)) % 3


def made(rule: float | Guidance, seed: int) -> Tensor:
    """Samples (n, 1, 1, 2), the classes in turn."""
    return drawn(guide(plain(), rule), seed, model())


def how_right(rule: float | Guidance, seed: int) -> float:
    """The share of samples that are of the wanted class."""
    return float(right(made(rule, seed)).double().mean())


def of_accuracy(rule: Callable[[float], float | Guidance], wanted: float, seed: int) -> float:
    """The scale at which the rule's samples are of the wanted class this often, by halving."""
    low, high = 1.0, 5.0
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if how_right(rule(middle), seed) < wanted else (low, middle)
    return (low + high) / 2


@claim(
    "gradient-free/bias",
    statement=f"At scale {SCALE:g} with the true posterior of clean samples for classifier, it leaves the class's true "
    "distribution less than classifier-free guidance does whose samples are as often of the asked class: difference of squared "
    f"Frechet distances, mean of {REPEATS} noises; beside, autoguidance that is as often right.",
    baseline="classifier-free guidance of the scale of equal accuracy, found on other noise each time; same passes and noise, "
    f"dpmpp-2m of {ROWS} rows, exact mixture of three classes that overlap",
    below=0.0,
)
def least_bias(seed: int, sabotage: bool) -> Measured:
    """The broken variant's scale grows with the classifier's surety."""
    rule = Backwards(SCALE) if sabotage else GradientFree(SCALE)
    found: dict[str, list[float]] = {}
    for each in range(REPEATS * seed, REPEATS * (seed + 1)):
        other = each + OTHER_NOISE
        wanted = how_right(rule, other)
        scale = of_accuracy(float, wanted, other)
        weakly = Autoguidance(of_accuracy(Autoguidance, wanted, other))
        rules: dict[str, float | Guidance] = {"": rule, "baseline's ": scale, "autoguidance's ": weakly}
        for name, one in rules.items():
            x = made(one, each)
            found.setdefault(f"{name}distance", []).append(bias(x, each).value)
            found.setdefault(f"{name}accuracy", []).append(float(right(x).double().mean()))
        found.setdefault("baseline's scale", []).append(scale)
    gaps = [a - b for a, b in zip(found["distance"], found["baseline's distance"], strict=True)]
    return Measured(mean(gaps), {name: mean(values) for name, values in found.items()})


def classified(name: str) -> Model:
    """A bundled network with the bundled classifier of clean images."""
    network = digits_classifier()
    return replace(load(name), classifier=lambda x, tau: network(x))


def best(rule: Callable[[float], float | Guidance], scales: tuple[float, ...], seed: int, name: str) -> float:
    """The scale whose images are nearest to the digits, on the noise of this seed."""
    rows = digits.plain(name)
    return min(scales, key=lambda w: digits.distance(guide(rows, rule(w)), seed, CHOOSING, classified(name)))


def more_accurate(name: str, n: int, seed: int, sabotage: bool) -> Measured:
    """Difference of class accuracies. The broken variant guides towards the class that the images are confused with."""
    rows, other = digits.plain(name), seed + OTHER_NOISE
    labels = digits.classes(seed, n)
    ours = -SCALE if sabotage else best(GradientFree, SCALES["gradient-free"], other, name)
    theirs = best(float, SCALES["cfg"], other, name)
    rules: tuple[float | Guidance, ...] = (GradientFree(ours), theirs, 1.0)
    mine, its, alone = (digits.images(guide(rows, rule), seed, n, classified(name)) for rule in rules)
    hits = [digits.right(x, labels) for x in (mine, its, alone)]
    beside: Beside = {
        "scale": ours, "its scale": theirs, "accuracy": share(int(hits[0].sum()), n), "its": share(int(hits[1].sum()), n),
        "without": share(int(hits[2].sum()), n), "distance": mean(digits.distances(mine)),
        "baseline's": mean(digits.distances(its)), "network alone": mean(digits.distances(alone)),
    }  # fmt: skip
    return Measured(mean((hits[0].double() - hits[1].double()).tolist()), beside)


for network in (digits.MODEL, SECOND):
    claim(
        f"gradient-free/{network}",
        statement=f"With the bundled classifier more images of {network} are of the class that was asked for, as a support vector "
        "machine of held-out digits finds it: difference of the shares; beside, the Frechet distances to the digits on the "
        "bundled classifier's features.",
        baseline="classifier-free guidance, same 12 rows, passes and noise; each at its scale of least Frechet distance on other "
        f"noise, of {', '.join(f'{w:g}' for w in SCALES['cfg'])} and of {', '.join(f'{w:g}' for w in SCALES['gradient-free'])}",
        above=0.0,
        tier="full",
    )(partial(more_accurate, network, CLOSE))
