"""FewerScheduler keeps what diffusers expects of a scheduler, and plays what fewer.sample plays."""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.engine import Draws, begin, play, times
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.integrations.scheduler import FewerScheduler, FewerSchedulerOutput
from fewer.models.angles import Angle, Cosine
from fewer.models.denoiser import Clip
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import noise_scale, schedule_of
from fewer.models.predictions import PREDICTIONS
from fewer.models.schedules import Discrete, Flow, Schedule, VarianceExploding, betas, discrete
from fewer.plan import Plan, Row, Start

MIXTURE = GaussianMixture.random((2, 2, 2), components=3, seed=1)
SCHEDULES: dict[str, Schedule] = {
    "vp": discrete(betas("scaled_linear", 1000, 0.00085, 0.012)),
    "ve": VarianceExploding(0.002, 80),
    "flow": Flow(),
    "rising flow": Flow(rising=True),
    "cosine": Cosine(),
    "angle": Angle(0.5),
}
CASES = [
    ("vp", "noise"), ("vp", "data"), ("vp", "velocity"), ("ve", "data"), ("ve", "noise"), ("ve", "edm"),
    ("flow", "flow"), ("rising flow", "data-flow"), ("flow", "data"), ("vp", "score"), ("ve", "consistency"),
    ("cosine", "noise"), ("angle", "trigflow"),
]  # fmt: skip
EULER: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def model_of(schedule: str = "vp", predicts: str = "noise", **more: Any) -> Model:
    """The exact mixture's network of a prediction: F = (u - p x~) / q."""
    frame = Model(lambda x, t, y: x, SCHEDULES[schedule], predicts, (2, 2, 2))

    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        tau = SCHEDULES[schedule].tau(t[0].double())
        c_in, p, q = frame.affine(tau)
        state = x.double() / c_in
        u = (state - MIXTURE.denoise(state, tau)) / tau
        return ((u - p * state) / q).to(x.dtype)

    return replace(frame, network=network, **more)


def noise(n: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, 2, 2, generator=torch.Generator().manual_seed(seed))


def loop(scheduler: FewerScheduler, model: Model, x: Tensor, scales: bool = True, **more: Any) -> Tensor:
    """The loop of a pipeline."""
    for t in scheduler.timesteps[scheduler.begin_index or 0 :]:
        told = scheduler.scale_model_input(x, t) if scales else x
        x = scheduler.step(model(told, t, None), t, x, **more).prev_sample
    return x


def drawing(plan: Plan, model: Model, z: Tensor, seed: int) -> Tensor:
    """The plan played by the engine with a generator's noises, as a pipeline draws them."""
    generator = torch.Generator().manual_seed(seed)
    return play(
        model, plan, begin(plan, z, lambda: z), draws=Draws(lambda _: torch.randn(z.shape, generator=generator))
    )


@pytest.mark.parametrize(("schedule", "predicts"), CASES)
@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp-3m", "unipc"])
def test_full_loops_are_the_engines(schedule: str, predicts: str, solver: str) -> None:
    model, z = model_of(schedule, predicts), noise()
    plan = fewer.standard(solver, model, 7, "logsnr" if schedule != "flow" else "uniform")
    scheduler = FewerScheduler.from_plan(plan, model)
    scheduler.set_timesteps(7)
    expected = fewer.sample(model, plan, noise=z)
    begun = z * scheduler.init_noise_sigma * noise_scale(model.schedule)
    torch.testing.assert_close(loop(scheduler, model, begun), expected, atol=1e-5, rtol=1e-5)


def test_every_prediction_is_covered() -> None:
    assert {predicts for _, predicts in CASES} == set(PREDICTIONS)


@pytest.mark.parametrize("bounds", [Clip(0.5), Clip(2.0, 0.9)])
def test_bounds_on_the_data_prediction(bounds: Clip) -> None:
    model, z = model_of(clip=bounds), noise()
    plan = fewer.standard("dpmpp-2m", model, 5)
    found = loop(FewerScheduler.from_plan(plan, model), model, z)
    assert torch.allclose(found, fewer.sample(model, plan, noise=z), atol=1e-6)
    assert not torch.allclose(found, fewer.sample(replace(model, clip=None), plan, noise=z), atol=1e-2)


