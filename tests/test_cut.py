"""Models of whole pipelines: a pipeline's loop, cut where it calls its scheduler's `step`."""

from __future__ import annotations

import copy
import gc
import inspect
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pipelines as plain
import pytest
import text_folders
import tiny_pipelines as tiny
import torch
from torch import Tensor

import fewer
from fewer.engine import check_fit
from fewer.errors import ForeignError, InputError
from fewer.evaluate.cost.price import call_macs
from fewer.integrations.as_it_is import as_it_is
from fewer.models.model import Model
from fewer.models.pipelines.flux import packed

SCALE = 5.0


def call_of(case: tiny.Case, **more: Any) -> dict[str, Any]:
    """The arguments by which a case calls its pipeline."""

    class Caught(Exception):
        pass

    kind, found = type(case.pipe), {}
    own = kind.__call__
    names = list(inspect.signature(own).parameters)[1:]

    def catch(self: Any, *args: Any, **kwargs: Any) -> None:
        found.update(dict(zip(names, args, strict=False)) | kwargs)
        raise Caught

    kind.__call__ = catch
    try:
        with pytest.raises(Caught):
            case.run(4, **more)
    finally:
        kind.__call__ = own
    return found


def ddim() -> tiny.Case:
    return tiny.unconditional("DDIMPipeline", diffusers.DDIMScheduler(**plain.LINEAR, clip_sample=False))


def ddpm() -> tiny.Case:
    return tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**plain.LINEAR, clip_sample=False))


def guided_flux() -> tiny.Case:
    return tiny.flux(guidance_embeds=True)


TWO_PASSES = [
    tiny.stable_diffusion, tiny.stable_diffusion_xl, tiny.stable_diffusion_3, tiny.pixart, tiny.ltx, tiny.animatediff,
    tiny.dit,
]  # fmt: skip
ONE_PASS = [*TWO_PASSES, tiny.flux, guided_flux, ddim, ddpm]
CASES = [(make, 1.0) for make in ONE_PASS] + [(make, SCALE) for make in TWO_PASSES]


@pytest.fixture(params=CASES, ids=lambda each: f"{each[0].__name__}-{each[1]:g}")
def cut(request: Any) -> tuple[tiny.Case, Model, dict[str, Any], float]:
    make, scale = request.param
    case = make()
    guides = {"guidance_scale": scale} if make in TWO_PASSES else {}
    return case, Model.from_pipeline(case.pipe, call_of(case, **guides)), guides, scale


def direct(case: tiny.Case, x: Tensor, t: float, scale: float, label: int | list[int] = 0) -> Tensor:
    """The output of the network itself, guided by its two passes."""
    model = case.model
    with torch.inference_mode():
        if model.classes is None:
            return model(x, t, None)
        of_label = model(x, t, torch.as_tensor(label).expand(len(x)))
        if scale == 1:
            return of_label
        empty = model(x, t, torch.full((len(x),), model.empty_label))
    return empty + scale * (of_label - empty)


