"""Classifiers trained for guidance, where the true probabilities of noisy states are known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fewer import sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.guidance.classifiers import posterior
from fewer.claims.guidance.exact_classes import classes, mixture
from fewer.claims.repeated import mean
from fewer.evaluate.statistics.paired import squared_errors
from fewer.guidance import guide
from fewer.guidance.classifier import NoisyClassifier
from fewer.noise import unit_noise
from fewer.train.ps_kd import train_classifier

TRAININGS, IMAGES, EPOCHS, REFINED = 6, 96, 120, 0.8
STATES, ROWS, SAMPLES = 2048, 12, 256


class Small(nn.Module):
    """Two hidden layers on a state of the plane and its level; wide enough to learn 96 images by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 3))

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        """Logits (n, 3)."""
        return self.layers(torch.cat([x.flatten(1), tau[:, None]], 1))  # type: ignore[no-any-return]


def states(seed: int) -> list[tuple[Tensor, float, Tensor]]:
    """Noisy states that no training saw, their level, and the true probabilities."""
    found = []
    for number, tau in enumerate((0.1, 0.3, 0.5, 0.7)):
        clean, _ = mixture().sample(STATES // 4, 31 * seed + number)
        x = (1 - tau) * clean + tau * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).to(clean)
        found.append((x.float(), tau, posterior(x, tau).softmax(1)))
    return found


def trained(seed: int, refined: float, wrong: bool) -> tuple[float, float]:
    """KL of the true probabilities from a classifier's, nats, and the RMSE of guided samples to the conditional model's."""
    torch.manual_seed(seed)  # of the weights it begins with, which the two sides share
    images, labels = mixture().sample(IMAGES, seed)
    assert labels is not None
    labels = (labels + 1) % 3 if wrong else labels
    classifier = train_classifier(Small(), images.float(), labels, refined=refined, epochs=EPOCHS, seed=seed)
    gaps = [
        (p * (p.clamp_min(1e-30).log() - classifier(x, tau).double().log_softmax(1))).sum(1)
        for x, tau, p in states(seed)
    ]
    model = replace(classes(), classifier=classifier)
    noise, plan = unit_noise(seed, range(SAMPLES), model.shape), standard("dpmpp-2m", model, ROWS, "logsnr")
    label, guided = (
        sample(model, guide(plan, rule), noise=noise, batch=SAMPLES) for rule in (1.0, NoisyClassifier(1.0))
    )
    return float(torch.cat(gaps).mean()), float(squared_errors(guided, label).mean().sqrt())


@claim(
    "ps-kd/posterior",
    statement=f"Refined targets (share {REFINED:g} in the end) bring a classifier of noisy states, trained on {IMAGES} images, "
    f"nearer to the true probabilities: mean change of the Kullback-Leibler divergence from them over {TRAININGS} trainings, "
    "nats; beside, the RMSE of samples that it guides to those of the conditional model.",
    baseline=f"the same network, images, noise and {EPOCHS} epochs on the labels alone; exact mixture of three classes that "
    "overlap",
    below=0.0,
)
def refined_targets(seed: int, sabotage: bool) -> Measured:
    """The broken variant is trained on the labels of another class."""
    numbers = [TRAININGS * seed + n for n in range(TRAININGS)]
    mine, its = ([trained(n, share, sabotage and share > 0) for n in numbers] for share in (REFINED, 0.0))
    beside = {
        "divergence": mean([kl for kl, _ in mine]), "baseline's": mean([kl for kl, _ in its]),
        "error": mean([error for _, error in mine]), "its error": mean([error for _, error in its]),
    }  # fmt: skip
    return Measured(mean([a - b for (a, _), (b, _) in zip(mine, its, strict=True)]), beside)
