"""Frames with levels of their own: the closed form, rolling windows, DYffusion, and fields on meshes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fewer import InputError, Model, forecast, standard
from fewer.models.denoiser import Clip
from fewer.models.schedules import Flow, betas, discrete
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.series.dyffusion import DYffusion
from fewer.tasks.series.frames import frame_model, rolling_levels, rolling_loss, velocities
from fewer.tasks.series.gaussian_process import GaussianProcesses
from fewer.tasks.series.meshes import Mesh
from fewer.tasks.series.mmgp import MMGP
from fewer.tasks.series.reduced import Components, ReducedRegression
from fewer.tasks.series.refine import Refinement
from fewer.tasks.series.rolling import rolling
from fewer.tasks.series.state_space import autoregression, window_law

VP = discrete(betas("linear"))
LAW = window_law([autoregression([0.8], 0.5), autoregression([-0.5], 0.3, level=1.0)], 5)


@pytest.mark.parametrize("schedule", [VP, Flow()], ids=["vp", "flow"])
def test_frames_of_one_level_are_the_model_of_whole_windows(schedule: object) -> None:
    exact = Model.from_mixture(LAW, schedule)  # type: ignore[arg-type]
    frames = frame_model(LAW, schedule)  # type: ignore[arg-type]
    x = torch.randn(4, 5, 1)
    for tau in (0.2, 0.9):
        same = velocities(frames, x, torch.full((5,), tau))
        assert torch.allclose(same, exact.velocity(x, tau), atol=1e-4)
        assert torch.allclose(frames.velocity(x, tau), exact.velocity(x, tau), atol=1e-4)


def test_clean_frames_tell_and_frames_of_noise_do_not() -> None:
    """Frames at level 1 change nothing; the data prediction of clean frames is what they are."""
    model, taus = frame_model(LAW, Flow()), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0])
    x = torch.randn(3, 5, 1)
    other = x.clone()
    other[:, 3:] += 3.0
    u, v = velocities(model, x, taus), velocities(model, other, taus)
    assert torch.allclose(u[:, 2], v[:, 2], atol=1e-5)
    moved = x.clone()
    moved[:, 1] += 1.0
    assert not torch.allclose(u[:, 2], velocities(model, moved, taus)[:, 2], atol=1e-2)


def test_levels_of_training_rise_and_the_exact_model_has_the_least_loss() -> None:
    """A window's levels at t = 1 are those at t = 0 one frame on; at the beginning all noisy frames are noise at t = 1."""
    model, other = frame_model(LAW, Flow()), frame_model(window_law(autoregression([0.1], 1.5), 5), Flow())
    start, end = rolling_levels(model, 2, 0.0), rolling_levels(model, 2, 1.0)
    assert bool((start[2:].diff() > 0).all())
    assert torch.allclose(start[3:], end[2:4])
    assert torch.allclose(rolling_levels(model, 2, 1.0, beginning=True)[2:], torch.ones(3).double())
    windows, noise = LAW.sample(2000, 1)[0].float(), torch.randn(2000, 5, 1)
    for beginning in (False, True):
        mine, its = (rolling_loss(each, windows, 2, 0.4, noise, beginning).mean() for each in (model, other))
        assert float(mine) < 0.9 * float(its)
    with pytest.raises(InputError, match="some must be noisy"):
        rolling_levels(model, 5, 0.5)


def test_rolling_draws_have_the_law_of_the_process() -> None:
    """An AR(1), far ahead: the stationary deviation, and neighbours' correlation; the nearest time has the textbook's law."""
    process = autoregression([0.8], 0.6)
    model = frame_model(window_law(process, 6), VP)
    plan = standard("dpmpp-2m", model, 12, "logsnr")
    y = torch.tensor([[1.0], [2.0]])
    found = rolling(model, y, 9, plan, every=3, n=1200, batch=1200)
    assert found.samples.shape == (1200, 9, 1)
    assert found.nfe == 3 * 8 + 12
    x = found.samples[:, :, 0]
    assert float(x[:, 0].mean()) == pytest.approx(1.6, abs=0.07)
    assert float(x[:, 0].std()) == pytest.approx(0.6, rel=0.08)
    assert float(x[:, -1].std()) == pytest.approx(1.0, rel=0.08)
    assert float(torch.corrcoef(x[:, -2:].T)[0, 1]) == pytest.approx(0.8, abs=0.06)


