"""Scores by where samples end: the root of the weights, and the second-order change that it gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fewer.compression.asked import default_score
from fewer.compression.calibration import Calibration
from fewer.compression.cut import cut
from fewer.compression.recover.ends import Ends, waves
from fewer.compression.scores.taylor import EndGaussNewton, GaussNewton
from fewer.compression.subject import Subject
from fewer.compression.units import Group
from fewer.testing.compression import subject_of
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


@pytest.mark.parametrize("score", [EndGaussNewton(probes=1), GaussNewton(probes=1, each=2)])
def test_the_score_is_half_the_square_of_what_a_scale_on_the_unit_does_along_a_direction(score: GaussNewton) -> None:
    """The direction is of signs, and where samples end matters their weighed root; the change is by differences."""
    subject = replace(subject_of(unet(), ("heads",)), batch=4, batches=1)
    subject = replace(subject, groups=subject.groups[:1])
    (batch,), group, h = subject.states, subject.groups[0], 1e-2
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randint(0, 2, some.target.shape, generator=draw) * 2.0 - 1 for some in batch.split(score.each)]
    signs = torch.cat(parts)
    direction = Ends.of(subject.calibration).roots(signs, batch.t) if score.ends else signs
    rated = score.rate(subject)[group.name]
    for unit in range(group.size):
        slope = (scaled(subject, group, unit, 1 + h) - scaled(subject, group, unit, 1 - h)) / (2 * h)
        along = (direction * slope).double().flatten(1).sum(1).split(score.each)
        squares = sum(float(each.sum()) ** 2 for each in along)
        assert float(rated[unit]) == pytest.approx(squares / (2 * slope.numel()), rel=0.05)


@torch.no_grad()
def scaled(subject: Subject, group: Group, unit: int, factor: float) -> Tensor:
    """The outputs on the first states where all weights of a unit are so many times as large."""
    moved = cut(subject.network, (), {})
    for span in group.spans:
        weight = moved.get_parameter(span.parameter)
        weight.index_copy_(span.dim, span.index[unit], weight.index_select(span.dim, span.index[unit]) * factor)
    return subject.call(moved, subject.states[0])


def test_networks_that_predict_noise_are_cut_by_where_samples_end() -> None:
    assert default_score("noise", True) == default_score("score", True) == "end-gauss-newton"
    assert default_score("flow", True) == default_score("noise", False) == "taylor"