@pytest.mark.parametrize("solver", ["ancestral", "dpmpp-2m"])
def test_added_noise_comes_from_the_generator(solver: str) -> None:
    model, z = model_of(), noise()
    plan = fewer.standard(solver, model, 5)
    if solver == "dpmpp-2m":
        plan = replace(plan, rows=tuple(replace(row, noise=0.1) for row in plan.rows))
    scheduler = FewerScheduler.from_plan(plan, model)
    found = []
    for seed in (0, 0, 1):
        scheduler.set_timesteps()
        found.append(loop(scheduler, model, z, generator=torch.Generator().manual_seed(seed)))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-2)
    assert torch.allclose(found[0], drawing(plan, model, z, 0), atol=1e-5)
    scheduler.set_timesteps()
    each = [torch.Generator().manual_seed(i) for i in range(3)]  # one a sample, as pipelines may be given
    assert loop(scheduler, model, z, generator=each).shape == z.shape


def tensors(model: Model) -> Plan:
    """A plan whose start knows the data's covariance, and whose rows have coefficients of a sample's shape."""
    plan = fewer.standard("dpmpp-2m", model, 4)
    v = torch.linalg.qr(torch.randn(8, 2, generator=torch.Generator().manual_seed(3)))[0].T.reshape(2, 2, 2, 2)
    offset = torch.full((2, 1, 1), 0.1)
    start = replace(plan.start, offset=offset, directions=v.contiguous(), gains=torch.tensor([0.5, 0.2]))
    rows = [replace(row, b={n: row.b[n] * torch.ones(2, 2, 2)}, offset=offset) for n, row in enumerate(plan.rows)]
    return replace(plan, start=start, rows=tuple(rows))


def test_tensors(tmp_path: Path) -> None:
    """They travel in the configuration, as safetensors, and are used as the engine uses them."""
    model, z = model_of(), noise()
    plan = tensors(model)
    expected = fewer.sample(model, plan, noise=z)
    scheduler = FewerScheduler.from_plan(plan, model)
    scheduler.save_pretrained(tmp_path)
    for each in (scheduler, FewerScheduler.from_pretrained(tmp_path), FewerScheduler.from_config(scheduler.config)):
        assert torch.allclose(loop(each, model, z), expected, atol=1e-5)
    scheduler.set_timesteps()
    with pytest.raises(InputError, match="does not start from the noise as it is"):
        loop(scheduler, model, z, scales=False)
    scheduler.set_timesteps()
    with pytest.raises(InputError, match="samples are"):
        loop(scheduler, model, torch.zeros(1, 2, 3, 3))


def test_noise_of_the_start_is_of_one_law() -> None:
    model = model_of()
    plan = fewer.standard("ddim", model, 3)
    plan = replace(plan, start=replace(plan.start, scale=0.6, noise=0.8))
    scheduler = FewerScheduler.from_plan(plan, model)
    x = scheduler.scale_model_input(noise(20_000))
    c_in = model.affine(plan.rows[0].tau).c_in
    assert float(x.std() / c_in) == pytest.approx(1.0, abs=0.01)
    both = replace(plan, start=replace(tensors(model).start, noise=0.1))
    with pytest.raises(InputError, match="starts from two noises"):
        FewerScheduler.from_plan(both, model).scale_model_input(noise())


def test_saving_and_loading(tmp_path: Path) -> None:
    model, z = model_of(), noise()
    theirs = diffusers.DDIMScheduler(**EULER, clip_sample=False)
    scheduler = FewerScheduler.from_plan(fewer.standard("unipc", model, 5), theirs)
    scheduler.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler_config.json"]
    loaded = FewerScheduler.from_pretrained(tmp_path)
    assert loaded.plan == scheduler.plan
    usual = "_use_default_values"  # names that were never given, which diffusers saves of no scheduler
    assert {**loaded.config, usual: scheduler.config[usual]} == dict(scheduler.config)
    assert torch.equal(loop(loaded, model, z), loop(scheduler, model, z))
    # whoever asks it for the training process is told, and other schedulers can be made of it again
    assert loaded.config.num_train_timesteps == 1000
    again = diffusers.DPMSolverMultistepScheduler.from_config(loaded.config)
    assert {key: again.config[key] for key in EULER} == EULER
    other = FewerScheduler.from_plan(fewer.standard("ddim", model, 2), loaded)
    assert other.config.process == loaded.config.process
    assert len(other.timesteps) == 2


