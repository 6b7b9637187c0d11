"""The engine: noise that belongs to a sample, the loop, its derivatives, its precision, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from fewer.engine import History, begin, check_fit, play, sample
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.integrations.probe import from_diffusers
from fewer.levels import s_of_tau, tau_of_log_s
from fewer.models.denoiser import Clip
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.predictions import OF_ANY_PROCESS
from fewer.models.schedules import VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan, Row, Start
from fewer.samplers import each_noisy_plan, standard

SHAPE = (2, 3, 3)
MIXTURE = GaussianMixture.random(SHAPE, components=4, seed=0, classes=2).to(dtype=torch.float32)
SCHEDULE = discrete(betas("linear"))
MODEL = Model.from_mixture(MIXTURE, SCHEDULE)
LABELLED = Model.from_mixture(MIXTURE, SCHEDULE, conditional=True)
PLAN = standard("dpmpp-2m", MODEL, 5)


def noises(n: int, seed: int = 0) -> Tensor:
    return unit_noise(seed, range(n), SHAPE)


# the noise of a sample


def test_noise_belongs_to_the_sample() -> None:
    all_of_them = unit_noise(7, range(20), SHAPE)
    for part in ([3], [19, 0], range(5, 11)):
        assert torch.equal(unit_noise(7, part, SHAPE), all_of_them[list(part)])
    assert unit_noise(7, [], SHAPE).shape == (0, *SHAPE)
    assert unit_noise(-1, [10**12], SHAPE).isfinite().all()


def test_other_seeds_samples_and_draws_are_unrelated() -> None:
    """Neighbouring seeds, samples and draws: unit variance, and correlations within 5 / sqrt(n)."""
    n = 20_000
    drawn = [
        unit_noise(seed, [i], (n,), draw).flatten() for seed, i, draw in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    correlation = torch.stack(drawn) @ torch.stack(drawn).T / n
    assert (correlation - torch.eye(4)).abs().max() < 5 * (2 / n) ** 0.5
    many = unit_noise(0, range(n), (1,)).flatten()
    assert abs(float(many.mean())) < 5 / n**0.5
    assert abs(float(many.square().mean()) - 1) < 5 * (2 / n) ** 0.5


@pytest.mark.parametrize("name", ["dpmpp-2m", "ancestral"])
def test_samples_do_not_depend_on_the_batch(name: str) -> None:
    """Bit-identical at equal micro-batch, whatever is asked around them; 1e-5 otherwise."""
    plan = standard(name, MODEL, 6)
    whole = sample(MODEL, plan, 12, seed=3, batch=4)
    assert torch.equal(sample(MODEL, plan, 4, seed=3, batch=4), whole[:4])
    assert torch.equal(sample(MODEL, plan, 8, seed=3, batch=4, first_sample=4), whole[4:])
    for batch in (1, 5, 12, 64):
        torch.testing.assert_close(sample(MODEL, plan, 12, seed=3, batch=batch), whole, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(sample(MODEL, plan, 12, seed=4, batch=4), whole, atol=0.1)


def test_what_rows_of_any_sampler_draw_belongs_to_the_sample() -> None:
    plans = list(each_noisy_plan(MODEL, 6, steps="logsnr"))
    assert len({plan.recipe.solver for plan in plans}) >= 25
    for plan in plans:
        whole = sample(MODEL, plan, 5, seed=3, batch=5)
        near = 1e-5 * float(whole.abs().max())
        torch.testing.assert_close(sample(MODEL, plan, 5, seed=3, batch=2), whole, rtol=1e-5, atol=near)


def test_given_noise_is_the_starting_noise() -> None:
    z = noises(5, seed=9)
    torch.testing.assert_close(sample(MODEL, PLAN, noise=z), sample(MODEL, PLAN, 5, seed=9))
    assert len(sample(MODEL, PLAN)) == 64


# the loop


def test_converges_to_the_exact_flow() -> None:
    gaussian = GaussianMixture.random(SHAPE, components=1, seed=1)
    model = Model.from_mixture(gaussian.to(dtype=torch.float32), SCHEDULE)
    z = noises(16)
    plan = standard("unipc-3", model, 60, "logsnr")
    last = plan.rows[-1].tau
    exact = gaussian.denoise(gaussian.flow(plan.start.tau * z.double(), plan.start.tau, last), last)
    torch.testing.assert_close(sample(model, plan, noise=z), exact.float(), rtol=0, atol=1e-3)


def perfect_network(predicts: str, schedule: Any, sd: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        tau = schedule.tau(t[0].double())
        c = schedule.scale(tau)
        alpha, sigma = (1 - tau) * c, tau * c
        s = sigma / alpha
        if predicts == "edm":
            clean = x.double() * (s**2 + sd**2).sqrt()  # undo c_in: x / alpha
            data = MIXTURE.to(dtype=torch.float64).denoise(clean * (1 - tau), tau)
            return ((data - sd**2 / (s**2 + sd**2) * clean) * (s**2 + sd**2).sqrt() / (s * sd)).float()
        if predicts == "consistency":  # D = c_skip x + c_out F of Song et al. 2023, above the cleanest level
            clean = x.double() * (s**2 + sd**2).sqrt()
            above = s - s_of_tau(schedule.tau_min)
            data = MIXTURE.to(dtype=torch.float64).denoise(clean * (1 - tau), tau)
            skip = sd**2 / (above**2 + sd**2)
            return ((data - skip * clean) * (s**2 + sd**2).sqrt() / (sd * above)).float()
        data = MIXTURE.to(dtype=torch.float64).denoise(x.double() / c, tau)
        noise = (x - alpha * data) / sigma
        outputs = {
            "data": data, "noise": noise, "velocity": alpha * noise - sigma * data, "flow": noise - data, "data-flow": data - noise,
            "score": -noise / sigma,
        }  # fmt: skip
        return outputs[predicts].float()

    return network


@pytest.mark.parametrize("schedule", [SCHEDULE, VarianceExploding(0.01, 50.0)], ids=["vp", "ve"])
def test_a_plan_means_the_same_for_every_prediction(schedule: Any) -> None:
    plan, z = standard("unipc", replace(MODEL, schedule=schedule), 6), noises(8)
    results = []
    for predicts in OF_ANY_PROCESS:
        own = schedule
        if predicts == "consistency" and isinstance(schedule, VarianceExploding):
            own = VarianceExploding(
                0.001, 50.0
            )  # at the cleanest level such a network gives back its input, whatever it is
        network = perfect_network(predicts, own, 0.5)
        results.append(sample(Model.from_denoiser(network, own, SHAPE, predicts), plan, noise=z))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=2e-4)


def test_callback_after_every_call() -> None:
    seen: list[tuple[Row, Tensor, Tensor]] = []
    sample(MODEL, PLAN, 6, batch=4, callback=lambda *values: seen.append(values))
    assert [row for row, _, _ in seen] == [*PLAN.rows, *PLAN.rows]
    assert [len(x) for _, x, _ in seen] == [4] * 5 + [2] * 5
    for row, x, data in seen:
        torch.testing.assert_close(data, MIXTURE.denoise(x, row.tau), rtol=1e-4, atol=1e-4)


def test_progress_after_every_micro_batch() -> None:
    seen: list[tuple[int, int]] = []
    sample(MODEL, PLAN, 10, batch=4, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_start_row() -> None:
    """scale z + noise z_0 + offset, with z_0 another draw of the same sample."""
    start = Start(0.9, 0.5, 0.3, torch.full((2, 1, 1), 2.0))
    plan = Plan(start, (Row(0.9, {0: 0.0}, t=900.0),))
    expected = 0.5 * noises(4) + 0.3 * unit_noise(0, range(4), SHAPE, 1) + 2
    torch.testing.assert_close(sample(MODEL, plan, 4), expected)
    torch.testing.assert_close(begin(plan, noises(4), lambda: torch.zeros(())), 0.5 * noises(4) + 2)


def test_fresh_noise_after_a_row() -> None:
    plan = Plan(
        Start(0.9, 0.9), (Row(0.9, {0: 0.0}, {0: 0.0}, 1.0, t=900.0), Row(0.5, {1: 0.0}, {0: 0.0}, 2.0, t=500.0))
    )
    torch.testing.assert_close(sample(MODEL, plan, 4), 2 * unit_noise(0, range(4), SHAPE, 3))
    with pytest.raises(InputError, match="draw"):
        play(MODEL, plan, noises(4))


def test_earlier_states_and_outputs() -> None:
    """Rows are what they say: sums of any states and outputs so far."""
    t = [float(SCHEDULE.time(tau)) for tau in (0.9, 0.7, 0.4)]
    rows = (
        Row(0.9, {0: -0.2}, t=t[0]),
        Row(0.7, {0: 0.1, 1: -0.3}, {0: 0.25, 1: 0.75}, t=t[1]),
        Row(0.4, {1: 0.2, 2: -0.5}, {0: 0.5, 1: -0.5, 2: 1.0}, t=t[2]),
    )
    history = History()
    x = noises(4)
    got = play(MODEL, Plan(Start(0.9, 0.9), rows), x, history=history)
    u, s = history.outputs, history.states
    assert torch.equal(s[0], x)
    for n, row in enumerate(rows):
        torch.testing.assert_close(u[n], (s[n] - MIXTURE.denoise(s[n], row.tau)) / row.tau, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(s[2], 0.25 * s[0] + 0.75 * s[1] + 0.1 * u[0] - 0.3 * u[1])
    torch.testing.assert_close(got, 0.5 * s[0] - 0.5 * s[1] + s[2] + 0.2 * u[1] - 0.5 * u[2])
    torch.testing.assert_close(play(MODEL, Plan(Start(0.9, 0.9), rows), x), got)


def test_going_on_from_a_row() -> None:
    """With the history of a run any row can be entered again; an output that is there is not computed again."""
    history, x = History(), noises(4)
    whole = play(MODEL, PLAN, x, history=history)
    calls: list[int] = []

    def counting(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        calls.append(len(x))
        return MODEL.network(x, t, labels)

    kept = History(dict(history.states), {n: history.outputs[n] for n in range(4)})
    again = play(replace(MODEL, network=counting), PLAN, history.states[3], history=replace(kept, first=3))
    assert torch.equal(again, whole)
    assert calls == [4]


def test_memory_too_small_halves_the_batch() -> None:
    sizes: list[int] = []

    def small(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError
        return MODEL.network(x, t, labels)

    got = sample(replace(MODEL, network=small), PLAN, 12, batch=12)
    torch.testing.assert_close(got, sample(MODEL, PLAN, 12, batch=3))
    assert sizes[:3] == [12, 6, 3]

    def never(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(torch.cuda.OutOfMemoryError):
        sample(replace(MODEL, network=never), PLAN, 2)


# labels and guidance


def test_labels() -> None:
    """None draws the classes evenly; one label serves all; samples are of their class."""
    z = noises(6)
    evenly = sample(LABELLED, PLAN, noise=z)
    torch.testing.assert_close(sample(LABELLED, PLAN, noise=z, labels=[0, 1, 0, 1, 0, 1]), evenly)
    ones = sample(LABELLED, PLAN, noise=z, labels=1)
    torch.testing.assert_close(ones[1::2], evenly[1::2])
    assert not torch.allclose(ones[::2], evenly[::2], atol=0.1)
    empty = sample(LABELLED, PLAN, noise=z, labels=2)
    torch.testing.assert_close(empty, sample(MODEL, PLAN, noise=z), rtol=1e-4, atol=1e-4)


def test_guidance() -> None:
    """u = u(empty) + scale (u(label) - u(empty)); scales 1 and 0 are the two networks themselves, in one pass."""
    x, labels = noises(4), torch.tensor([0, 1, 0, 1])

    def outputs(guidance: ClassifierFree | None, labels: Tensor) -> Tensor:
        history = History()
        play(
            LABELLED,
            Plan(Start(0.9, 0.9), (Row(0.9, {0: 0.0}, guidance=guidance, t=300.0),)),
            x,
            labels,
            history=history,
        )
        return history.outputs[0]

    own, empty = outputs(None, labels), outputs(None, torch.full_like(labels, 2))
    assert not torch.allclose(own, empty, atol=1e-3)
    torch.testing.assert_close(outputs(ClassifierFree(3.0), labels), empty + 3 * (own - empty), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs(ClassifierFree(1.0), labels), own)
    torch.testing.assert_close(outputs(ClassifierFree(0.0), labels), empty)


# starting in the middle


def test_image_to_image() -> None:
    """The smaller the strength the more of the image is kept; a tiny one reproduces it."""
    image, _ = MIXTURE.sample(64, seed=5)
    plan = standard("dpmpp-2m", MODEL, 20)
    kept = [
        float((sample(MODEL, plan, init=image, strength=s) - image).square().mean().sqrt())
        for s in (1.0, 0.6, 0.3, 0.1)
    ]
    assert kept == sorted(kept, reverse=True)
    tiny = sample(MODEL, plan, init=image, strength=plan.rows[-1].tau)
    assert (tiny - image).square().mean().sqrt() < 2 * plan.rows[-1].tau
    with pytest.raises(InputError, match="no row at or below"):
        sample(MODEL, plan, init=image, strength=1e-4)


def test_image_to_image_starts_at_the_level_of_the_row() -> None:
    seen: list[tuple[Row, Tensor]] = []
    image, _ = MIXTURE.sample(4, seed=5)
    sample(MODEL, PLAN, init=image, strength=0.7, callback=lambda row, x, data: seen.append((row, x)))
    row, x = seen[0]
    assert row.tau == max(r.tau for r in PLAN.rows if r.tau <= 0.7)
    torch.testing.assert_close(x, (1 - row.tau) * image + row.tau * noises(4))


# derivatives


def rollout(theta: Tensor, z: Tensor, model: Model = MODEL) -> Tensor:
    """Three calls whose levels (increments of log s) and weights are 0-dim tensors of theta (5,)."""
    log_s = torch.cumsum(torch.cat([torch.full((1,), 4.0, dtype=theta.dtype), -theta[:2].exp()]), 0)
    tau = tau_of_log_s(log_s)
    steps = [tau[1] - tau[0], tau[2] - tau[1], -tau[2]]
    rows = (
        Row(tau[0], {0: steps[0]}),
        Row(tau[1], {0: steps[1] * theta[2], 1: steps[1] * (1 - theta[2])}),
        Row(tau[2], {0: steps[2] * theta[3], 1: steps[2] * theta[4], 2: steps[2] * (1 - theta[3] - theta[4])}),
    )  # fmt: skip
    return play(model, Plan(Start(tau[0], tau[0]), rows), tau[0].float() * z)


THETA = torch.tensor([0.9, 0.7, -0.3, 0.1, -0.4], dtype=torch.float64)


@pytest.mark.parametrize("clip", [None, Clip(1.2), Clip(2.0, 0.9)], ids=["free", "clipped", "thresholded"])
def test_derivatives_by_coefficients(clip: Clip | None) -> None:
    """Reverse and forward mode agree with each other, and with central differences as far as float32 goes."""
    model, z, step = replace(MODEL, clip=clip), noises(6), 3e-3
    forward = torch.func.jacfwd(lambda theta: rollout(theta, z, model))(THETA)
    direction = torch.randn(forward.shape[:-1], generator=torch.Generator().manual_seed(0))
    theta = THETA.clone().requires_grad_()
    (rollout(theta, z, model) * direction).sum().backward()
    torch.testing.assert_close(
        theta.grad, (forward * direction[..., None]).sum((0, 1, 2, 3)).double(), rtol=1e-4, atol=1e-4
    )
    for k in range(len(THETA)):
        tangent = torch.eye(len(THETA), dtype=torch.float64)[k]
        _, jvp = torch.func.jvp(lambda theta: rollout(theta, z, model), (THETA,), (tangent,))
        torch.testing.assert_close(jvp, forward[..., k], rtol=1e-4, atol=1e-4)
        up, down = rollout(THETA + step * tangent, z, model), rollout(THETA - step * tangent, z, model)
        # clipping has corners, which a few pixels cross within the step
        wrong = ((up - down) / (2 * step) - jvp).abs().flatten().quantile(1.0 if clip is None else 0.95)
        assert wrong < 2e-3 * (1 + jvp.abs().max())


def test_derivatives_by_the_state() -> None:
    z, step = noises(4), 1e-2
    tangent = noises(4, seed=1)
    _, jvp = torch.func.jvp(lambda z: play(MODEL, PLAN, z), (z,), (tangent,))
    difference = (play(MODEL, PLAN, z + step * tangent) - play(MODEL, PLAN, z - step * tangent)) / (2 * step)
    torch.testing.assert_close(jvp, difference, rtol=1e-2, atol=1e-2)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad((play(MODEL, PLAN, z) * tangent).sum(), z)
    assert float((gradient * tangent).sum()) == pytest.approx(float((jvp * tangent).sum()), rel=1e-4)


def test_sampling_keeps_no_graph() -> None:
    assert not sample(MODEL, PLAN, 2).requires_grad


# precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_network_keeps_the_state_in_float32(dtype: torch.dtype) -> None:
    inputs: set[torch.dtype] = set()
    states: set[torch.dtype] = set()

    def half(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        inputs.add(x.dtype)
        states.add(t.dtype)
        return MODEL.network(x.float(), t, labels).to(dtype)

    model = replace(MODEL, network=half, dtype=dtype)
    got = sample(model, PLAN, 16, callback=lambda row, x, data: states.update({x.dtype, data.dtype}))
    assert inputs == {dtype}
    assert states == {torch.float32}
    assert got.dtype == torch.float32
    # the network's rounding, not the engine's: a bfloat16 state would lose a percent at every row
    assert (got - sample(MODEL, PLAN, 16)).square().mean().sqrt() < 4 * torch.finfo(dtype).eps


# bounds and extra channels


@pytest.mark.parametrize(
    ("bounds", "clip"),
    [
        ({"clip_sample": True, "clip_sample_range": 0.8}, Clip(0.8)),
        ({"clip_sample": False, "thresholding": True, "sample_max_value": 2.0}, Clip(2.0, 0.995)),
    ],
)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_bounds_are_those_of_diffusers(bounds: dict[str, Any], clip: Clip, prediction: str) -> None:
    """DDIM with the noise prediction taken from the clipped data (use_clipped_model_output), from equal noise."""
    predicts = {"epsilon": "noise", "v_prediction": "velocity"}[prediction]
    scheduler = diffusers.DDIMScheduler(prediction_type=prediction, timestep_spacing="leading", **bounds)
    model = Model.from_denoiser(perfect_network(predicts, SCHEDULE, 0.5), SCHEDULE, SHAPE, predicts, clip=clip)
    plan, z = from_diffusers(scheduler, 10), noises(16)
    scheduler.set_timesteps(10)
    x = z
    for t in scheduler.timesteps:
        out = model.network(x, t[None], None)
        x = scheduler.step(out, t, x, use_clipped_model_output=True).prev_sample
    got = sample(model, plan, noise=z)
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got, sample(replace(model, clip=None), plan, noise=z), atol=0.01)


def test_learned_variances_are_dropped() -> None:
    def twice(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        return torch.cat([MODEL.network(x, t, labels), torch.full_like(x, 9.0)], 1)

    assert torch.equal(sample(replace(MODEL, network=twice), PLAN, 4), sample(MODEL, PLAN, 4))


# what is refused


def returning(change: Callable[[Tensor], Tensor]) -> Model:
    return replace(MODEL, network=lambda x, t, labels: change(MODEL.network(x, t, labels)))


GUIDED = replace(PLAN, rows=tuple(replace(row, guidance=ClassifierFree(2.0)) for row in PLAN.rows))
TOO_WIDE = replace(PLAN, start=replace(PLAN.start, offset=torch.ones(2, 5, 5)))
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "nan": (lambda: sample(returning(lambda f: f * torch.nan), PLAN, 2), "not finite"),
    "infinite": (lambda: sample(returning(lambda f: f + torch.inf), PLAN, 2), "not finite"),
    "other size": (lambda: sample(returning(lambda f: f[..., :2]), PLAN, 2), r"returned shape \(2, 2, 3, 2\)"),
    "fewer channels": (lambda: sample(returning(lambda f: f[:, :1]), PLAN, 2), r"returned shape \(2, 1, 3, 3\)"),
    "flat": (lambda: sample(returning(lambda f: f.flatten(1)), PLAN, 2), r"returned shape \(2, 18\)"),
    "n": (lambda: sample(MODEL, PLAN, 0), "n is 0"),
    "batch": (lambda: sample(MODEL, PLAN, 2, batch=0), "batch is 0"),
    "noise": (lambda: sample(MODEL, PLAN, noise=torch.zeros(2, 1, 3, 3)), r"noise has shape \(2, 1, 3, 3\)"),
    "noise of other n": (lambda: sample(MODEL, PLAN, 3, noise=noises(2)), r"noise has shape \(2,"),
    "init alone": (lambda: sample(MODEL, PLAN, init=noises(2)), "init and strength"),
    "strength alone": (lambda: sample(MODEL, PLAN, 2, strength=0.5), "init and strength"),
    "strength": (lambda: sample(MODEL, PLAN, init=noises(2), strength=1.5), "strength is 1.5"),
    "label too large": (lambda: sample(LABELLED, PLAN, 2, labels=3), "label 3 is out of range"),
    "label below 0": (lambda: sample(LABELLED, PLAN, 2, labels=[0, -1]), "label -1"),
    "label of other n": (lambda: sample(LABELLED, PLAN, 2, labels=[0, 1, 0]), r"labels have shape \(3,\)"),
    "fractional label": (lambda: sample(LABELLED, PLAN, 2, labels=[0.5, 1.0]), "integers"),
    "labels without classes": (lambda: sample(MODEL, PLAN, 2, labels=0), "no classes"),
    "guidance without classes": (lambda: sample(MODEL, GUIDED, 2), "guidance needs"),
    "coefficients of other size": (lambda: sample(MODEL, TOO_WIDE, 2), r"start offset.*\(2, 5, 5\)"),
    "noise network at alpha = 0": (
        lambda: sample(replace(MODEL, predicts="noise"), Plan(Start(1.0, 1.0), (Row(1.0, {0: -1.0}, t=999.0),)), 2),
        "tau = 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, says = REFUSED[case]
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_plan_of_another_model_is_told() -> None:
    named = replace(PLAN, model={"name": "digits", "hash": "ab"})
    assert check_fit(MODEL, PLAN) is None
    assert check_fit(replace(MODEL, hash="ab"), named) is None
    assert "made for digits" in (check_fit(MODEL, named) or "")
