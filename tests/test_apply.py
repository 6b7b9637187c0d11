"""Plans in diffusers pipelines, tiny and with random weights: they give what fewer.sample gives, and are left as they were."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pipelines as plain
import pytest
import tiny_pipelines as tiny
import torch
from tiny_pipelines import Case
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.pass_weights import PassWeights
from fewer.guidance.rule import Rule
from fewer.integrations.scheduler import FewerScheduler
from fewer.plan import Plan, Shortcut

DDIM = {"clip_sample": False, **plain.LINEAR}
WITHOUT_TEXT: dict[str, Callable[[], Case]] = {
    "ddpm": lambda: tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**DDIM)),
    "ddim": lambda: tiny.unconditional("DDIMPipeline", diffusers.DDIMScheduler(**DDIM)),
    "ddim clips": lambda: tiny.unconditional("DDIMPipeline", diffusers.DDIMScheduler(**plain.LINEAR)),
    "dit": tiny.dit,
}
WITH_TEXT: dict[str, Callable[[], Case]] = {
    "stable diffusion": tiny.stable_diffusion,
    "stable diffusion xl": tiny.stable_diffusion_xl,
    "stable diffusion 3": tiny.stable_diffusion_3,
    "pixart": tiny.pixart,
    "ltx video": tiny.ltx,
    "animatediff": tiny.animatediff,
    "flux": tiny.flux,
    "flux, embedded guidance": lambda: tiny.flux(guidance_embeds=True),
}
GUIDED = ("dit", "stable diffusion", "stable diffusion xl", "stable diffusion 3", "pixart", "ltx video", "animatediff")
made: dict[str, Case] = {}


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Any:
    """A pipeline, built once; every test must leave it as it was."""
    name = request.param
    if name in WITH_TEXT:
        pytest.importorskip("transformers")
    if name not in made:
        made[name] = (WITHOUT_TEXT | WITH_TEXT)[name]()
    yield made[name]
    fewer.unapply(made[name].pipe)


every = pytest.mark.parametrize("case", [*WITHOUT_TEXT, *WITH_TEXT], indirect=True)
guiding = pytest.mark.parametrize("case", GUIDED, indirect=True)
text = pytest.mark.parametrize("case", ["stable diffusion"], indirect=True)
straight = pytest.mark.parametrize("case", ["stable diffusion 3"], indirect=True)


def gentle(model: fewer.Model, solver: str = "dpmpp-2m", nfe: int = 3, **more: Any) -> Plan:
    """From a level where a random network's noise prediction is not blown up."""
    return fewer.standard(solver, model, nfe, "uniform", start=0.6, **more)


def ours(case: Case, plan: Plan, **more: Any) -> Tensor:
    told = {} if case.model.classes is None else {"labels": 0}
    return fewer.sample(case.model, plan, noise=case.noise, **told, **more)


def images(case: Case, sample: Tensor) -> Tensor:
    """What a pipeline returns of a sample: pixels are clamped to an image's range."""
    return sample.clamp(-1, 1) if case.noise.shape[1:] == (1, 8, 8) else sample


def assert_same(pipeline: Tensor, sample: Tensor) -> None:
    """To rounding in float32."""
    torch.testing.assert_close(pipeline.reshape(sample.shape), sample, atol=1e-5, rtol=1e-5)


@every
def test_pipelines_give_what_sample_gives(case: Case) -> None:
    for solver in ("unipc", "heun"):
        plan = gentle(case.model, solver, 3)
        fewer.apply(plan, case.pipe)
        assert_same(case.run(3), images(case, ours(case, plan)))


@guiding
def test_guidance_per_row(case: Case) -> None:
    plan = gentle(case.model)
    scales = (5.0, 1.0, 2.0)
    rows = [replace(row, guidance=ClassifierFree(s)) for row, s in zip(plan.rows, scales, strict=True)]
    plan = replace(plan, rows=tuple(rows))
    seen: list[int] = []
    network = getattr(case.pipe, "transformer", None) or case.pipe.unet
    fewer.apply(plan, case.pipe)
    found = {}
    with network.register_forward_hook(lambda _, args, kwargs, out: seen.append(batch(args, kwargs)), with_kwargs=True):
        for scale in (7.5, 2.0):
            found[scale] = case.run(3, guidance_scale=scale)
    assert seen == [4, 2, 4] * 2  # a row of one pass costs one
    assert torch.equal(found[7.5], found[2.0])  # the pipeline's own scale is not used
    assert_same(found[7.5], ours(case, plan))
    assert not torch.allclose(found[7.5], ours(case, gentle(case.model)), atol=1e-3)


def batch(args: Any, kwargs: Any) -> int:
    return len(args[0] if args else kwargs["hidden_states"])


