"""Models of whole pipelines: a pipeline's loop, cut where it calls its scheduler's `step`."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from cut_calls import SCALE, call_of, ddim, ddpm, direct, guided_flux, same, threads
from torch import Tensor

import fewer
from fewer.models.model import Model

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


def test_states_that_are_no_numbers_are_asked_for_like_others() -> None:
    case = ddim()
    model = Model.from_pipeline(case.pipe, call_of(case))
    for _ in range(2):
        assert bool(model(torch.full((2, 1, 8, 8), float("nan")), 100.0, None).isnan().all())


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
