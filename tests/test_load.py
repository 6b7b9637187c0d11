"""A loaded model is what its folder says: levels, prediction, classes, bounds, start, hash, and its own samples."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from pipelines import LINEAR, bare, dit, rewrite, unet, vae
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.images import pixels
from fewer.integrations.schedulers import at_steps, calls_of, is_stochastic, play_scheduler
from fewer.models.pipelines.folder import make_scheduler, schedule_of
from fewer.models.schedules import Discrete, Flow, VarianceExploding

SCALED: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
FOR_ALL = ("DDPM", "DDIM", "PNDM", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "LMSDiscrete",
           "DPMSolverMultistep", "UniPCMultistep", "DEISMultistep")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional network beside a linear DDIM scheduler; tests that change it copy it."""
    return bare(tmp_path_factory.mktemp("pipelines") / "plain", unet(), diffusers.DDIMScheduler(**LINEAR))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def scheduler(name: str, **config: Any) -> Any:
    return make_scheduler(f"{name}Scheduler", config)


def loaded(folder: Path, own: Any) -> fewer.Model:
    """The folder with another scheduler."""
    shutil.rmtree(folder / "scheduler")
    own.save_pretrained(folder / "scheduler")
    return fewer.load(folder)


def levels(own: Any) -> Tensor:
    """Tau at every training time, from the scheduler's own table."""
    alpha_bar = own.alphas_cumprod.double()
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return sigma / (alpha + sigma)