def projected(row: int) -> ProjectedGuidance:
    return ProjectedGuidance(4.0, parallel=0.2, norm=1.0, momentum=-0.5)


def weighed(row: int) -> PassWeights:
    """Both passes in the first row and the last, which weighs those of earlier rows, too."""
    return [
        PassWeights((3.0,), (-2.0,)),
        PassWeights((1.2, 0.3), (0.0, -0.5)),
        PassWeights((2.0, 0.4), (-1.0, 0.0, -0.4)),
    ][row]


@text
@pytest.mark.parametrize("rule", [projected, weighed])
def test_rules_that_remember(case: Case, rule: Callable[[int], Rule]) -> None:
    plan = gentle(case.model)
    plan = replace(plan, rows=tuple(replace(row, guidance=rule(n)) for n, row in enumerate(plan.rows)))
    fewer.apply(plan, case.pipe)
    assert_same(case.run(3, guidance_scale=2.0), ours(case, plan))


@text
def test_a_pipeline_guides_as_it_does_under_a_plan_that_does_not(case: Case) -> None:
    constant = gentle(case.model, nfe=6, guidance=3.0)
    fewer.apply(gentle(case.model), case.pipe)
    assert_same(case.run(3, guidance_scale=3.0), ours(case, constant))


@pytest.mark.parametrize("case", ["stable diffusion", "stable diffusion 3", "dit"], indirect=True)
def test_guidance_in_a_pipeline_that_does_not_guide(case: Case) -> None:
    fewer.apply(gentle(case.model, nfe=6, guidance=3.0), case.pipe)
    with pytest.raises(InputError, match=r"makes one pass there, with guidance_scale=1\.0"):
        case.run(3, guidance_scale=1.0)


@text
def test_equal_noises_are_no_guidance(case: Case) -> None:
    """Two equal samples look like the two passes of one."""
    fewer.apply(gentle(case.model, nfe=6, guidance=3.0), case.pipe)
    with pytest.raises(InputError, match=r"makes one pass there, with guidance_scale=1\.0"):
        case.run(3, guidance_scale=1.0, latents=case.noise[:1].repeat(2, 1, 1, 1))


@pytest.mark.parametrize("case", ["flux, embedded guidance"], indirect=True)
def test_embedded_guidance_is_one_pass(case: Case) -> None:
    """The network takes the scale as an input: no second pass is made, and the message does not ask for what was given."""
    fewer.apply(gentle(case.model, nfe=6, guidance=3.0), case.pipe)
    with pytest.raises(
        InputError,
        match=r"makes one pass there, with true_cfg_scale=1\.0 and guidance_scale=3\.5: .* a negative prompt",
    ):
        case.run(3, guidance_scale=3.5)


@every
def test_blocks(case: Case) -> None:
    network = getattr(case.pipe, "transformer", None) or case.pipe.unet
    name = "up.0.resnet.0" if hasattr(case.pipe, "unet") else "block.0"
    plan = gentle(case.model)
    rows = [*plan.rows[:1], *(replace(row, blocks={name: Shortcut({0: 0.5})}) for row in plan.rows[1:])]
    short = replace(plan, rows=tuple(rows))
    model = replace(case, model=replace(case.model, network=Network(network, case.model.network)))
    expected = ours(model, short)
    fewer.apply(short, case.pipe)
    for _ in range(2):  # nothing is left of the run before
        assert_same(case.run(3), images(case, expected))
    assert not torch.allclose(expected, ours(case, plan), atol=1e-4)


@text
def test_blocks_with_guidance(case: Case) -> None:
    plan = gentle(case.model, nfe=6, guidance=3.0)
    shortcut = {"mid": Shortcut({0: 1.0})}
    rows = (plan.rows[0], replace(plan.rows[1], blocks=shortcut, guidance=ClassifierFree(1.0)), *plan.rows[2:])
    rows = (*rows[:2], replace(rows[2], blocks=shortcut))
    plan = replace(plan, rows=rows)
    model = replace(case.model, network=Network(case.pipe.unet, case.model.network))
    expected = fewer.sample(model, plan, noise=case.noise, labels=0)
    fewer.apply(plan, case.pipe)
    assert_same(case.run(3, guidance_scale=2.0), expected)


@text
def test_blocks_that_are_not_there(case: Case) -> None:
    plan = gentle(case.model)
    rows = (plan.rows[0], replace(plan.rows[1], blocks={"block.7": Shortcut({0: 1.0})}), *plan.rows[2:])
    with pytest.raises(InputError, match=r"names block 'block\.7', which UNet2DConditionModel has not"):
        fewer.apply(replace(plan, rows=rows), case.pipe)


class Network:
    """A function around a module, which tells it."""

    def __init__(self, module: Any, call: Any) -> None:
        self.module, self.call = module, call

    def __call__(self, x: Tensor, t: Tensor, labels: Any) -> Tensor:
        return self.call(x, t, labels)


