"""Which measurements to take: choices that are right where the best set is known, sub-operators, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import fewer
from fewer import GaussianMixture, InputError, Model
from fewer.models.schedules import betas, discrete
from fewer.tasks.inverse.operators import Matrix
from fewer.tasks.measurements.acquired import Acquired
from fewer.tasks.measurements.choose import Channels
from fewer.tasks.measurements.linear import Greedy, Lasso
from fewer.tasks.measurements.network import task_error
from fewer.tasks.measurements.tadred import Tadred

D = 4
NORMAL = GaussianMixture(
    torch.ones(1), torch.zeros(1, D), torch.eye(D)[None], torch.ones(1, D), torch.zeros(1), (D,)
)  # fmt: skip
MODEL = Model.from_mixture(NORMAL, discrete(betas("linear")), name="normal", hash="normal")
ROWS = torch.cat([torch.eye(D), torch.eye(D)]).double()  # every value twice


@dataclass(frozen=True)
class Given:
    """A chooser of channels that were given to it."""

    channels: tuple[int, ...]
    informed: ClassVar[bool] = False

    def choose(self, acquired: Acquired, keep: int, seed: int) -> tuple[int, ...]:
        return self.channels


def test_as_few_examples_as_promised_are_enough_for_a_method_of_ones_own() -> None:
    chosen = fewer.choose_measurements(MODEL, ROWS, 2, method=Given((1, 6)), n=32)
    assert chosen.channels == (1, 6)
    assert all(0 < error < 10 for error in chosen.errors.values())


def test_the_same_value_is_not_measured_twice_where_another_is_not_known() -> None:
    chosen = fewer.choose_measurements(MODEL, ROWS, 4, noise=0.1, n=256)
    assert {k % D for k in chosen.channels} == set(range(D))
    assert chosen.errors["chosen"] < chosen.errors["random"]
    assert chosen.errors["chosen"] == pytest.approx(chosen.errors["all"], abs=0.05)


def test_the_target_decides() -> None:
    chosen = fewer.choose_measurements(MODEL, ROWS[:D], 1, target=lambda x: x[:, 2], noise=0.1, n=64)
    assert chosen.channels == (2,)
    noisy = torch.tensor([0.1, 0.1, 2.0, 0.1, 0.1, 0.1, 0.1, 0.1])  # of two that see the same, the one with less noise
    assert fewer.choose_measurements(MODEL, ROWS, 1, target=lambda x: x[:, 2], noise=noisy, n=64).channels == (6,)


def test_greedy_is_the_best_single_channel_of_a_gaussian() -> None:
    """The exact share of variance that y_c = a'x + e tells of b'x is (a'b)^2 / ((|a|^2 + s^2) |b|^2)."""
    generator = torch.Generator().manual_seed(3)
    a, b, s = torch.randn(7, D, generator=generator).double(), torch.randn(D, generator=generator).double(), 0.5
    x = torch.randn(20_000, D, generator=generator).double()
    y = x @ a.T + s * torch.randn(20_000, 7, generator=generator).double()
    told = (a @ b).square() / ((a.square().sum(1) + s * s) * b.square().sum())
    acquired = Acquired(y[..., None], (x @ b)[:, None])
    best = int(told.argmax())
    assert Greedy().choose(acquired, 1, 0) == Lasso().choose(acquired, 1, 0) == (best,)


def test_channels_of_images_are_whole() -> None:
    def three(x: Tensor) -> Tensor:
        """Noise that hides all, the sample, and its first half, as images of 2 x 2."""
        half = torch.tensor([1.0, 1.0, 0.0, 0.0]).to(x)
        return torch.stack([0 * x, x, half * x], 1).view(-1, 3, 2, 2)

    chosen = fewer.choose_measurements(MODEL, three, 1, noise=0.05, n=64)
    assert chosen.channels == (1,)
    assert tuple(chosen.operator.measured) == (1, 2, 2)
    y = three(torch.ones(1, D))[0]
    found = fewer.solve(MODEL, chosen.operator, y[list(chosen.channels)], plan=6, noise=0.05, n=4, method="dps")
    assert found.samples.shape == (4, D)


def test_an_operator_of_some_channels_has_the_adjoint_of_its_matrix() -> None:
    whole = Matrix(torch.randn(5, 6, dtype=torch.float64), (2, 3))
    some = Channels(whole, (0, 3))
    x, y = torch.randn(3, 2, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(some(x), whole(x)[:, [0, 3]])
    torch.testing.assert_close((some(x) * y).sum(1), (x * some.adjoint(y)).flatten(1).sum(1))
    torch.testing.assert_close(some.matrix, whole.matrix[[0, 3]])


def test_all_channels_are_all_of_them() -> None:
    generator = torch.Generator().manual_seed(0)
    acquired = Acquired(torch.randn(40, 5, 1, generator=generator), torch.randn(40, 1, generator=generator))
    for chooser in (Greedy(), Lasso(), Tadred(steps=2, learn=1, fix=1, fade=1)):
        assert chooser.choose(acquired, 5, 0) == (0, 1, 2, 3, 4)


def test_the_error_is_one_where_nothing_can_be_told_and_near_zero_where_all_can() -> None:
    generator = torch.Generator().manual_seed(0)
    x, other = torch.randn(2, 600, 2, generator=generator)
    told, blind = (
        task_error(Acquired(x[:400, :, None], y[:400]), Acquired(x[400:, :, None], y[400:])) for y in (2 * x - 1, other)
    )
    assert told < 0.02
    assert 0.9 < blind < 1.3


def test_numbers_of_any_size_are_scaled() -> None:
    x = torch.tensor([[1e300], [-1e300]] * 10, dtype=torch.float64)
    values, targets = Acquired(x[..., None], 1e-300 * x).scaled
    torch.testing.assert_close(values.flatten(), targets.flatten())
    assert values.square().mean() == pytest.approx(1)
    assert not Acquired(torch.ones(20, 1, 1), torch.ones(20, 1)).scaled[0].any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep": 9}, "measures 8 channels"), ({"keep": 0}, "keep"), ({"noise": -1.0}, "at least 0"),
        ({"noise": float("nan")}, "at least 0"), ({"noise": torch.ones(3)}, "broadcasts to"), ({"method": "tadre"}, "tadred"),
        ({"method": "mmps"}, "measurements are chosen by"), ({"n": 31}, "n is 31"),
        ({"target": lambda x: x[:3]}, "the target gave"), ({"target": lambda x: x / 0}, "not finite"),
        ({"target": lambda x: 0 * x + 0.1}, "the same for all"),
        ({"target": lambda x: torch.arange(len(x)) == 0}, "the same for all"),
        ({"method": Given((0, 8))}, "chose"), ({"method": Given((1, 1))}, "chose"), ({"method": Given((2, 1))}, "chose"),
        ({"method": Given((1,))}, "chose"),
        ({"operator": torch.ones(2, 3)}, "expected"), ({"method": Tadred}, "is a class"),
    ],
    ids=lambda given: str(given)[:30],
)  # fmt: skip
def test_refused_in_a_line(given: dict[str, Any], words: str) -> None:
    asked = {"operator": ROWS, "keep": 2, "n": 32} | given
    with pytest.raises(InputError, match=words) as raised:
        fewer.choose_measurements(MODEL, **asked)
    assert "\n" not in str(raised.value)


def test_examples_that_are_none_are_refused() -> None:
    good = Acquired(torch.zeros(16, 2, 1), torch.zeros(16, 1))
    for name, value in {"values": torch.zeros(16, 2), "targets": torch.full((16, 1), torch.inf)}.items():
        with pytest.raises(InputError, match=name):
            replace(good, **{name: value})
    with pytest.raises(InputError, match="at least 16"):
        Acquired(torch.zeros(15, 2, 1), torch.zeros(15, 1))