def test_one_noisy_frame_is_a_forecast_time_by_time() -> None:
    """With one noisy frame and every call of a frame before the next begins, rolling is the block forecast of one time."""
    process = autoregression([0.8], 0.6)
    law = window_law(process, 3)
    plan_of = {"plan": standard("dpmpp-2m", Model.from_mixture(law, Flow()), 10, "logsnr"), "n": 800}
    y = torch.tensor([[0.5], [-1.0]])
    one = rolling(frame_model(law, Flow()), y, 1, every=10, **plan_of)  # type: ignore[arg-type]
    two = forecast(Model.from_mixture(law, Flow()), y, method=MMPS(2), batch=800, **plan_of)  # type: ignore[arg-type]
    assert float(one.mean) == pytest.approx(float(two.mean), abs=0.06)
    assert float(one.spread) == pytest.approx(float(two.spread), rel=0.08)


def test_draws_are_the_same_in_any_batch_and_noise_of_rows_is_their_own() -> None:
    model, y = frame_model(LAW, VP), torch.zeros(2, 2, 1)
    plan = standard("ancestral", model, 3, "logsnr")
    some = {"every": 1, "n": 3, "seed": 4}
    whole, parts = (rolling(model, y, 4, plan, batch=batch, **some).samples for batch in (6, 4))
    assert whole.shape == (2, 3, 4, 1)
    assert torch.allclose(whole, parts, atol=1e-4)
    assert len(whole.flatten().unique()) == whole.numel()


def test_plans_and_pasts_that_do_not_roll() -> None:
    model = frame_model(LAW, VP)
    plan = standard("ddim", model, 6, "logsnr")
    with pytest.raises(InputError, match="have room for 3"):
        rolling(model, torch.zeros(2, 1), 4, plan, every=1)
    with pytest.raises(InputError, match="every is 0"):
        rolling(model, torch.zeros(2, 1), 4, plan, every=0)
    with pytest.raises(InputError, match="past holds 1 values"):
        rolling(model, torch.tensor([[0.0], [float("inf")]]), 4, plan, every=2)


@pytest.mark.parametrize("empty", [3, None])
def test_labels_are_those_of_forecasts_in_any_batch(empty: int | None) -> None:
    """Of models with classes: the empty label, all in turn where there is none, or one label."""
    told: list[int] = []

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        told.extend(labels.tolist())
        return torch.zeros_like(x)

    model = Model.from_denoiser(network, Flow(), (3, 1), "data", 3, empty_label=empty, hash="told")
    plan, y = standard("ddim", model, 1), torch.zeros(2, 2, 1)
    for label, wanted in ((None, [0, 1] * 2 if empty is None else [3] * 4), (1, [1] * 4)):
        told.clear()
        rolling(model, y, 1, plan, every=1, n=2, label=label, batch=3)
        assert told == wanted
    with pytest.raises(InputError, match="no classes"):
        rolling(frame_model(LAW, VP), torch.zeros(2, 1), 1, standard("ddim", model, 1), every=1, label=0)


def test_frames_of_a_model_that_clips_are_clipped_each_at_its_level() -> None:
    model, taus = frame_model(LAW, Flow()), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    clipped = replace(model, clip=Clip(1.0))
    x = 3 * torch.randn(4, 5, 1)
    level = taus.view(-1, 1)
    data, kept = (x - level * velocities(each, x, taus) for each in (model, clipped))
    assert float(data.abs().max()) > 1
    assert torch.allclose(kept, data.clamp(-1, 1), atol=1e-5)
    with pytest.raises(InputError, match="their levels"):
        velocities(model, x, taus[1:])


