"""Errors of outputs as they are at the end of sampling: of Gaussian data, by the flow itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import fewer.compression.recover.ends as ends_module
from fewer.compression.allocate.knapsack import Uniform
from fewer.compression.calibration import Calibration
from fewer.compression.compress import lightened
from fewer.compression.cut import cut
from fewer.compression.recover.distillation import Distillation, EndDistillation, relative
from fewer.compression.recover.ends import Ends, waves
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject
from fewer.compression.units import WIDTHS
from fewer.levels import tau_of_log_s
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding, discrete
from fewer.testing.compression import costs_of, subject_of
from fewer.testing.models import transformer, unet

HIGH, LOW, STEPS = 7.0, -9.0, 6400  # log s from which on the flow is followed, until when, and in how many steps


def end(c: float, push: Callable[[float], float]) -> float:
    """Where x = 0 at a high level ends along dx / d log s = x - D, D = c^2 x / (c^2 + s^2) + push(log s), by the midpoint rule."""

    def slope(x: float, u: float) -> float:
        s = math.exp(u)
        return x * s * s / (c * c + s * s) - push(u)

    x, h = 0.0, (LOW - HIGH) / STEPS
    for n in range(STEPS):
        u = HIGH + n * h
        x += h * slope(x + h / 2 * slope(x, u), u + h / 2)
    return x


TERMINAL = discrete(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), zero_terminal_snr=True)
MODELS = {
    "noise": unet(), "flow": replace(unet(), predicts="flow", schedule=Flow()),
    "rising flow": replace(unet(), predicts="flow", schedule=Flow(1, rising=True)),
    "velocity": replace(unet(), predicts="velocity", schedule=TERMINAL),
    "edm": replace(unet(), predicts="edm", schedule=VarianceExploding(time_input="quarter-log")),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("c", [0.2, 3.0])
def test_a_constant_offset_counts_as_it_comes_out_of_a_gaussians_flow(model: Model, c: float) -> None:
    """Errors of the output in a narrow range of levels: the sample moves by their length in time times the root of what they
    count, over the root of how many times are in a unit of log s.
    """
    ends = Ends(model, torch.full((1, 1, 1), c * c, dtype=torch.float64))
    centre, width, offset = math.log(2.0), 0.05, 0.3
    tau = tau_of_log_s(torch.tensor(centre, dtype=torch.float64))
    gain = float(tau * model.affine(tau).q)

    def push(u: float) -> float:
        return -gain * offset * math.exp(-((u - centre) ** 2) / (2 * width**2))

    length = width * math.sqrt(2 * math.pi)  # in log s
    moved = end(c, push) / length
    near = tau_of_log_s(torch.tensor([centre - 1e-4, centre + 1e-4], dtype=torch.float64))
    pace = float((model.schedule.time(near[1]) - model.schedule.time(near[0])).abs()) / 2e-4  # times in a unit of log s
    counted = float(ends.weights(tau.view(1)).flatten()[0]) * offset**2 * pace
    assert moved**2 == pytest.approx(counted, rel=1e-2)


def test_of_white_data_at_one_level_it_is_the_mean_square_over_pixels() -> None:
    model = unet()
    ends = Ends(model, torch.full(model.shape, 0.7, dtype=torch.float64))
    output, target = torch.randn(2, 5, *model.shape, generator=torch.Generator().manual_seed(0))
    found = ends.relative(output, target, torch.full((5,), 400.0))
    torch.testing.assert_close(found, relative(output, target), rtol=1e-5, atol=0)


def test_at_high_levels_errors_count_as_the_data_have_power_there() -> None:
    """A constant colour by that of the mean, a chequered pattern by that of the finest detail; the spectrum is the samples'."""
    model = unet()
    n, (_, h, w) = 4096, model.shape
    draw = torch.Generator().manual_seed(1)
    finest = (-1.0) ** (torch.arange(h)[:, None] + torch.arange(w))
    clean = 0.9 + torch.randn(n, 1, 1, 1, generator=draw) * 0.8 + torch.randn(n, 1, 1, 1, generator=draw) * 0.1 * finest
    ends = Ends.of(Calibration(model, clean, None))
    assert float(ends.power[0, 0, 0]) == pytest.approx(0.8**2 * h * w, rel=0.1)
    target = torch.randn(1, *model.shape, generator=draw)
    noisiest = model.schedule.time(model.start).float().view(1)
    flat, fine = (ends.relative(target + error, target, noisiest) for error in (torch.ones(h, w), finest))
    assert float(flat / fine) == pytest.approx(0.8**2 / 0.1**2, rel=0.15)