def test_what_the_network_was_trained_under_is_read_off() -> None:
    trained = torch.linspace(1e-4, 0.02, 50, dtype=torch.float64)
    cases: list[tuple[Any, str, str]] = [
        (diffusers.DDPMScheduler(trained_betas=trained.tolist()), "variance-preserving", "noise"),
        (diffusers.DDIMScheduler(prediction_type="v_prediction"), "variance-preserving", "velocity"),
        (diffusers.EDMEulerScheduler(), "variance-exploding", "edm"),
        (diffusers.FlowMatchEulerDiscreteScheduler(), "flow", "flow"),
    ]
    for theirs, process, predicts in cases:
        schedule, said, sigma_data = schedule_of(theirs)
        model = Model(lambda x, t, y: x, schedule, said, (2, 2, 2), sigma_data=sigma_data)
        scheduler = FewerScheduler.from_plan(fewer.standard("ddim", model, 3, "uniform"), theirs)
        assert (scheduler.config.process, scheduler.config.predicts) == (process, predicts)
    for wrong in (object(), "ddim"):
        with pytest.raises(InputError, match="expected a Model or a diffusers scheduler"):
            FewerScheduler.from_plan(scheduler.plan, wrong)


def test_copies_in_the_middle_of_a_run() -> None:
    model, z = model_of(), noise()
    scheduler = FewerScheduler.from_plan(fewer.standard("dpmpp-3m", model, 6), model)
    scheduler.set_timesteps(6)
    x = z
    for t in scheduler.timesteps[:3]:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t, None), t, x).prev_sample
    both = []
    for mine in (copy.deepcopy(scheduler), scheduler):
        y = x
        for t in mine.timesteps[3:]:
            y = mine.step(model(mine.scale_model_input(y, t), t, None), t, y).prev_sample
        both.append(y)
    assert torch.equal(*both)