def all_schedules() -> list[tuple[str, dict[str, Any]]]:
    cases: list[tuple[str, dict[str, Any]]] = []
    for name in FOR_ALL:
        cases += [(name, LINEAR), (name, SCALED), (name, {"trained_betas": [0.01, 0.02, 0.04, 0.1, 0.3]})]
    for name in ("DDPM", "DDIM", "PNDM", "HeunDiscrete", "DPMSolverMultistep", "UniPCMultistep", "DEISMultistep",
                 "EulerDiscrete"):  # fmt: skip
        cases.append((name, {"beta_schedule": "squaredcos_cap_v2"}))
    cases += [("DDPM", {"beta_schedule": "sigmoid"}), ("DDPM", {"beta_schedule": "laplace"})]
    cases += [("HeunDiscrete", {"beta_schedule": "exp"}), ("DDIM", {**LINEAR, "num_train_timesteps": 20})]
    for name in ("DDPM", "DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
        cases.append((name, {**SCALED, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}))
    return cases


@pytest.mark.parametrize(("name", "config"), all_schedules())
def test_levels_are_the_schedulers(name: str, config: dict[str, Any]) -> None:
    """To float32, in which diffusers keeps its table; where its last alpha is 0, or 2^-12 in its stead, ours is 0."""
    own = scheduler(name, **config)
    schedule, _, _ = schedule_of(own)
    assert isinstance(schedule, Discrete)
    expected = levels(own)
    t = torch.arange(len(expected), dtype=torch.float64)
    torch.testing.assert_close(
        schedule.tau(t), expected, rtol=2e-4, atol=3e-4 if config.get("rescale_betas_zero_snr") else 2e-5
    )
    assert (schedule.tau_max == 1) == bool(config.get("rescale_betas_zero_snr"))


def test_levels_of_a_scheduler_that_bends_its_table() -> None:
    """CogVideoX divides the signal-to-noise ratio after the betas: its own table counts."""
    own = scheduler("CogVideoXDDIM", **SCALED, snr_shift_scale=3.0)
    schedule, _, _ = schedule_of(own)
    torch.testing.assert_close(schedule.tau(torch.arange(1000.0)), levels(own))


def test_flow_and_edm_schedules() -> None:
    for name in ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"):
        assert schedule_of(scheduler(name, num_train_timesteps=500))[:2] == (Flow(500), "flow")
    schedule, predicts, sigma_data = schedule_of(scheduler("EDMEuler", sigma_min=0.01, sigma_max=50.0, sigma_data=0.7))
    assert (schedule, predicts, sigma_data) == (VarianceExploding(0.01, 50.0, "quarter-log"), "edm", 0.7)
    own = scheduler("UniPCMultistep", prediction_type="flow_prediction", use_flow_sigmas=True)
    assert schedule_of(own)[:2] == (Flow(1000), "flow")


@pytest.mark.parametrize(
    ("asked", "predicts"), [("epsilon", "noise"), ("sample", "data"), ("v_prediction", "velocity")]
)
def test_prediction_types(copied: Path, asked: str, predicts: str) -> None:
    model = loaded(copied, scheduler("DDIM", prediction_type=asked))
    assert model.predicts == predicts
    assert model.describe()["predicts"] == predicts


# ---- the folder's own samples

ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
PLAYED: list[tuple[str, dict[str, Any], str, str]] = [
    ("DDIM", {"timestep_spacing": "trailing"}, "ddim", "trailing"),
    ("DDIM", {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}, "ddim", "trailing"),
    ("DDIM", {"timestep_spacing": "trailing", "prediction_type": "sample"}, "ddim", "trailing"),
    ("DDIM", {"timestep_spacing": "trailing", **ZERO_SNR}, "ddim", "trailing"),
    ("EulerDiscrete", {"timestep_spacing": "linspace"}, "euler", "linspace"),
    ("HeunDiscrete", {"use_karras_sigmas": True}, "heun", "karras"),
    ("EDMEuler", {}, "euler", "karras"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "solver", "steps"), PLAYED)
def test_the_standard_plan_gives_the_folders_own_samples(
    copied: Path, name: str, config: dict[str, Any], solver: str, steps: str
) -> None:
    """The scheduler's own loop around the folder's network ends where our plan of the same solver and grid does.

    Both start from the same state: the scheduler's is divided by what it multiplies the noise by.
    """
    clip = {"clip_sample": False} if name == "DDIM" else {}
    own = scheduler(name, **({} if name.startswith(("Flow", "EDM")) else LINEAR), **clip, **config)
    model = loaded(copied, own)
    plan = fewer.standard(solver, model, 7 if solver == "heun" else 8, steps)
    first = 4 if solver == "heun" else 8
    assert calls_of(own, first) == plan.nfe
    noise = torch.randn(6, *model.shape, generator=torch.Generator().manual_seed(0))
    # Euler, Heun and EDM start from sigma z or sqrt(sigma^2 + 1) z, variance-preserving samplers from z instead of
    # sigma z: the same at tau_0 up to 1e-3, so the start is made equal
    own.set_timesteps(first)
    scale = float(own.init_noise_sigma) if name != "DDIM" else 1.0
    tau = float(plan.start.tau)
    c = float(model.schedule.scale(tau)) if model.predicts != "edm" else 1 / (1 - tau)
    sigma = tau * c if name == "DDIM" else tau / (1 - tau)
    expected = play_scheduler(model, at_steps(own, first), noise * (sigma / scale))
    found = fewer.sample(model, plan, noise=noise)
    assert float((found - expected).abs().max()) < 2e-3 * float(expected.square().mean().sqrt())


def test_clipping_is_the_schedulers(copied: Path) -> None:
    """DDIM clips the data prediction and derives the noise from it again where it is asked to use the clipped output."""
    own = scheduler("DDIM", **LINEAR, clip_sample=True, clip_sample_range=0.5, timestep_spacing="trailing")
    model = loaded(copied, own)
    assert model.clip is not None
    assert (model.clip.bound, model.clip.quantile) == (0.5, None)
    noise = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(0))
    x = fewer.sample(model, fewer.standard("ddim", model, 5, "trailing"), noise=noise)
    own.set_timesteps(5)  # a divisor of 1000, so that no time is rounded
    theirs = noise
    for t in own.timesteps:
        with torch.inference_mode():
            out = model(theirs, t, None)
        theirs = own.step(out, t, theirs, use_clipped_model_output=True).prev_sample
    assert float((x - theirs).abs().max()) < 1e-2
    assert float(x.abs().max()) <= 0.5 + 1e-6


def test_thresholding_goes_before_clipping(copied: Path) -> None:
    own = scheduler("DDIM", thresholding=True, clip_sample=True, sample_max_value=3.0, dynamic_thresholding_ratio=0.9)
    clip = loaded(copied, own).clip
    assert clip is not None
    assert (clip.bound, clip.quantile) == (3.0, 0.9)
    data = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 4
    torch.testing.assert_close(clip(data), own._threshold_sample(data))