def line(s: Tensor, time: float) -> Tensor:
    return s + (4 - time)


def linear(x0: Tensor, end: Tensor, time: float, z: Tensor) -> Tensor:
    return x0 + (end - x0) * time / 4


@pytest.mark.parametrize("cold", [True, False])
def test_dyffusion_follows_a_straight_line_exactly(cold: bool) -> None:
    """Of x_t = x_0 + t with exact networks without chance every schedule gives the line."""
    for times in (None, (1, 3), ()):
        sampler = DYffusion(line, linear, 4, times, cold=cold)
        found = sampler.draw(torch.tensor([[0.0], [2.0]]), n=2)
        assert found.shape == (2, 2, 4, 1)
        assert torch.allclose(found[1, 0, :, 0], torch.tensor([3.0, 4.0, 5.0, 6.0]))
        assert sampler.nfe == 1 + (3 if times is None else len(times))


def test_dyffusion_draws_differ_by_their_noise_alone() -> None:
    noisy = DYffusion(line, lambda x0, end, time, z: linear(x0, end, time, z) + z, 4)
    x = torch.zeros(2, 1)
    found = noisy.draw(x, n=3, seed=1)
    assert torch.equal(found, noisy.draw(x, n=3, seed=1, batch=4))
    assert len(found[:, :, 0].unique()) == 6
    for wrong in ((0.0,), (3, 2), (4,), "ab", 3):
        with pytest.raises(InputError, match="rising numbers"):
            DYffusion(line, linear, 4, wrong)  # type: ignore[arg-type]
    for says, forecaster in (("returned shape", lambda s, time: s[:, 0]), ("is not finite", lambda s, time: s / 0)):
        with pytest.raises(InputError, match=says):
            DYffusion(forecaster, linear, 4).draw(x)
    with pytest.raises(InputError, match="finite states"):
        noisy.draw(torch.full((2, 1), float("nan")))