def test_threads_with_a_copy_each() -> None:
    model = model_of()
    scheduler = FewerScheduler.from_plan(fewer.standard("dpmpp-2m", model, 6), model)
    found: dict[int, Tensor] = {}

    def work(seed: int) -> None:
        mine = FewerScheduler.from_config(scheduler.config)
        mine.set_timesteps(6)
        found[seed] = loop(mine, model, noise(seed=seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        scheduler.set_timesteps()
        assert torch.equal(found[seed], loop(scheduler, model, noise(seed=seed)))


def test_times_are_floats_on_the_device_asked_for() -> None:
    model = model_of()
    plan = fewer.standard("ddim", model, 5)
    scheduler = FewerScheduler.from_plan(plan, model)
    for device in (None, "cpu", torch.device("cpu")):
        scheduler.set_timesteps(5, device=device)
        assert scheduler.timesteps.dtype == torch.float32
        assert torch.equal(scheduler.timesteps, torch.tensor(times(model, plan), dtype=torch.float32))
    scheduler.set_timesteps(sigmas=np.linspace(1, 0.2, 5), mu=0.5)
    assert (len(scheduler), scheduler.num_inference_steps, scheduler.order) == (5, 5, 1)
    for wrong in ({"num_inference_steps": 50}, {"sigmas": [1.0, 0.5]}):
        with pytest.raises(ValueError, match="plan 'ddim karras' has 5 rows: give num_inference_steps=5"):
            scheduler.set_timesteps(**wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    """What the pipeline holds is rounded, the state is not: the result is that of the engine around the same network."""
    model, z = model_of(dtype=dtype), noise().to(dtype)
    plan = fewer.standard("dpmpp-2m", model, 8)
    scheduler = FewerScheduler.from_plan(plan, model)
    x = z
    for t in scheduler.timesteps:
        out = model.network(scheduler.scale_model_input(x, t), t.expand(3), None)
        assert out.dtype == dtype
        x = scheduler.step(out, t, x).prev_sample
        assert x.dtype == dtype
    expected = fewer.sample(model, plan, noise=z.float())
    assert torch.allclose(x.float(), expected, atol=2 * torch.finfo(dtype).eps, rtol=2 * torch.finfo(dtype).eps)


def test_outputs() -> None:
    model, z = model_of(), noise()
    scheduler = FewerScheduler.from_plan(fewer.standard("ddim", model, 3), model)
    t = scheduler.timesteps[0]
    told = scheduler.scale_model_input(z, t)
    out = model(told, t, None)
    one = scheduler.step(out, t, z)
    scheduler.set_timesteps()
    scheduler.scale_model_input(z, t)
    previous, data = scheduler.step(torch.cat([out, out], 1), t, z, return_dict=False)  # learned variances are not used
    assert isinstance(one, FewerSchedulerOutput)
    assert torch.equal(one.prev_sample, previous)
    assert torch.equal(one.pred_original_sample, data)
    alpha, sigma = (float(c) for c in noising(model, scheduler.plan.rows[0].tau))
    assert torch.allclose(data, (told - sigma * out) / alpha, atol=1e-4)
    for wrong in ({"eta": 1.0}, {"use_clipped_model_output": True}):
        with pytest.raises(InputError, match="are the plan's to decide"):
            scheduler.step(out, scheduler.timesteps[1], previous, **wrong)


def noising(model: Model, tau: float) -> tuple[Tensor, Tensor]:
    c = model.schedule.scale(tau)
    return c * (1 - tau), c * tau


@pytest.mark.parametrize("schedule", ["vp", "flow"])
def test_added_noise_is_at_the_rows_level(schedule: str) -> None:
    model = model_of(schedule, "data")
    plan = fewer.standard("dpmpp-2m", model, 5, "uniform")
    scheduler = FewerScheduler.from_plan(plan, model)
    data, eps = noise(5, seed=1), noise(5, seed=2)
    for mixed in (
        scheduler.add_noise(data, eps, scheduler.timesteps), scheduler.scale_noise(data, scheduler.timesteps, eps)
    ):  # fmt: skip
        for n, row in enumerate(plan.rows):
            alpha, sigma = noising(model, row.tau)
            assert torch.allclose(mixed[n], (alpha * data[n] + sigma * eps[n]).float(), atol=1e-6)
    assert scheduler.add_noise(data.half(), eps.half(), scheduler.timesteps[1]).dtype == torch.float16
    alpha, sigma = noising(model, float(model.schedule.tau(3.5)))
    between = scheduler.add_noise(data, eps, torch.tensor([3.5]))
    assert torch.allclose(between, (alpha * data + sigma * eps).float(), atol=1e-6)


@pytest.mark.parametrize(("solver", "nfe"), [("unipc", 6), ("dpmpp-3m", 6), ("heun", 7)])
@given(first=st.integers(0, 5))
@settings(max_examples=6, deadline=None)
def test_runs_from_the_middle(solver: str, nfe: int, first: int) -> None:
    """Image-to-image: noised data at row `first` is played as fewer.sample plays `init`."""
    model, z, data = model_of(), noise(), noise(seed=5)
    plan = fewer.standard(solver, model, nfe)
    scheduler = FewerScheduler.from_plan(plan, model)
    scheduler.set_timesteps(nfe)
    scheduler.set_begin_index(first)
    x = scheduler.add_noise(data, z, scheduler.timesteps[first].repeat(3))
    expected = fewer.sample(model, plan, noise=z, init=data, strength=float(plan.rows[first].tau))
    torch.testing.assert_close(loop(scheduler, model, x), expected, atol=1e-5, rtol=1e-5)
    assert scheduler.step_index == nfe


def test_begin_is_found_by_its_time() -> None:
    model, z = model_of(), noise()
    plan = fewer.standard("dpmpp-2m", model, 5)
    ends = []
    for told in (True, False):
        scheduler = FewerScheduler.from_plan(plan, model)
        scheduler.set_timesteps(5)
        assert (scheduler.begin_index, scheduler.step_index) == (None, None)
        if told:
            scheduler.set_begin_index(2)
        x = scheduler.add_noise(z, z, scheduler.timesteps[2])
        for t in scheduler.timesteps[2:]:
            x = scheduler.step(model(scheduler.scale_model_input(x, t), t, None), t, x).prev_sample
        ends.append(x)
    assert torch.equal(*ends)
    scheduler.set_timesteps(5)
    scheduler.set_begin_index(2)
    with pytest.raises(InputError, match="which is not row 2"):
        scheduler.step(z, scheduler.timesteps[0], z)
    with pytest.raises(InputError, match=r"timestep 1\.5 is none of plan"):
        FewerScheduler.from_plan(plan, model).step(z, 1.5, z)


def test_samples_that_were_changed_between_steps_count() -> None:
    """Inpainting overwrites part of the sample; that part goes on from there, the rest from the float32 state."""
    model, z = model_of(), noise()
    plan = fewer.standard("ddim", model, 4)
    scheduler = FewerScheduler.from_plan(plan, model)
    x = z
    for n, t in enumerate(scheduler.timesteps):
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t, None), t, x).prev_sample
        if n == 1:
            x[:, :1] = scheduler.add_noise(z, z, scheduler.timesteps[n + 1])[:, :1]
    states: list[Tensor] = []
    fewer.sample(model, plan, noise=z, callback=lambda row, x, data: states.append(x.clone()))
    changed = states[2].clone()
    changed[:, :1] = z[:, :1]  # (1 - tau) z + tau z
    rest = plan.from_level(float(plan.rows[2].tau))
    assert torch.allclose(x, play(model, rest, changed), atol=1e-5)


def test_pipelines_that_start_from_the_noise_itself() -> None:
    """Some never scale their samples: as near to the plan as z is to c scale z, and no nearer."""
    model, z = model_of(), noise()
    plan = fewer.standard("ddim", model, 4)
    scheduler = FewerScheduler.from_plan(plan, model)
    assert not scheduler.starts_plainly()
    expected = fewer.sample(model, plan, noise=z)
    found = loop(scheduler, model, z, scales=False)
    assert torch.allclose(found, expected, atol=0.1)
    low = fewer.standard("ddim", model, 4, "uniform", start=0.5)
    with pytest.raises(InputError, match="does not start from the noise as it is"):
        loop(FewerScheduler.from_plan(low, model), model, z, scales=False)


def test_a_run_has_an_end() -> None:
    model, z = model_of(), noise()
    scheduler = FewerScheduler.from_plan(fewer.standard("ddim", model, 2), model)
    loop(scheduler, model, z)
    with pytest.raises(InputError, match="played to its end; call set_timesteps first"):
        scheduler.step(z, scheduler.timesteps[1], z)


def test_guidance_needs_a_pipeline() -> None:
    model, z = model_of(), noise()
    plan = fewer.standard("ddim", model, 2)
    plan = replace(plan, rows=tuple(replace(row, guidance=ClassifierFree(2.0)) for row in plan.rows))
    with pytest.raises(InputError, match=r"has guidance in row 0; fewer.apply\(plan, pipe\) plays it"):
        loop(FewerScheduler.from_plan(plan, model), model, z)


def damaged(config: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    plan = config["plan"]
    return [
        ({"plan": [1]}, "plan is a list"),
        ({"plan": plan | {"rows": []}}, "rows"),
        ({"plan": plan | {"schema": 99}}, "upgrade fewer"),
        ({"plan": plan | {"start": {"tau": 7, "scale": 1}}}, "levels lie in"),
        ({"process": "sideways"}, "process is 'sideways'"),
        ({"predicts": "weather"}, "predicts is 'weather'"),
        ({"clip": {"much": 1}}, "clip is"),
        ({"tensors": "AAAA"}, "tensors is no base64 of safetensors"),
        ({"tensors": "?"}, "tensors is no base64 of safetensors"),
    ]


def test_damaged_configurations(tmp_path: Path) -> None:
    model = model_of()
    FewerScheduler.from_plan(fewer.standard("ddim", model, 2), model).save_pretrained(tmp_path)
    file = tmp_path / "scheduler_config.json"
    config = json.loads(file.read_text())
    for change, message in damaged(config):
        file.write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=message) as told:
            FewerScheduler.from_pretrained(tmp_path)
        assert "\n" not in str(told.value)


def test_schedules_that_are_not_known() -> None:
    class Own(Discrete):
        pass

    model = replace(model_of(), schedule=Own((0.9, 0.5)))
    with pytest.raises(InputError, match="a Own schedule is not supported"):
        FewerScheduler.from_plan(Plan(Start(0.5, 0.5), (Row(0.5, {0: -0.5}, t=1),)), model)


@pytest.mark.parametrize(("rows", "strength"), [(1, 0.5), (2, 0.3), (3, 0.1)])
def test_a_strength_that_leaves_no_row_is_told(rows: int, strength: float) -> None:
    """As image-to-image pipelines work out where to begin."""
    plan = fewer.standard("ddim", model_of(), rows, "logsnr")
    scheduler = FewerScheduler.from_plan(plan, model_of())
    scheduler.set_timesteps(rows)
    with pytest.raises(InputError, match=f"give a strength of {1 / rows:.2g} or more"):
        scheduler.set_begin_index(rows - int(rows * strength))
    scheduler.set_begin_index(rows - int(rows * (1 / rows)))


def test_an_unclip_scheduler_has_its_known_table() -> None:
    schedule, predicts, _ = schedule_of(diffusers.UnCLIPScheduler(prediction_type="sample"))
    assert predicts == "data"
    assert isinstance(schedule, Discrete)
    expected = diffusers.UnCLIPScheduler().alphas_cumprod.double()
    torch.testing.assert_close(torch.tensor(schedule.alpha_bar, dtype=torch.float64), expected, rtol=1e-3, atol=1e-6)
