"""Scores by where samples end: the root of the weights, and the second-order change that it gives."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fewer.compression.asked import default_score
from fewer.compression.calibration import Calibration
from fewer.compression.cut import cut
from fewer.compression.masks.best import BetterEnd
from fewer.compression.recover.ends import Ends, waves
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.scores.taylor import EndGaussNewton, GaussNewton, Taylor
from fewer.compression.subject import Subject
from fewer.compression.units import WIDTHS, Group
from fewer.registry import name_of
from fewer.testing.compression import costs_of, subject_of
from fewer.testing.models import unet

T = torch.tensor([20.0, 400.0, 990.0])


def ends_of_waves() -> Ends:
    """Of data whose power falls with the frequency, alike in both directions."""
    model = unet()
    smooth = torch.randn(32, *model.shape, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    return Ends.of(Calibration(model, smooth, None))


def test_the_squared_length_of_the_root_is_what_errors_count() -> None:
    ends = ends_of_waves()
    x, y = torch.randn(2, 3, *ends.model.shape, generator=torch.Generator().manual_seed(1))
    counted = (ends.at(T) * waves(x).abs().square()).sum()
    torch.testing.assert_close(ends.roots(x, T).square().sum(), counted)
    torch.testing.assert_close((ends.roots(x, T) * y).sum(), (x * ends.roots(y, T)).sum())  # it is symmetric
    torch.testing.assert_close(
        ends.relative(x, y, T), ends.roots(x - y, T).square().sum() / ends.roots(y, T).square().sum()
    )


def test_channels_without_places_have_a_root_each() -> None:
    model = replace(unet(), shape=(5,))
    ends = Ends(model, torch.rand(5, dtype=torch.float64) + 0.1)
    x = torch.randn(3, 5)
    torch.testing.assert_close(ends.roots(x, T), ends.at(T).sqrt() * x)


@pytest.mark.parametrize("score", [EndGaussNewton(probes=1), GaussNewton(probes=1)])
def test_the_score_is_half_the_square_of_what_a_scale_on_the_unit_does_along_a_direction(score: GaussNewton) -> None:
    """The direction is of signs, and where samples end matters their weighed root; the change is by differences."""
    subject = replace(subject_of(unet(), ("heads",)), batch=4, batches=1)
    subject = replace(subject, groups=subject.groups[:1])
    (batch,), group, h = subject.states, subject.groups[0], 1e-2
    signs = torch.randint(0, 2, batch.target.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    direction = Ends.of(subject.calibration).roots(signs, batch.t) if score.ends else signs
    rated = score.rate(subject)[group.name]
    for unit in range(group.size):
        slope = (scaled(subject, group, unit, 1 + h) - scaled(subject, group, unit, 1 - h)) / (2 * h)
        along = float((direction * slope).double().sum())
        assert float(rated[unit]) == pytest.approx(along**2 / (2 * slope.numel()), rel=0.05)


@torch.no_grad()
def scaled(subject: Subject, group: Group, unit: int, factor: float) -> Tensor:
    """The outputs on the first states where all weights of a unit are so many times as large."""
    moved = cut(subject.network, (), {})
    for span in group.spans:
        weight = moved.get_parameter(span.parameter)
        weight.index_copy_(span.dim, span.index[unit], weight.index_select(span.dim, span.index[unit]) * factor)
    return subject.call(moved, subject.states[0])


@pytest.mark.parametrize(
    ("plain", "end", "taken"),
    [(1.0, 0.49, "end"), (1.0, 0.51, "plain"), (1.0, math.nan, "plain"), (math.nan, 1.0, "end")],
)
def test_the_score_by_where_samples_end_is_taken_where_it_leaves_far_less(
    plain: float, end: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of(unet(), WIDTHS)
    rated = {name: {g.name: torch.rand(g.size) for g in subject.groups} for name in ("plain", "end")}
    monkeypatch.setattr(Taylor, "rate", lambda self, subject: rated["plain"])
    monkeypatch.setattr(EndGaussNewton, "rate", lambda self, subject: rated["end"])
    left = iter([end, plain])
    monkeypatch.setattr(BetterEnd, "_left", lambda *given: next(left))
    learnt = BetterEnd().learn(subject, costs_of(subject, 0.8))
    assert learnt.importance is rated[taken]
    assert (learnt.weights, learnt.steps) == ({}, 0)
    assert learnt.score == {"end": name_of("compress", EndGaussNewton()), "plain": name_of("compress", Taylor())}[taken]


def test_what_is_left_is_the_loss_of_the_cut_within_the_budget_repaired() -> None:
    """Of the whole network none."""
    subject = subject_of(unet(), WIDTHS)
    importance = Magnitude().rate(subject)
    some, none = (BetterEnd()._left(subject, costs_of(subject, share), importance) for share in (0.7, 1.0))
    assert some > 1e-4
    assert none == pytest.approx(0, abs=1e-9)


def test_networks_that_predict_noise_are_cut_by_where_samples_end() -> None:
    assert default_score("noise", True) == default_score("score", True) == "better-end"
    assert default_score("flow", True) == default_score("noise", False) == "taylor"