def same(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


def threads() -> list[threading.Thread]:
    """Of pipelines that wait for a question."""
    return [each for each in threading.enumerate() if each.name.startswith("fewer")]


def test_the_output_of_a_pipelines_loop_is_that_of_its_network_at_any_state_and_time(cut: Any) -> None:
    case, model, _, scale = cut
    x = tiny.drawn(3, *model.shape, seed=5)
    for t in (999.0, 500.0, 37.25):
        out = model(x, t, model.labels(3))
        assert same(out, direct(case, x, t, scale))


def test_a_plan_gives_the_samples_that_the_pipeline_makes_under_it(cut: Any) -> None:
    case, model, guides, _ = cut
    plan = fewer.standard("dpmpp-2m", model, nfe=4)
    fewer.apply(plan, case.pipe)
    theirs = case.run(4, **guides)
    fewer.unapply(case.pipe)
    ours = fewer.sample(model, plan, noise=case.noise)
    assert same(ours if model.classes else ours.clamp(-1, 1), theirs)


def test_a_label_is_a_condition_of_the_call_in_batches_of_any_make_up() -> None:
    case = tiny.stable_diffusion()
    call = call_of(case)
    both = torch.cat([call["prompt_embeds"][:1], call["negative_prompt_embeds"][:1]])
    more = {"prompt_embeds": both, "num_images_per_prompt": 2, "latents": None, "height": 16, "width": 16}
    model = Model.from_pipeline(case.pipe, call | more)
    assert model.classes == 2
    labels, x = [1, 0, 1, 1, 1, 0, 1], tiny.drawn(7, *model.shape)
    assert same(model(x, 300.5, torch.tensor(labels)), direct(case, x, 300.5, 1.0, labels))


def test_a_call_of_texts_names_them_as_prompts() -> None:
    class Texts(diffusers.StableDiffusionPipeline):
        def encode_prompt(self, prompt: Any, *args: Any, **kwargs: Any) -> Any:
            return torch.stack([torch.full((3, 8), float(len(text))) for text in prompt]), None

    case = tiny.stable_diffusion()
    pipe = tiny.silent(Texts(**case.pipe.components, requires_safety_checker=False))
    size = {"height": 16, "width": 16, "guidance_scale": 1.0, "output_type": "latent"}
    model = Model.from_pipeline(pipe, {"prompt": ["a cat", "two dogs"], **size})
    assert (model.prompts, model.classes, model.empty_label) == (("a cat", "two dogs"), 2, None)


def test_each_of_two_networks_answers_at_its_own_times_and_passes_one_after_the_other_are_guided() -> None:
    def network(seed: int) -> Any:
        torch.manual_seed(seed)
        return diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
            freq_dim=8, ffn_dim=16, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
        ).eval().requires_grad_(False)  # fmt: skip

    vae = diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    high, low = network(0), network(1)
    pipe = tiny.silent(diffusers.WanPipeline(None, None, vae, scheduler, high, low, 0.5))
    texts = tiny.drawn(2, 3, 8, seed=2)
    told = {"prompt_embeds": texts[:1], "negative_prompt_embeds": texts[1:], "guidance_scale": SCALE}
    size = {"height": 32, "width": 32, "num_frames": 5, "output_type": "latent"}
    model = Model.from_pipeline(pipe, told | size)
    x = tiny.drawn(1, *model.shape)
    for t, expert in ((700.0, high), (300.5, low)):
        label, empty = (expert(x, torch.tensor([t]), texts[k : k + 1], return_dict=False)[0] for k in (0, 1))
        assert same(model(x, t, torch.zeros(1, dtype=torch.int64)), empty + SCALE * (label - empty))


def test_more_questions_than_one_call_has_room_for_start_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewer.models.pipelines.cut.loop.ROOM", 5)
    case = ddim()
    model = Model.from_pipeline(case.pipe, call_of(case))
    x = tiny.drawn(2, *model.shape)
    for k in range(12):
        assert same(model(x, 10.0 * k, None), direct(case, x, 10.0 * k, 1.0))
    assert len(threads()) == 1


def test_the_pipeline_and_its_generator_stay_as_they_are_and_calls_draw_nothing_from_torch() -> None:
    case = ddim()
    generator = torch.Generator().manual_seed(3)
    before, states = dict(vars(case.pipe)), (generator.get_state(), torch.get_rng_state())
    for given in ({"generator": generator}, {"generator": None}):
        model = Model.from_pipeline(case.pipe, call_of(case) | given)
        model(tiny.drawn(2, *model.shape), 5.0, None)
    assert vars(case.pipe).keys() == before.keys()
    assert all(vars(case.pipe)[name] is value for name, value in before.items())
    assert torch.equal(generator.get_state(), states[0])
    assert torch.equal(torch.get_rng_state(), states[1])


def test_samples_are_decoded_by_the_pipeline() -> None:
    case = tiny.stable_diffusion()
    model = Model.from_pipeline(case.pipe, call_of(case) | {"output_type": "pil"})
    x, vae = tiny.drawn(3, *model.shape), case.pipe.vae
    with torch.inference_mode():
        images = vae.decode(x / vae.config.scaling_factor).sample.clamp(-1, 1)
    assert same(model.decode(x), images)