def test_options_that_a_scheduler_does_not_know_change_nothing(copied: Path) -> None:
    """A configuration keeps what other classes left in it; diffusers ignores that, and so do we."""
    loaded(copied, scheduler("EulerDiscrete", **LINEAR))
    path = copied / "scheduler" / "scheduler_config.json"
    rewrite(path, clip_sample=True, thresholding=True, variance_type="learned_range", beta_schedule="linear")
    model = fewer.load(copied)
    assert model.clip is None
    noise = torch.randn(2, *model.shape)
    assert play_scheduler(
        model, at_steps(make_scheduler("EulerDiscreteScheduler", model.pipeline.config), 3), noise
    ).shape


# ---- where to start


@pytest.mark.parametrize(
    ("config", "safe"),
    [
        ({"beta_schedule": "squaredcos_cap_v2"}, True),
        ({**SCALED, "rescale_betas_zero_snr": True}, True),
        ({"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}, False),
        ({**SCALED, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, False),
        ({**SCALED, "rescale_betas_zero_snr": True, "prediction_type": "sample"}, False),
        (LINEAR, False),
    ],
)
def test_noise_prediction_starts_where_alpha_is_not_zero(copied: Path, config: dict[str, Any], safe: bool) -> None:
    model = loaded(copied, scheduler("DDIM", **config))
    s = model.start / (1 - model.start) if model.start < 1 else math.inf
    if safe:
        assert s == pytest.approx(64)
    else:
        assert model.start == model.schedule.tau_max
    assert fewer.standard("dpmpp-2m", model, 4, "logsnr").start.tau == pytest.approx(model.start)
    assert fewer.sample(model, fewer.standard("ddim", model, 3, "uniform"), n=2).isfinite().all()


# ---- classes, channels, latents


def test_classes_of_a_unet(tmp_path: Path) -> None:
    folder = bare(tmp_path / "classes", unet(num_class_embeds=5), diffusers.DDIMScheduler(**LINEAR))
    model = fewer.load(folder)
    assert (model.classes, model.empty_label) == (5, None)
    with pytest.raises(InputError, match="guidance 3 needs a model with labels and an empty label"):
        fewer.standard("ddim", model, 4, guidance=3.0)
    model = fewer.load(folder, empty_label=4)  # the last one: not a class of its own
    assert (model.classes, model.empty_label) == (4, 4)
    assert (fewer.load(folder, empty_label=0).classes, fewer.load(folder, empty_label=0).empty_label) == (5, 0)
    assert fewer.sample(model, fewer.standard("ddim", model, 4, guidance=3.0), n=3, labels=[0, 3, 2]).isfinite().all()
    for labels in ([0, 1, 5], [-1, 0, 0], [0.0, 1.0, 2.0], [0, 1]):
        with pytest.raises(InputError, match="label"):
            fewer.sample(model, fewer.standard("ddim", model, 2), n=3, labels=labels)


def test_what_fewer_json_says_of_classes(tmp_path: Path) -> None:
    network, own = unet(num_class_embeds=5), diffusers.DDIMScheduler(**LINEAR)
    model = fewer.load(bare(tmp_path / "told", network, own, classes=3, empty_label=4, data_range=[0, 1], name="mine"))
    assert (model.classes, model.empty_label, model.data_range, model.name) == (3, 4, (0.0, 1.0), "mine")
    for wrong in (
        {"empty_label": 5}, {"empty_label": "last"}, {"empty_label": -1}, {"classes": 6}, {"classes": "ten"},
        {"classes": 0}, {"classes": True}, {"data_range": [1, 0]}, {"data_range": "unit"}, {"data_range": [0, 1, 2]},
    ):  # fmt: skip
        (tmp_path / "told" / "fewer.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"classes|empty label|data_range"):
            fewer.load(tmp_path / "told")


def test_labels_reach_the_network(tmp_path: Path) -> None:
    for number, network in enumerate((unet(num_class_embeds=4), dit(classes=3))):
        model = fewer.load(bare(tmp_path / str(number), network, diffusers.DDIMScheduler(**LINEAR), classes=3))
        x = torch.zeros(2, *model.shape)
        with torch.inference_mode():
            one, two = model(x, 500.0, torch.tensor([0, 1]))
        assert not torch.equal(one, two)


def test_a_dit_has_one_label_more_than_classes(tmp_path: Path) -> None:
    model = fewer.load(bare(tmp_path / "dit", dit(classes=3), diffusers.FlowMatchEulerDiscreteScheduler()))
    assert (model.classes, model.empty_label, model.predicts, model.shape) == (3, 3, "flow", (1, 8, 8))
    assert model.schedule == Flow(1000)
    assert fewer.sample(model, fewer.standard("euler", model, 4, "uniform", guidance=2.0), n=4).shape == (4, 1, 8, 8)
    with pytest.raises(InputError, match=r"empty label 4 is out of range"):
        fewer.load(tmp_path / "dit", empty_label=4)


@pytest.mark.parametrize("make", [unet, dit])
def test_learned_variances_are_dropped(make: Any, tmp_path: Path) -> None:
    """Twice the channels, of which the first half is the prediction; its own scheduler reads the second half."""
    network = make(out_channels=2)
    own = diffusers.DDPMScheduler(**LINEAR, variance_type="learned_range", num_train_timesteps=50, clip_sample=False)
    model = fewer.load(bare(tmp_path / "learned", network, own))
    x, t = torch.randn(2, 1, 8, 8), torch.full((2,), 7.0)
    labels = model.labels(2)
    with torch.inference_mode():
        whole = model.network(x, t, labels)
        assert whole.shape == (2, 2, 8, 8)
        torch.testing.assert_close(model(x, 7.0, labels), whole[:, :1])
    assert fewer.sample(model, fewer.standard("ddim", model, 3), n=2).shape == (2, 1, 8, 8)
    assert play_scheduler(model, at_steps(own, 5), torch.randn(2, 1, 8, 8)).isfinite().all()
    # a scheduler that knows nothing of variances gets the prediction alone
    assert play_scheduler(model, at_steps(diffusers.DDIMScheduler(**LINEAR), 5), torch.randn(2, 1, 8, 8)).shape == (
        2,
        1,
        8,
        8,
    )


def test_a_scheduler_that_cannot_play_the_network_is_bad_input(folder: Path) -> None:
    own = diffusers.DDPMScheduler(**LINEAR, variance_type="learned_range")
    with pytest.raises(InputError, match="DDPMScheduler cannot take a step of plain"):
        play_scheduler(fewer.load(folder), at_steps(own, 4), torch.randn(2, 1, 8, 8))
    with pytest.raises(InputError, match="DDPMScheduler cannot be set to 2000 steps"):
        calls_of(own, 2000)


def test_pipelines_are_read_whole(tmp_path: Path) -> None:
    """Saved by diffusers itself; the steps are what the pipeline takes when it is not told."""
    for kind, own, steps in (
        (diffusers.DDPMPipeline, diffusers.DDPMScheduler(**LINEAR), 1000),
        (diffusers.DDPMPipeline, diffusers.DDPMScheduler(**LINEAR, num_train_timesteps=40), 40),
        (diffusers.DDIMPipeline, diffusers.DDIMScheduler(**LINEAR), 50),
    ):
        kind(unet(), own).save_pretrained(tmp_path / kind.__name__)
        model = fewer.load(tmp_path / kind.__name__)
        assert model.pipeline is not None
        assert (model.pipeline.scheduler, model.pipeline.steps) == (type(own).__name__, steps)
        again = make_scheduler(model.pipeline.scheduler, model.pipeline.config)
        assert {k: v for k, v in again.config.items() if k[0] != "_"} == {
            k: v for k, v in own.config.items() if k[0] != "_"
        }
        shutil.rmtree(tmp_path / kind.__name__)


def test_a_dit_pipeline_decodes_to_images(tmp_path: Path) -> None:
    own = diffusers.DDIMScheduler(**LINEAR, clip_sample=False)
    pipe = diffusers.DiTPipeline(dit(channels=4, out_channels=8), vae(4), own, id2label={0: "a", 1: "b", 2: "c"})
    pipe.save_pretrained(tmp_path / "dit")
    model = fewer.load(tmp_path / "dit")
    assert (model.shape, model.classes, model.empty_label, model.clip) == ((4, 8, 8), 3, 3, None)
    latents = fewer.sample(model, fewer.standard("ddim", model, 3), n=20)
    assert model.decode is not None
    with torch.inference_mode():
        expected = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    torch.testing.assert_close(model.decode(latents), expected)
    images = pixels(model, latents)  # decoded in parts
    assert (images.shape, str(images.dtype)) == ((20, 16, 16, 3), "uint8")
    assert images.std() > 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(folder: Path, dtype: str) -> None:
    """The network runs in it, the state stays float32: samples differ by its rounding only."""
    whole, half = fewer.load(folder), fewer.load(folder, dtype=dtype)
    assert half.dtype == getattr(torch, dtype)
    assert whole.hash == half.hash
    plan = fewer.standard("dpmpp-2m", whole, 4, "logsnr")
    x, y = fewer.sample(whole, plan, n=4), fewer.sample(half, plan, n=4)
    assert y.dtype == torch.float32
    assert 0 < float((x - y).abs().max()) < 0.5


def test_bundled_names_and_half_precision() -> None:
    model = fewer.load("mixture16", dtype="float64")
    x = fewer.sample(model, fewer.standard("ddim", model, 2), n=2)
    y = fewer.sample(fewer.load("mixture16"), fewer.standard("ddim", model, 2), n=2)
    torch.testing.assert_close(x, y, atol=1e-4, rtol=0)


# ---- the hash


def test_the_hash_is_of_the_content(folder: Path, copied: Path, tmp_path: Path) -> None:
    """Equal for a copy under another name; another one for other weights, network or scheduler configurations."""
    own = fewer.load(folder).hash
    assert fewer.load(copied).hash == own
    assert fewer.load(copied).name == "copied"
    seen = {own}
    bare(tmp_path / "seed", unet(seed=1), diffusers.DDIMScheduler(**LINEAR))
    bare(tmp_path / "epsilon", unet(norm_eps=1e-4), diffusers.DDIMScheduler(**LINEAR))
    rewrite(copied / "scheduler" / "scheduler_config.json", beta_end=0.021)
    for other in (tmp_path / "seed", tmp_path / "epsilon", copied):
        found = fewer.load(other).hash
        assert len(found) == 64
        assert found not in seen
        seen.add(found)


def test_sharded_and_named_weights(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = fewer.standard("ddim", fewer.load(copied), 2)
    x = fewer.sample(fewer.load(copied), plan, n=2)
    for options in ({"max_shard_size": "20KB"}, {"variant": "fp32"}, {"variant": "fp32", "max_shard_size": "20KB"}):
        shutil.rmtree(copied / "unet")
        unet().save_pretrained(copied / "unet", **options)
        torch.testing.assert_close(fewer.sample(fewer.load(copied), plan, n=2), x)
    assert capfd.readouterr() == ("", "")  # no progress bars, no warnings


def test_which_schedulers_add_noise() -> None:
    for name, config, expected in (
        ("DDPM", {}, True), ("EulerAncestralDiscrete", {}, True), ("LCM", {}, True), ("DDIM", {}, False),
        ("PNDM", {}, False), ("FlowMatchEulerDiscrete", {}, False),
        ("FlowMatchEulerDiscrete", {"stochastic_sampling": True}, True),
        ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}, True), ("DPMSolverMultistep", {}, False),
    ):  # fmt: skip
        own = scheduler(name, **config)
        assert is_stochastic(own) == expected
        model = fewer.Model.from_denoiser(lambda x, t, y: 0.5 * x, schedule_of(own)[0], (1, 4, 4))
        noise = torch.randn(3, 1, 4, 4)
        runs = [play_scheduler(model, at_steps(own, 6), noise, seed=seed) for seed in (0, 0, 1)]
        assert torch.equal(runs[0], runs[1])
        assert torch.equal(runs[0], runs[2]) != expected