@pytest.mark.parametrize("name", ["flow", "velocity"])
@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 4, 4)])
@pytest.mark.parametrize("constant", [False, True])
def test_it_is_finite_for_data_of_any_shape_and_at_the_noisiest_level(
    name: str, shape: tuple[int, ...], constant: bool
) -> None:  # fmt: skip
    """Where the flow starts there are no data in the state, and constant data have no spectrum."""
    model = replace(MODELS[name], shape=shape)
    assert model.start == 1.0
    samples = torch.ones(8, *shape) if constant else torch.randn(8, *shape, generator=torch.Generator().manual_seed(2))
    ends = Ends.of(Calibration(model, samples, None))
    times = model.schedule.time(torch.tensor([model.schedule.tau_min, 0.5, 1.0], dtype=torch.float64)).float()
    output = torch.randn(3, *shape, generator=torch.Generator().manual_seed(3)).requires_grad_(True)
    loss = ends.relative(output, torch.ones(3, *shape), times)
    loss.backward()
    assert float(loss.detach()) > 0
    assert output.grad is not None
    assert bool(output.grad.isfinite().all())


@pytest.mark.parametrize("name", sorted({*MODELS} - {"noise"}))  # whose levels are looked at, which this device cannot
def test_it_is_computed_where_the_outputs_are(name: str) -> None:
    model = MODELS[name]
    ends = Ends(model, torch.ones(model.shape, dtype=torch.float64, device="meta"))
    output, target = torch.empty(2, 3, *model.shape, device="meta")
    assert ends.relative(output, target, torch.empty(3, device="meta")).device.type == "meta"


@pytest.mark.parametrize("n", [2, 7])
def test_the_power_is_without_bias_of_how_few_samples_there_are(n: int) -> None:
    """White noise of deviation 0.3 around an image has 0.09 at every frequency, and what is constant has no spectrum."""
    model = unet()
    draw = torch.Generator().manual_seed(4)
    image = torch.full(model.shape, 0.1)
    runs = [
        Ends.of(Calibration(model, image + 0.3 * torch.randn(n, *model.shape, generator=draw), None))
        for _ in range(200)
    ]
    assert float(torch.stack([each.power for each in runs]).mean()) == pytest.approx(0.09, rel=0.03)
    constant = Ends.of(Calibration(model, image.expand(n, *model.shape), None))
    assert bool((constant.power == 1).all())


def test_the_power_is_the_same_by_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more samples than are transformed at once."""
    model = unet()
    samples = 5 + torch.randn(150, *model.shape, generator=torch.Generator().manual_seed(1))
    whole = waves(samples.double()).var(0)
    most: list[int] = []

    def counted(x: Tensor) -> Tensor:
        most.append(len(x))
        return waves(x)

    monkeypatch.setattr(ends_module, "waves", counted)
    torch.testing.assert_close(Ends.of(Calibration(model, samples, None)).power, whole, rtol=1e-10, atol=0)
    assert max(most) < len(samples)


def test_steps_lower_what_they_are_to_lower() -> None:
    subject = subject_of(unet(), WIDTHS)
    importance = Magnitude().rate(subject)
    kept = {g.name: g.kept(importance[g.name], max(1, g.size // g.step // 2) * g.step) for g in subject.groups}
    light = cut(subject.network, subject.groups, kept)
    repair = EndDistillation(6, 8, lr=1e-3)
    before = repair.own_loss(subject, light)
    assert repair.recover(subject, light, kept) == 6
    assert repair.own_loss(subject, light) < before


def test_the_less_there_is_to_repair_the_shorter_are_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the power that the caution is, from a relative loss of 0.02 on; and never longer than asked for."""
    seen: list[float] = []

    def trained(subject: Subject, light: nn.Module, steps: int, lr: float, *given: object) -> int:
        seen.append(lr)
        return steps

    monkeypatch.setattr("fewer.compression.recover.distillation.trained", trained)
    subject = subject_of(unet(), WIDTHS)
    whole = torch.cat([batch.target for batch in subject.states])
    light = cut(subject.network, (), {})
    light.conv_out.bias += 0.1 * whole.square().mean().sqrt()  # e = 0.01
    for caution in (0.0, 1.0, 2.0):
        Distillation(1, lr=0.5, caution=caution).recover(subject, light, {})
    light.conv_out.bias += whole.square().mean().sqrt()
    EndDistillation(1, lr=0.5).recover(subject, light, {})
    assert seen == pytest.approx([0.5, 0.25, 0.125, 0.5], rel=1e-3)


@pytest.mark.parametrize("rises", [True, False])
def test_a_recovery_is_taken_back_by_the_loss_that_it_is_to_lower(rises: bool) -> None:
    """Though outputs are nearer, or farther."""

    class Its:
        calls = 0

        def own_loss(self, subject: Subject, light: nn.Module) -> float:
            self.calls += 1
            return float(self.calls if rises else -self.calls)

        def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
            next(light.parameters()).data.add_(1.0)
            return 0

    subject = subject_of(transformer(), WIDTHS)
    made = lightened(subject, Magnitude(), Uniform(), [Its()], costs_of(subject, 0.8))
    same = torch.equal(next(made.network.parameters()), next(subject.network.parameters()))
    assert same == rises == (made.repairs == ())
    assert (made.loss[0] == made.loss[1]) == rises