@every
def test_unapply_restores(case: Case) -> None:
    pipe = case.pipe
    network = getattr(pipe, "transformer", None) or pipe.unet
    case.run(4)  # which leaves things of diffusers' own
    before = [(module, dict(vars(module))) for module in network.modules()]
    scheduler, own = pipe.scheduler, dict(vars(pipe))
    name = "up.0" if hasattr(pipe, "unet") else "block.0"
    plan = gentle(case.model)
    rows = (plan.rows[0], replace(plan.rows[1], blocks={name: Shortcut({0: 1.0})}), *plan.rows[2:])
    plan = replace(plan, rows=rows)
    for run in (False, True):
        for _ in range(2):  # a plan that is there already is taken off first
            fewer.apply(plan, pipe)
        if run:
            case.run(3)
        fewer.unapply(pipe)
        fewer.unapply(pipe)
        assert pipe.scheduler is scheduler
        assert dict(pipe.config) == dict(own["_internal_dict"])
        assert run or vars(pipe) == own  # a run leaves in the pipeline what it was called with
        for module, was in before:
            now = vars(module)
            assert now.keys() == was.keys()
            assert all(now[key] is was[key] or now[key] == was[key] for key in was)


@text
def test_failed_runs_leave_nothing(case: Case) -> None:
    fewer.apply(gentle(case.model, nfe=6, guidance=3.0), case.pipe)
    expected = case.run(3, guidance_scale=2.0)

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.run(3, guidance_scale=2.0, callback_on_step_end=stop)
    assert torch.equal(case.run(3, guidance_scale=2.0), expected)
    assert case.pipe.unet(case.noise, 5, torch.zeros(2, 3, 8)).sample.shape == case.noise.shape


@text
def test_a_scheduler_for_each_request(case: Case) -> None:
    """As servers do: pipelines that share the parts, each with a scheduler of its own, take turns."""
    plan = gentle(case.model, nfe=6, guidance=3.0)
    fewer.apply(plan, case.pipe)
    expected = case.run(3, guidance_scale=2.0)
    parts = dict(case.pipe.components)
    other = FewerScheduler.from_config(case.pipe.scheduler.config)
    theirs = diffusers.StableDiffusionPipeline(**parts | {"scheduler": other}, requires_safety_checker=False)
    mine, case.pipe.scheduler = case.pipe.scheduler, copy.deepcopy(case.pipe.scheduler)
    nested: list[Tensor] = []

    def in_between(pipe: Any, i: int, t: Any, kwargs: Any) -> dict[str, Any]:
        if i == 1:
            case.pipe.scheduler, kept = other, case.pipe.scheduler
            nested.append(case.run(3, guidance_scale=4.0))
            case.pipe.scheduler = kept
        return {}

    assert torch.equal(case.run(3, guidance_scale=2.0, callback_on_step_end=in_between), expected)
    assert torch.equal(nested[0], expected)
    assert theirs.scheduler is other
    case.pipe.scheduler = mine


@text
def test_image_to_image(case: Case) -> None:
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**case.pipe.components, requires_safety_checker=False)
    data = tiny.drawn(2, 4, 8, 8, seed=5)
    for solver, nfe in (("dpmpp-2m", 4), ("heun", 8)):
        plan = gentle(case.model, solver, nfe, guidance=None)
        fewer.apply(plan, pipe)
        embeds = {"prompt_embeds": torch.zeros(2, 3, 8), "guidance_scale": 1.0}
        model = replace(case.model, network=lambda x, t, _: pipe.unet(x, t, torch.zeros(len(x), 3, 8)).sample)
        for strength in (1.0, 0.5):
            given = {"strength": strength, "output_type": "latent", "generator": torch.Generator().manual_seed(1)}
            pipe.set_progress_bar_config(disable=True)
            found = pipe(image=data, num_inference_steps=nfe, **embeds, **given).images
            level = float(plan.rows[round(nfe * (1 - strength))].tau)
            expected = fewer.sample(model, plan, noise=case.noise, labels=0, init=data, strength=level)
            assert_same(found, expected)
        fewer.unapply(pipe)


@straight
def test_image_to_image_of_flows(case: Case) -> None:
    parts = {
        name: part for name, part in case.pipe.components.items() if name not in ("image_encoder", "feature_extractor")
    }
    pipe = tiny.silent(diffusers.StableDiffusion3Img2ImgPipeline(**parts))
    data = tiny.drawn(2, 4, 8, 8, seed=5)
    plan = gentle(case.model, "dpmpp-2m", 4)
    fewer.apply(plan, pipe)
    embeds = {"prompt_embeds": torch.zeros(2, 3, 8), "pooled_prompt_embeds": torch.zeros(2, 8), "guidance_scale": 1.0}
    given = {"strength": 0.5, "output_type": "latent", "generator": torch.Generator().manual_seed(1)}
    found = pipe(image=data, num_inference_steps=4, height=16, width=16, **embeds, **given).images

    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        return pipe.transformer(x, torch.zeros(len(x), 3, 8), torch.zeros(len(x), 8), t, return_dict=False)[0]

    model = replace(case.model, network=network)
    expected = fewer.sample(model, plan, noise=case.noise, labels=0, init=data, strength=float(plan.rows[2].tau))
    fewer.unapply(pipe)
    assert_same(found, expected)


