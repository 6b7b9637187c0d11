"""Score distillation: its gradient against closed forms, its minimum, windows, and an editor trained by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewer import GaussianMixture, InputError, Model
from fewer.errors import NotFinite
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.tasks.editing.distillation import _levels, distil, gradient
from fewer.tasks.editing.selective import distil_editor, entropies
from fewer.testing.models import counted, transformer

LAW = GaussianMixture.random((1, 2, 2), 1, seed=1)


@pytest.mark.parametrize("schedule", [discrete(betas("linear")), Flow(), VarianceExploding(0.01, 50.0)])
def test_the_gradient_is_sigma_squared_times_the_error_of_the_noise(schedule: Any) -> None:
    """Of a Gaussian: sigma^2 (eps(x) - eps), sigma^2 = s^2 / (1 + s^2), whatever the model's process."""
    model, tau = Model.from_mixture(LAW, schedule), 0.4
    g, noise = torch.randn(2, 5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    x = 0.6 * g + 0.4 * noise
    eps = (x - 0.6 * LAW.denoise(x.double(), tau).float()) / 0.4
    s = 0.4 / 0.6
    expected = s**2 / (1 + s**2) * (eps - noise)
    torch.testing.assert_close(gradient(model, g, None, tau, noise), expected, atol=1e-4, rtol=1e-4)


def test_pictures_go_to_the_mean_of_a_gaussian() -> None:
    model = Model.from_mixture(LAW, Flow())
    picture = torch.full((4, 1, 2, 2), 2.0, requires_grad=True)
    done = distil(model, [picture], lambda: picture, steps=90, until=(0.02, 0.1), rate=0.1)
    apart = (picture.detach().flatten(1).double() - LAW.means).square().mean().sqrt()
    assert float(apart) < 0.15
    assert done.nfe == 90 == len(done.levels) == len(done.gradients)
    assert picture.grad is None


def test_parameters_of_any_render_and_a_further_loss() -> None:
    """A shift of all pixels goes to the shift nearest to the mean, in the precision of the law; a strong loss outweighs it."""
    law = GaussianMixture(
        torch.ones(1).double(), torch.tensor([[0.0, 1.0, 2.0, 3.0]]).double(), torch.zeros(1, 4, 0).double(),
        torch.zeros(1, 0).double(), torch.full((1,), 0.1).double(), (1, 2, 2),
    )  # fmt: skip
    model = Model.from_mixture(law, Flow())

    def end(strong: bool) -> float:
        shift = torch.zeros(1, requires_grad=True)
        loss = (lambda: 30 * (shift - 4.0).square().sum()) if strong else None
        render = lambda: shift.expand(1, 1, 2, 2) * 1.0  # noqa: E731
        distil(model, [shift], render, steps=60, rate=0.2, window=(0.1, 0.6), until=(0.1, 0.2), loss=loss)
        return float(shift.detach())

    ends = [end(False), end(True)]
    assert ends[0] == pytest.approx(1.5, abs=0.2)
    assert ends[1] == pytest.approx(4.0, abs=0.3)


def test_windows_move_evenly_and_levels_are_taken() -> None:
    drawn = _levels(400, (0.5, 0.9), (0.1, 0.2), None, 0)
    assert all(0.5 <= tau <= 0.9 for tau in drawn[:1])
    assert all(0.1 <= tau <= 0.2 for tau in drawn[-1:])
    middle = drawn[190:210]
    assert all(0.29 < tau < 0.56 for tau in middle)
    assert set(_levels(50, (0.1, 0.9), None, [0.3, 0.6], 0)) == {0.3, 0.6}
    assert _levels(9, (0.1, 0.9), None, None, 4) == _levels(9, (0.1, 0.9), None, None, 4)


def test_calls_are_counted_under_guidance() -> None:
    model = transformer()
    picture = torch.zeros(3, *model.shape, requires_grad=True)
    with counted(model) as calls:
        done = distil(model, [picture], lambda: picture, 1, steps=4, guidance=3.0)
    assert sum(calls) == 3 * done.nfe == 24


def test_parameters_stay_what_they_were_where_it_fails() -> None:
    model = Model.from_mixture(LAW, Flow())
    picture = torch.ones(1, 1, 2, 2, requires_grad=True)
    with pytest.raises(NotFinite, match="are what they were"):
        distil(model, [picture], lambda: picture, steps=3, loss=lambda: (picture * float("inf")).sum())
    assert bool((picture.detach() == 1).all())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"window": (0.0, 0.5)}, "window is"), ({"window": (0.6, 0.5)}, "window is"), ({"until": (0.1, 1.0)}, "window is"),
        ({"window": 0.5}, "two levels"), ({"levels": [1.0]}, "levels are"), ({"levels": []}, "levels are"),
        ({"levels": [0.5], "until": (0.1, 0.2)}, "levels and until"), ({"steps": 0}, "steps is 0"), ({"rate": 0.0}, "rate is 0"),
        ({"render": lambda: torch.zeros(1, 1, 2, 2)}, "depends on the parameters"),
        ({"render": lambda: torch.zeros(2, 2)}, "gives shape"),
        ({"parameters": []}, "no leaves"), ({"parameters": [torch.zeros(2)]}, "no leaves"), ({"labels": 1}, "no classes"),
        ({"loss": lambda: torch.zeros(2)}, "expected one number"),
        ({"guidance": 2.0}, "empty label"), ({"guidance": float("nan")}, "guidance"),
    ],
)  # fmt: skip
def test_one_line_for_what_cannot_be(given: dict[str, Any], says: str) -> None:
    picture = torch.zeros(1, 1, 2, 2, requires_grad=True)
    arguments: dict[str, Any] = {"parameters": [picture], "render": lambda: picture, "steps": 2} | given
    with pytest.raises(InputError, match=says) as raised:
        distil(Model.from_mixture(LAW, Flow()), **arguments)
    assert "\n" not in str(raised.value)


def test_entropy_is_that_of_even_places_where_nothing_is_to_do() -> None:
    """A gradient of 0 everywhere has log(places); one that points at a place has less."""
    law = GaussianMixture.random((1, 4, 4), 2, seed=1)
    model = Model.from_mixture(law, Flow())
    found = entropies(model, torch.zeros(2, 1, 4, 4), None, [0.01, 0.5])
    assert found[0.01] == pytest.approx(torch.log(torch.tensor(16.0)).item(), abs=1e-3)
    assert found[0.5] < found[0.01]


def test_an_editor_is_trained_and_needs_no_call() -> None:
    model = transformer()
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with counted(model) as calls:
        made = distil_editor(model, images, 1, steps=5, batch=4, levels=(0.2, 0.5, 0.8), chosen=0.34)
    assert sum(calls) == made.nfe == 5 * 4 + 3 * 4
    assert len(made.levels) == 1
    assert made.levels[0] == min(made.entropies, key=made.entropies.__getitem__)
    with counted(model) as calls:
        edited = made(images)
    assert calls == []
    assert float((edited - images).abs().max()) > 0
    for given, says in (
        ({"images": images[:, :, :4]}, "images have shape"), ({"images": images * float("nan")}, "not finite"),
        ({"keep": -1.0}, "keep is -1"), ({"chosen": 0.0}, "chosen"), ({"levels": (0.0,)}, "levels are"), ({"label": 7}, "label 7"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            distil_editor(model, **({"images": images, "label": 1, "steps": 1} | given))  # type: ignore[arg-type]
