"""Choosing classifiers without labels: what the mutual information is, what marginalising takes out, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer.calibrate.mutual_information import choose_classifier, marginalised, mutual_information
from fewer.errors import InputError


def random(n: int, k: int, seed: int, sharp: float = 2.0) -> Tensor:
    logits = torch.randn(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.softmax(sharp * logits, 1)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 99))
def test_it_is_the_mean_divergence_from_the_mean(n: int, k: int, seed: int) -> None:
    """MI = mean_x KL(p(y | x) | mean p), at least 0 and at most log K."""
    p = random(n, k, seed)
    divergence = (p * (p / p.mean(0)).log()).sum(1).mean()
    found = mutual_information(p)
    torch.testing.assert_close(found, divergence, atol=1e-9, rtol=1e-6)
    assert -1e-9 <= float(found) <= math.log(k) + 1e-9


def test_answers_that_are_always_the_same_or_always_sure() -> None:
    constant = torch.tensor([[0.2, 0.8]]).expand(6, 2)
    sure = torch.eye(3)[torch.arange(9) % 3]
    assert float(mutual_information(constant)) == pytest.approx(0, abs=1e-7)
    assert float(mutual_information(sure)) == pytest.approx(math.log(3))


@settings(deadline=None)
@given(st.integers(0, 99), st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_marginalising_takes_out_a_leaning(seed: int, leaning: list[float]) -> None:
    """Of answers that are sure, factors on classes change nothing; of any, the calibrated rows are probabilities."""
    p = random(30, 3, seed)
    torch.testing.assert_close(marginalised(p).sum(1), torch.ones(30, dtype=torch.float64))
    sure = 0.97 * torch.eye(3, dtype=torch.float64)[torch.arange(30) % 3] + 0.01
    leant = sure * torch.tensor(leaning, dtype=torch.float64).exp()
    leant = leant / leant.sum(1, keepdim=True)
    assert bool((marginalised(leant).argmax(1) == sure.argmax(1)).all())


def test_the_most_informative_is_chosen() -> None:
    pool = [random(50, 4, seed, sharp) for seed, sharp in enumerate((0.1, 3.0, 1.0))]
    assert choose_classifier(pool) == choose_classifier(pool, calibrate=False) == 1
    assert choose_classifier(pool[:1]) == 0


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        ([], "probabilities are of no classifier"),
        ([random(3, 2, 0), random(4, 2, 0)], r"probabilities of classifier 1 have shape \(4, 2\)"),
        ([torch.ones(3)], r"probabilities of classifier 0 have shape \(3,\)"),
        ([2 * random(3, 2, 0)], "classifier 0 hold a row that is not one of probabilities"),
    ],
)
def test_bad_input_is_told_in_one_line(pool: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        choose_classifier(pool)
    assert "\n" not in str(told.value)
