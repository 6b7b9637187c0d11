"""Classifiers trained on noisy states with refined targets: what they learn, that draws are the seed's, bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.classifier import NoisyClassifier
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.train.ps_kd import train_classifier

EXACT = GaussianMixture.random((1, 1, 2), components=3, seed=2, classes=3)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(3, 3)

    def forward(self, x: Tensor, tau: Tensor) -> Tensor:
        return self.out(torch.cat([x.flatten(1), tau[:, None]], 1))  # type: ignore[no-any-return]


def images(n: int = 120) -> tuple[Tensor, Tensor]:
    x, labels = EXACT.sample(n, 0)
    assert labels is not None
    return x.float(), labels


def trained(**options: Any) -> Any:
    return train_classifier(Linear(), *images(), **{"epochs": 20, "lr": 0.05, **options})


def test_it_learns_the_classes_at_every_level() -> None:
    x, labels = images()
    classifier = trained()
    right = (classifier(x, 0.0).argmax(1) == labels).float().mean()
    assert right > 0.6 > 1 / 3
    assert classifier(x, 0.7).shape == (120, 3)


def test_of_the_first_epoch_there_is_nothing_to_refine_by() -> None:
    x, _ = images()
    for epochs, alike in ((1, True), (3, False)):
        one, other = (trained(refined=share, epochs=epochs)(x, 0.3) for share in (0.0, 0.9))
        assert torch.equal(one, other) is alike


def test_draws_are_the_seeds() -> None:
    x, _ = images()
    torch.testing.assert_close(trained(seed=1)(x, 0.2), trained(seed=1)(x, 0.2), rtol=0, atol=0)
    assert not torch.equal(trained(seed=1)(x, 0.2), trained(seed=2)(x, 0.2))


def test_it_guides() -> None:
    model = Model.from_mixture(EXACT, discrete(betas("scaled_linear")), conditional=True)
    model = replace(model, classifier=trained())
    plan = guide(fewer.standard("ddim", model, 4, "logsnr"), NoisyClassifier(1.0))
    assert fewer.sample(model, plan, n=6).isfinite().all()


def test_bad_input() -> None:
    x, y = images()
    for options, says in (
        ({"refined": 1.0}, "refined is 1.0"), ({"epochs": 0}, "epochs is 0"), ({"batch": 1.5}, "batch is 1.5"),
        ({"lr": 0.0}, "lr is 0.0"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            train_classifier(Linear(), x, y, **options)  # type: ignore[arg-type]
    for labels in (y[:5], y.float(), y - 1):
        with pytest.raises(InputError, match="expected as many labels"):
            train_classifier(Linear(), x, labels)
    with pytest.raises(InputError, match="expected logits"):
        train_classifier(Linear(), x, y + 1, epochs=1)
