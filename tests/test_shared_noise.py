"""The shared starting noise: the best of its candidates, found again where it was planted; bad input."""

from __future__ import annotations

import pytest
import torch

import fewer
from fewer.calibrate.shared_noise import shared_noise
from fewer.errors import InputError
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import Stream, unit_noise

CLASSES = Model.from_mixture(
    GaussianMixture.random((1, 2, 2), 6, seed=0, classes=3), discrete(betas("linear")), conditional=True
)
PLAN = fewer.standard("ddim", CLASSES, 3, "logsnr")
CANDIDATES = unit_noise(5, Stream.CHOICE.numbers(8), CLASSES.shape)


def test_the_noise_that_made_the_targets_is_found_again() -> None:
    labels = torch.tensor([2, 0, 1, 1])
    for planted in (0, 6):
        targets = fewer.sample(CLASSES, PLAN, noise=CANDIDATES[planted].expand(4, 1, 2, 2), labels=labels)
        found = shared_noise(CLASSES, PLAN, targets, labels, candidates=8, seed=5)
        assert found.chosen == planted
        torch.testing.assert_close(found.noise, CANDIDATES[planted])
        torch.testing.assert_close(found.distances[planted], torch.zeros(4).double(), atol=1e-9, rtol=0)
        again = fewer.sample(CLASSES, PLAN, noise=found.repeated(4), labels=labels)
        torch.testing.assert_close(again, targets, atol=1e-5, rtol=1e-5)


def test_distances_are_those_of_each_candidate_and_reference_in_any_batch() -> None:
    targets, labels = unit_noise(1, range(3), CLASSES.shape), torch.tensor([0, 1, 2])
    found = shared_noise(CLASSES, PLAN, targets, labels, candidates=4, seed=5, batch=5)
    for k in range(4):
        made = fewer.sample(CLASSES, PLAN, noise=CANDIDATES[k].expand(3, 1, 2, 2), labels=labels)
        torch.testing.assert_close(found.distances[k], squared_errors(made, targets), atol=1e-5, rtol=1e-4)
    assert float(found.distances.mean(1)[found.chosen]) == float(found.distances.mean(1).min())


def test_the_distance_is_the_users_own() -> None:
    targets = unit_noise(1, range(2), CLASSES.shape)
    far = shared_noise(CLASSES, PLAN, targets, 0, candidates=8, seed=5, distance=lambda a, b: -squared_errors(a, b))
    near = shared_noise(CLASSES, PLAN, targets, 0, candidates=8, seed=5)
    assert far.chosen == int(near.distances.mean(1).argmax())


def test_bad_input_is_one_line() -> None:
    targets = unit_noise(1, range(2), CLASSES.shape)
    noisy = fewer.standard("ancestral", CLASSES, 3)
    for call in (
        lambda: shared_noise(CLASSES, noisy, targets),
        lambda: shared_noise(CLASSES, PLAN, targets[:0]),
        lambda: shared_noise(CLASSES, PLAN, targets[:, :, :1]),
        lambda: shared_noise(CLASSES, PLAN, targets, candidates=0),
        lambda: shared_noise(CLASSES, PLAN, targets, 7),
        lambda: shared_noise(CLASSES, PLAN, targets, distance=lambda a, b: (a - b) / 0),
    ):
        with pytest.raises(InputError) as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1
