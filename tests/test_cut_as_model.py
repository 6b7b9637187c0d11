"""Models of whole pipelines as all others: measured, tuned, priced, moved, and known by their folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import text_folders
import tiny_pipelines as tiny
import torch
from cut_calls import SCALE, call_of, ddim, made, same
from torch import Tensor

import fewer
from fewer.engine import check_fit
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.integrations.as_it_is import as_it_is
from fewer.models.model import Model
from fewer.models.pipelines.flux import packed


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


def test_it_runs_where_the_pipeline_is() -> None:
    case = ddim()
    model = Model.from_pipeline(case.pipe, call_of(case))
    assert model.to("cpu").network is model.network
    with pytest.raises(InputError, match=r"pipe\.to"):
        model.to(dtype=torch.bfloat16)


@pytest.mark.parametrize("name", [*text_folders.MADE, "flux"])
def test_it_agrees_with_the_model_of_the_pipelines_folder(name: str, tmp_path: Path) -> None:
    folder = text_folders.flux(tmp_path) if name == "flux" else text_folders.written(name, tmp_path)
    pipe = tiny.silent(diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True))
    texts = ["a red fox", "no fox"]
    of_folder = fewer.load(folder, prompts=texts)
    size = {"height": 16, "width": 16} | ({"use_resolution_binning": False} if name.startswith("pixart") else {})
    x, labels = tiny.drawn(3, *of_folder.shape), torch.tensor([0, 1, 1])
    for scale in (1.0, SCALE):
        loaded = of_folder.with_guidance(scale) if name == "flux" else of_folder
        model = Model.from_pipeline(pipe, {"prompt": texts, "guidance_scale": scale} | size)
        assert (model.prompts, model.schedule, model.predicts) == (loaded.prompts, loaded.schedule, loaded.predicts)
        alone = loaded(x, 41.5, labels)
        if name == "flux":
            assert same(model(packed(x), 41.5, labels), packed(alone))
            continue
        if scale != 1:
            empty = loaded(x, 41.5, torch.full((3,), loaded.empty_label))
            alone = empty + scale * (alone - empty)
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