def test_the_pipelines_own_sampler_is_known_at_its_own_number_of_steps() -> None:
    case = tiny.flux()
    model = Model.from_pipeline(case.pipe, call_of(case))
    own = as_it_is(model)
    assert own is not None
    assert own.steps == 4
    assert same(own.samples(model, case.noise, model.labels(2), 0, None), case.run(4))


def test_it_is_measured_like_any_other_model_and_its_plans_know_the_pipeline(recwarn: Any) -> None:
    case = ddim()
    model = Model.from_pipeline(case.pipe, call_of(case) | {"batch_size": 8})
    plan = fewer.standard("ddim", model, nfe=1)
    assert fewer.measure(model, plan, n=8)["paired_rmse"].value > 0
    fewer.apply(replace(plan, evidence={"paired_rmse": 0.1}), case.pipe)
    assert not recwarn.list
    fewer.unapply(case.pipe)


@pytest.mark.slow
def test_it_is_tuned_like_any_other_model() -> None:
    case = ddim()
    model = Model.from_pipeline(case.pipe, call_of(case) | {"batch_size": 8})
    plan = fewer.tune(model, nfe=1, trials=1, noises=8, fresh=8, seed=0).plan
    assert plan.model["name"] == "DDIMPipeline"
    fewer.apply(plan, case.pipe)
    assert same(fewer.sample(model, plan, noise=case.noise).clamp(-1, 1), case.run(1))
    fewer.unapply(case.pipe)