def test_components_and_processes() -> None:
    """Rank-two data need two components; a process passes through data without noise and knows nothing far away."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator).double() @ torch.randn(2, 6, generator=generator).double() + 3
    found = Components.of(x, 0.9999, 6)
    assert found.basis.shape == (6, 2)
    assert torch.allclose(found.expand(found.reduce(x)), x, atol=1e-8)
    inputs = torch.linspace(-2, 2, 25).double()[:, None]
    process = GaussianProcesses.fit(inputs, torch.sin(2 * inputs))
    near, far = process.predict(torch.tensor([[0.53]])), process.predict(torch.tensor([[30.0]]))
    assert float(near.mean) == pytest.approx(math.sin(1.06), abs=0.02)
    assert float(far.mean) == pytest.approx(0.0, abs=0.05)
    assert float(far.variance) > 20 * float(near.variance)
    constant = ReducedRegression.fit(x[:8], torch.ones(8, 3))
    assert torch.allclose(constant.moments(x[:2]).mean, torch.ones(2, 3).double(), atol=1e-4)
    with pytest.raises(InputError, match="expected"):
        constant.moments(x[:, 1:])
    with pytest.raises(InputError, match="share is 2"):
        Components.of(x, 2.0, 6)
    with pytest.raises(InputError, match="N >= 4"):
        ReducedRegression.fit(x[:3], x[:3])


def square(nodes: int, bend: float = 0.0) -> Mesh:
    step = torch.linspace(-1, 1, nodes).double()
    u, v = (each.flatten() for each in torch.meshgrid(step, step, indexing="ij"))
    n = torch.arange(nodes * nodes).view(nodes, nodes)
    a, b, c, d = (part.flatten() for part in (n[:-1, :-1], n[1:, :-1], n[1:, 1:], n[:-1, 1:]))
    triangles = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    return Mesh(torch.stack([u + bend * u * v, v], 1), triangles)


def test_no_triangle_turns_over_on_the_disk_and_fields_come_back() -> None:
    mesh = square(6, 0.3)
    corners = mesh.on_disk[mesh.triangles]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert bool((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 0).all())
    assert float(mesh.on_disk.norm(dim=1).max()) == pytest.approx(1.0)
    assert torch.allclose(mesh.weights(mesh.on_disk), torch.eye(36).double(), atol=1e-9)
    with pytest.raises(InputError, match="one closed line"):
        Mesh(mesh.nodes, torch.cat([mesh.triangles[:1], mesh.triangles[-1:]])).boundary  # noqa: B018


def test_mmgp_learns_a_field_of_shape_and_number() -> None:
    """A field k x is linear in what it is given: it is predicted to a few percent, on a mesh of another size."""
    bends = torch.linspace(-0.3, 0.3, 12)
    numbers = (0.5 + (7 * torch.arange(12) % 12) / 11).double()[:, None]
    meshes = [square(5, float(bend)) for bend in bends]
    fields = [k * mesh.nodes[:, :1] for mesh, k in zip(meshes, numbers, strict=True)]
    model = MMGP.fit(meshes, fields, numbers, most=3)
    new = square(5, 0.1)
    found = model.predict([new], torch.tensor([[0.9]]))[0]
    assert found.mean.shape == found.variance.shape == (25, 1)
    assert float((found.mean - 0.9 * new.nodes[:, :1]).square().mean().sqrt()) < 0.06
    with pytest.raises(InputError, match="at least 4"):
        MMGP.fit(meshes[:3], fields[:3])
    with pytest.raises(InputError, match="a finite row for each mesh"):
        model.predict([new], torch.zeros(2, 1))
    with pytest.raises(InputError, match=r"expected \(1, 1\)"):
        model.predict([new], torch.zeros(1, 3))
    with pytest.raises(InputError, match="q the same for all"):
        MMGP.fit(meshes, [*fields[:-1], fields[-1].expand(-1, 2)], numbers)


def test_memory_too_small_halves_the_batch_of_every_forecaster() -> None:
    """The draws are those of the smaller batch, each with the noise of its own number."""
    sizes: list[int] = []
    model = Model.from_mixture(LAW, VP)

    def narrow(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def called(x: Tensor, *more: object) -> Tensor:
            sizes.append(len(x))
            if len(x) > 3:
                raise torch.cuda.OutOfMemoryError
            return function(x, *more)

        return called

    def small(full: Model) -> Model:
        return replace(full, network=narrow(full.network))

    frames, y, plan = frame_model(LAW, VP), torch.tensor([[0.3], [0.2]]), standard("ddim", model, 3)
    base, line = torch.zeros(10, 3, 1), lambda s, time: s + 1

    def dyffusion(forecaster: Callable[..., Tensor]) -> Tensor:
        return DYffusion(forecaster, lambda x0, end, time, z: end + z, 3).draw(torch.ones(1, 2), 10, batch=10)

    for whole, halved in (
        (
            forecast(model, y, plan=plan, n=10, horizon=5),
            forecast(small(model), y, plan=plan, n=10, horizon=5, batch=10),
        ),
        (rolling(frames, y, 4, plan, every=1, n=10), rolling(small(frames), y, 4, plan, every=1, n=10, batch=10)),
    ):
        assert torch.allclose(halved.samples, whole.samples, atol=1e-5)
    refinement = Refinement(level=0.5, iterations=2)
    assert torch.allclose(
        refinement.refine(small(model), y, base, batch=10), refinement.refine(model, y, base), atol=1e-5
    )
    assert torch.allclose(dyffusion(narrow(line)), dyffusion(line), atol=1e-6)
    assert sizes.count(10) == 3 + 2  # once each, and of the two blocks of a forecast once each
