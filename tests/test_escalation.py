"""Escalation: who is run again is a matter of each sample's own run, and nobody else is touched."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import small_dit

import fewer
from fewer.dynamic.escalation import SIGNALS, Escalation
from fewer.engine import History, begin, play
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.noise import unit_noise

MODEL = Model.from_mixture(GaussianMixture.random((1, 2, 2), 4, seed=3), Flow(), dtype=torch.float32)
CHEAP, DEAR = (fewer.standard("dpmpp-2m", MODEL, calls) for calls in (4, 9))
N = 24


@given(threshold=st.floats(0, 2), signal=st.sampled_from(SIGNALS), batch=st.integers(1, 30))
@settings(deadline=None, max_examples=20)
def test_the_doubtful_samples_are_the_dear_plans_and_the_others_the_cheap_ones(
    threshold: float, signal: str, batch: int
) -> None:
    made = Escalation(CHEAP, DEAR, threshold, signal).sample(MODEL, N, seed=5, batch=batch)
    cheap, dear = (fewer.sample(MODEL, plan, N, seed=5) for plan in (CHEAP, DEAR))
    assert torch.equal(made.again, made.predicted_error > threshold)
    torch.testing.assert_close(made.x, torch.where(made.again.view(-1, 1, 1, 1), dear, cheap), rtol=1e-4, atol=1e-5)
    assert made.evaluations == pytest.approx(4 + 9 * int(made.again.sum()) / N)


def test_doubt_is_how_far_the_data_prediction_moves() -> None:
    noise, history = unit_noise(0, range(N), MODEL.shape), History()
    play(MODEL, CHEAP, begin(CHEAP, noise, lambda: noise), history=history)
    data = [history.states[n] - float(row.tau) * history.outputs[n] for n, row in enumerate(CHEAP.rows)]
    moves = [(b - a).square().mean((1, 2, 3)).sqrt() for a, b in pairwise(data)]
    for signal, want in (("last", moves[-1]), ("path", sum(moves))):
        made = Escalation(CHEAP, DEAR, math.inf, signal).sample(MODEL, noise=noise, batch=7)
        torch.testing.assert_close(made.predicted_error, want, rtol=1e-4, atol=1e-6)
        assert not made.again.any()


def test_a_model_that_is_sure_leaves_no_doubt() -> None:
    point = GaussianMixture(
        torch.ones(1), torch.ones(1, 4), torch.zeros(1, 4, 0), torch.zeros(1, 0), torch.zeros(1), (1, 2, 2)
    )
    model = Model.from_mixture(point.to(dtype=torch.float64), Flow())
    made = Escalation(CHEAP, DEAR, 1e-5, "path").sample(model, 8)
    assert not made.again.any()


@given(share=st.floats(0, 1), signal=st.sampled_from(SIGNALS))
@settings(deadline=None, max_examples=10)
def test_the_calibrated_threshold_is_exceeded_by_the_share(share: float, signal: str) -> None:
    """Exactly on its own noises; in [0, 1] including both ends."""
    made = Escalation.calibrated(MODEL, CHEAP, DEAR, share, signal=signal, noises=40, seed=2)
    assert int(made.sample(MODEL, 40, seed=2).again.sum()) == round(share * 40)


def test_labels_and_guidance_go_with_their_samples() -> None:
    model = small_dit()
    cheap, dear = (fewer.standard("ddim", model, 2 * calls, guidance=2.0) for calls in (2, 4))
    doubt = Escalation(cheap, dear, math.inf).sample(model, 6, labels=[0, 1, 2, 0, 1, 2]).predicted_error
    made = Escalation(cheap, dear, float(doubt.median())).sample(model, 6, labels=[0, 1, 2, 0, 1, 2])
    assert int(made.again.sum()) == 3
    want = [fewer.sample(model, plan, 6, labels=[0, 1, 2, 0, 1, 2]) for plan in (cheap, dear)]
    torch.testing.assert_close(
        made.x, torch.where(made.again.view(-1, 1, 1, 1), want[1], want[0]), rtol=1e-4, atol=1e-4
    )
    assert made.evaluations == cheap.nfe + dear.nfe / 2


def test_bad_input() -> None:
    noisy = fewer.standard("ancestral", MODEL, 4)
    one = replace(fewer.standard("ddim", MODEL, 1), name="one")
    for make, says in (
        (lambda: Escalation(CHEAP, DEAR, 1.0, "size"), "signal is 'size'"),
        (lambda: Escalation(CHEAP, DEAR, math.nan), "threshold is nan"),
        (lambda: Escalation(CHEAP, noisy, 1.0), "adds noise"),
        (lambda: Escalation(one, DEAR, 1.0), "'one' has one row"),
        (lambda: Escalation.calibrated(MODEL, CHEAP, DEAR, 1.5), r"share is 1\.5"),
        (lambda: Escalation.calibrated(MODEL, CHEAP, DEAR, 0.5, noises=0), "noises is 0"),
    ):
        with pytest.raises(InputError, match=says):
            make()