def test_a_scheduler_that_counts_its_levels_from_the_data_on_is_told_its_own_times() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    told: list[float] = []

    class Inverted(diffusers.DDPMPipeline):
        """Its network gives data minus noise at 1000 (1 - tau), as Mochi's does; all data are 2."""

        def __call__(self, batch_size: int = 1, num_inference_steps: int = 4, generator: Any = None) -> Any:
            x = torch.randn(batch_size, 1, 8, 8, generator=generator)
            self.scheduler.set_timesteps(num_inference_steps)
            for t in self.scheduler.timesteps:
                told.append(float(t))
                x = self.scheduler.step((2 - x) / max(1 - float(t) / 1000, 1e-3), t, x).prev_sample
            return x

    model = Model.from_pipeline(made(Inverted, scheduler), {"batch_size": 2})
    x = fewer.sample(model, fewer.standard("euler", model, nfe=4), n=2)
    assert told[1] == 0.0
    assert torch.allclose(x, torch.full_like(x, 2.0), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_goes_on_while_its_pipeline_plays_a_plan_in_its_dtype(dtype: torch.dtype) -> None:
    case = tiny.stable_diffusion_3()
    case.pipe.transformer.to(dtype)
    told = {name: each.to(dtype) if isinstance(each, Tensor) else each for name, each in call_of(case).items()}
    model = Model.from_pipeline(case.pipe, told)
    assert model.dtype == dtype
    x, labels = tiny.drawn(2, *model.shape).to(dtype).float(), model.labels(2)
    before = model(x, 500.0, labels)
    fewer.apply(fewer.standard("euler", model, nfe=4), case.pipe)
    model.network.cut.close()
    assert torch.equal(model(x, 500.0, labels), before)
    fewer.unapply(case.pipe)


# what ends a call


def broken(case: tiny.Case, at: int, error: Callable[[], Any]) -> Any:
    """A hook by which the network's call number `at` raises."""
    calls = iter(range(10**6))

    def hook(*_: Any) -> None:
        if next(calls) >= at:
            error()

    network = getattr(case.pipe, "unet", None) or case.pipe.transformer
    return network.register_forward_pre_hook(hook)


def raising(error: BaseException) -> Callable[[], Any]:
    def now() -> None:
        raise error

    return now


def ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    time.sleep(0.05)


def parts(case: tiny.Case) -> list[Any]:
    """All that a pipeline holds, and the hooks on its network."""
    network = getattr(case.pipe, "unet", None) or case.pipe.transformer
    hooks = [list(each.values()) for each in (network._forward_hooks, network._forward_pre_hooks)]
    return [*vars(case.pipe).items(), *vars(network).keys(), hooks, network.forward]


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (raising(ValueError("no\nweather")), ForeignError),
        (raising(SystemExit(3)), ForeignError),
        (ctrl_c, KeyboardInterrupt),
    ],
)
def test_what_ends_a_call_is_told_and_leaves_nothing(at: int, error: Any, seen: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's tests begin with it ignored
    case = ddim()
    call, before = call_of(case), parts(case)
    hook = broken(case, at, error)
    x = tiny.drawn(2, 1, 8, 8)

    def ask() -> Model:
        model = Model.from_pipeline(case.pipe, call)
        for t in (900.0, 500.0, 100.0):
            model(x, t, None)
        return model

    with pytest.raises(seen) as raised:
        ask()
    hook.remove()
    assert not threads()
    assert parts(case) == before
    if "weather" in str(raised.value):
        assert str(raised.value).endswith("DDIMPipeline raised ValueError: no")
    assert same(ask()(x, 100.0, None), direct(case, x, 100.0, 1.0))


def test_a_model_goes_on_after_an_error() -> None:
    case = ddim()
    model, x = Model.from_pipeline(case.pipe, call_of(case)), tiny.drawn(2, 1, 8, 8)
    hook = broken(case, 0, raising(RuntimeError("a cloud")))
    with pytest.raises(ForeignError, match="a cloud"):
        model(x, 100.0, None)
    hook.remove()
    assert not threads()
    assert same(model(x, 100.0, None), direct(case, x, 100.0, 1.0))


def test_states_that_are_no_numbers_are_asked_for_like_others() -> None:
    case = ddim()
    model = Model.from_pipeline(case.pipe, call_of(case))
    for _ in range(2):
        assert bool(model(torch.full((2, 1, 8, 8), float("nan")), 100.0, None).isnan().all())


def test_a_model_that_is_dropped_takes_its_thread_with_it() -> None:
    case = ddim()
    before = parts(case)
    model = Model.from_pipeline(case.pipe, call_of(case))
    assert len(threads()) == 1
    del model
    gc.collect()
    assert not threads()
    assert parts(case) == before


def told(change: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A callback after each step."""
    return {"callback_on_step_end": lambda pipe, i, t, values: change(pipe, values)}


def interrupt(pipe: Any, values: dict[str, Any]) -> dict[str, Any]:
    pipe._interrupt = True
    return values


def replace_latents(pipe: Any, values: dict[str, Any]) -> dict[str, Any]:
    return {"latents": values["latents"] + 1}


def write_in_latents(pipe: Any, values: dict[str, Any]) -> dict[str, Any]:
    values["latents"].add_(1)
    return values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (interrupt, "ended its loop by itself"),
        (replace_latents, "changes the state"),
        (write_in_latents, "changes the state"),
    ],
)
def test_callbacks_that_end_the_loop_or_change_its_state_are_named(change: Any, said: str) -> None:
    case = tiny.stable_diffusion()
    call, before = call_of(case) | told(change), parts(case)
    model = Model.from_pipeline(case.pipe, call)
    x = tiny.drawn(2, *model.shape)
    with pytest.raises(InputError, match=said):
        [model(x, t, model.labels(2)) for t in (900.0, 500.0)]
    assert not threads()
    assert parts(case) == before


# what a pipeline puts back, samples, and counts


def inpainting() -> tuple[Any, dict[str, Any]]:
    """A pipeline whose network has no mask channels: after each step it puts back the picture, noised, outside of its mask."""
    case = tiny.stable_diffusion(diffusers.DDIMScheduler(**tiny.SCALED, clip_sample=False, steps_offset=1))
    pipe = diffusers.StableDiffusionInpaintPipeline(**case.pipe.components, requires_safety_checker=False)
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 8:] = 1
    picture = tiny.drawn(2, 3, 16, 16, seed=7).tanh()
    told = {"image": picture, "mask_image": mask, "height": 16, "width": 16, "strength": 1.0}
    return tiny.silent(pipe), call_of(case, guidance_scale=SCALE) | told


def test_what_a_pipeline_puts_back_into_its_states_is_data_that_its_network_knows() -> None:
    pipe, call = inpainting()
    call["generator"] = torch.Generator().manual_seed(1)
    model = Model.from_pipeline(pipe, call)
    labels = model.labels(2)

    def data(x: Tensor, t: float) -> Tensor:
        """The data prediction, outside of the mask."""
        tau = model.schedule.tau(t)
        number = model.affine(tau)
        state, output = x.double() / number.c_in, model(x, t, labels).double()
        return (state - tau * (number.p * state + number.q * output))[..., :4]

    x, other = tiny.drawn(2, *model.shape), tiny.drawn(2, *model.shape, seed=9)
    assert same(data(x, 500.0), data(other, 200.5))
    mixed = torch.cat([other[..., :4], x[..., 4:]], -1)
    assert same(model(mixed, 500.0, labels)[..., 4:], model(x, 500.0, labels)[..., 4:])


def test_a_plan_gives_the_samples_that_an_inpainting_pipeline_makes_but_for_its_first_turn() -> None:
    pipe, call = inpainting()
    call["generator"] = torch.Generator().manual_seed(1)
    model = Model.from_pipeline(pipe, call)
    plan = fewer.standard("dpmpp-2m", model, nfe=4)
    fewer.apply(plan, pipe)
    theirs = pipe(**call | {"generator": torch.Generator().manual_seed(1), "num_inference_steps": 4}).images
    fewer.unapply(pipe)
    ours = fewer.sample(model, plan, noise=call["latents"], labels=model.labels(2))
    # the pipeline begins with noise everywhere, and puts the picture back from its second turn on
    assert float((ours - theirs)[..., 4:].abs().max()) < 1e-3 * float(theirs.abs().max())


@pytest.mark.parametrize("make", [tiny.stable_diffusion, tiny.dit, tiny.flux])
def test_multiply_adds_of_a_call_are_those_of_its_passes(make: Any) -> None:
    case, passes = make(), 1 if make is tiny.flux else 2
    model = Model.from_pipeline(case.pipe, call_of(case, guidance_scale=SCALE))
    assert call_macs(model) == passes * call_macs(case.model) > 0


def test_one_network_is_known_by_its_folder_and_by_its_pipeline(tmp_path: Path) -> None:
    ddim().pipe.save_pretrained(tmp_path)
    pipe = tiny.silent(diffusers.DDIMPipeline.from_pretrained(tmp_path, local_files_only=True))
    folder, call = fewer.load(tmp_path), {"batch_size": 2}
    of_folder = replace(fewer.standard("ddim", folder, nfe=2), evidence={"paired_rmse": 0.1})
    of_pipe = replace(of_folder, model=Model.from_pipeline(pipe, call).signature)
    assert check_fit(folder, of_pipe) is None
    assert check_fit(Model.from_pipeline(pipe, call), of_folder) is None
    next(pipe.unet.parameters()).data.add_(1)  # as a LoRA does
    changed = Model.from_pipeline(pipe, call)
    assert "not for" in str(check_fit(changed, of_folder))
    assert "not for" in str(check_fit(folder, replace(of_folder, model=changed.signature)))


class OwnLoop(diffusers.DDPMPipeline):
    """Makes no call of its scheduler's step."""

    def __call__(self, batch_size: int = 1, generator: Any = None) -> Tensor:
        return torch.zeros(batch_size, 1, 8, 8)


class ThreeStates(diffusers.DDPMPipeline):
    """Copies its scheduler, to denoise three states at once."""

    def __call__(self, batch_size: int = 1) -> Any:
        return copy.deepcopy(self.scheduler), copy.deepcopy(self.scheduler)


def made(kind: Any = diffusers.DDPMPipeline, scheduler: Any = None) -> Any:
    return kind(plain.unet().eval(), scheduler or diffusers.DDPMScheduler(**plain.LINEAR))


def with_plan() -> Any:
    pipe = made()
    fewer.apply(
        fewer.standard("ddim", tiny.model_of(lambda x, t, labels: x, pipe.scheduler, (1, 8, 8), False), 4), pipe
    )
    return pipe


@pytest.mark.parametrize(
    ("make", "call", "said"),
    [
        (lambda: object(), {}, "object without a scheduler"),
        (lambda: made(OwnLoop), {}, "OwnLoop makes no call of its scheduler's step"),
        (lambda: made(ThreeStates), {}, "copies its scheduler"),
        (with_plan, {}, "fewer.unapply"),
        (made, {"prompt": "a cat"}, "DDPMPipeline has no argument 'prompt'"),
        (made, {"num_inference_step": 5}, "the nearest are num_inference_steps"),
        (made, ["a cat"], "expected the arguments of the pipeline's call"),
        (lambda: made(scheduler=diffusers.KarrasVeScheduler()), {}, "KarrasVeScheduler has no beta_schedule"),
    ],
)  # fmt: skip
def test_what_has_no_loop_to_cut_is_refused_by_name(make: Any, call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        Model.from_pipeline(make(), call)
    assert "\n" not in str(refused.value)
    assert not threads()


def test_it_runs_where_the_pipeline_is() -> None:
    case = ddim()
    model = Model.from_pipeline(case.pipe, call_of(case))
    assert model.to("cpu").network is model.network
    with pytest.raises(InputError, match=r"pipe\.to"):
        model.to(dtype=torch.bfloat16)


def test_networks_beside_the_network_and_their_images_belong_to_the_loop() -> None:
    case = tiny.stable_diffusion()
    unet, call = case.pipe.unet, call_of(case, guidance_scale=SCALE)
    beside = tiny.seeded(diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8)))
    parts = case.pipe.components | {"controlnet": beside}
    pipe = tiny.silent(diffusers.StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False))
    images, texts = torch.rand(2, 3, 16, 16), (call["prompt_embeds"], call["negative_prompt_embeds"])
    model = Model.from_pipeline(pipe, call | {"image": images, "height": 16, "width": 16})
    x, t = tiny.drawn(2, *model.shape), 41.5

    def output(text: Tensor) -> Tensor:
        down, middle = beside(x, torch.tensor(t), text, images, 1.0, return_dict=False)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return unet(x, torch.tensor(t), text, **more, return_dict=False)[0]

    with torch.inference_mode():
        label, empty = map(output, texts)
    assert same(model(x, t, torch.tensor([0, 1])), empty + SCALE * (label - empty))