@text
def test_inpainting_keeps_what_the_mask_keeps(case: Case) -> None:
    pipe = tiny.silent(diffusers.StableDiffusionInpaintPipeline(**case.pipe.components, requires_safety_checker=False))
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    given = {"image": tiny.drawn(1, 3, 16, 16, seed=5).clamp(0, 1), "mask_image": mask, "output_type": "latent"}
    embeds = {"prompt_embeds": torch.zeros(1, 3, 8), "guidance_scale": 1.0, "height": 16, "width": 16}
    found = []
    for solver in ("unipc", "ddim"):
        fewer.apply(gentle(case.model, solver), pipe)
        generator = torch.Generator().manual_seed(1)
        found.append(pipe(num_inference_steps=3, generator=generator, **embeds, **given).images)
    fewer.unapply(pipe)
    assert torch.allclose(found[0][..., :4], found[1][..., :4], atol=1e-5)
    assert not torch.allclose(found[0][..., 4:], found[1][..., 4:], atol=1e-3)


@text
def test_other_numbers_of_steps_are_refused(case: Case) -> None:
    fewer.apply(gentle(case.model), case.pipe)
    with pytest.raises(ValueError, match=r"num_inference_steps is 50; plan .* has 3 rows: give num_inference_steps=3"):
        case.run(50)


@pytest.mark.parametrize("case", ["flux"], indirect=True)
def test_other_numbers_of_sigmas_are_refused(case: Case) -> None:
    fewer.apply(gentle(case.model), case.pipe)
    with pytest.raises(ValueError, match="give num_inference_steps=3"):
        case.run(28)


@text
def test_half_precision(case: Case) -> None:
    """The state is float32: a bfloat16 pipeline differs from the float32 engine around its network by the network alone."""
    pipe = copy.deepcopy(case.pipe).to(torch.bfloat16)
    plan = gentle(case.model, nfe=6)
    fewer.apply(plan, pipe)
    embeds = {"prompt_embeds": torch.zeros(2, 3, 8, dtype=torch.bfloat16), "guidance_scale": 1.0}
    noise = case.noise.bfloat16()
    found = pipe(latents=noise, num_inference_steps=6, output_type="latent", **embeds).images

    def network(x: Tensor, t: Tensor, labels: Any) -> Tensor:
        return pipe.unet(x, t, torch.zeros(len(x), 3, 8, dtype=torch.bfloat16)).sample

    model = replace(case.model, network=network, dtype=torch.bfloat16)
    expected = fewer.sample(model, plan, noise=noise.float(), labels=0)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())


def test_plans_for_other_models(tmp_path: Path) -> None:
    network = plain.unet()
    folder = tmp_path / "mine"
    diffusers.DDPMPipeline(network, diffusers.DDPMScheduler(**DDIM)).save_pretrained(folder)
    pipe = diffusers.DDPMPipeline.from_pretrained(folder)
    model = fewer.load(str(folder))
    plan = replace(gentle(model), model={"name": model.name, "hash": model.hash})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fewer.apply(plan, pipe)
        fewer.apply(plan, pipe, model)
        fewer.apply(replace(plan, model=None), pipe)
        fewer.apply(plan, type(pipe)(**pipe.components))  # as a server has it, one a thread
    other = replace(plan, model={"name": "theirs", "hash": "0"})
    for given in (None, model):
        with pytest.warns(UserWarning, match="made for theirs, not for") as told:
            fewer.apply(other, pipe, given)
        assert len(told) == 1


def test_what_is_no_pipeline() -> None:
    case = WITHOUT_TEXT["ddpm"]()
    with pytest.raises(InputError, match="pipe is a UNet2DModel without a scheduler"):
        fewer.apply(gentle(case.model), case.pipe.unet)
    fewer.unapply(case.pipe)  # nothing was applied


def test_saved_pipelines_keep_the_plan(tmp_path: Path) -> None:
    case = WITHOUT_TEXT["ddpm"]()
    plan = gentle(case.model)
    fewer.apply(plan, case.pipe)
    case.pipe.save_pretrained(tmp_path)
    again = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    assert isinstance(again.scheduler, FewerScheduler)
    assert again.scheduler.plan == plan