@pytest.mark.parametrize("name", [*text_folders.MADE, "flux"])
@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_it_agrees_with_the_model_of_the_pipelines_folder(name: str, scale: float, tmp_path: Path) -> None:
    folder = text_folders.flux(tmp_path) if name == "flux" else text_folders.written(name, tmp_path)
    pipe = tiny.silent(diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True))
    texts = ["a red fox", "no fox"]
    loaded = fewer.load(folder, prompts=texts)
    if name == "flux":
        loaded = loaded.with_guidance(scale)
    size = {"height": 16, "width": 16} | ({"use_resolution_binning": False} if name.startswith("pixart") else {})
    model = Model.from_pipeline(pipe, {"prompt": texts, "guidance_scale": scale} | size)
    assert (model.prompts, model.schedule, model.predicts) == (loaded.prompts, loaded.schedule, loaded.predicts)
    x, labels = tiny.drawn(3, *loaded.shape), torch.tensor([0, 1, 1])
    alone = loaded(x, 41.5, labels)
    if name != "flux" and scale != 1:
        empty = loaded(x, 41.5, torch.full((3,), loaded.empty_label))
        alone = empty + scale * (alone - empty)
    if name == "flux":
        assert same(model(packed(x), 41.5, labels), packed(alone))
    else:
        assert same(model(x, 41.5, labels), alone)


def test_a_function_that_returns_a_pipeline_and_its_call_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cut_pipelines.py").write_text(
        "import diffusers, pipelines\n"
        "def pixels():\n"
        "    return diffusers.DDPMPipeline(pipelines.unet(), diffusers.DDPMScheduler()), {'batch_size': 2}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = fewer.load("cut_pipelines:pixels")
    assert (model.name, model.shape, model.classes) == ("DDPMPipeline", (1, 8, 8), None)
