"""Flux folders: packed latents, a guidance scale that is an input, levels shifted by the resolution."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("transformers")

import diffusers
import text_folders
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from pipelines import rewrite

import fewer
from fewer.audit import Case, audit
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.integrations.as_it_is import as_it_is, ignored_guidance
from fewer.models.pipelines.defaults import dynamic_shift
from fewer.models.pipelines.flux import packed, token_positions, unpacked
from fewer.models.pipelines.names import own_grid, own_solver
from fewer.noise import unit_noise
from fewer.search.strategies.joint import names_of

TEXTS = ["a fox", "two owls", "blue"]
KINDS = {
    "dev": {"use_dynamic_shifting": True},
    "schnell": {"use_dynamic_shifting": False, "shift": 1.0},
    "linear": {"use_dynamic_shifting": True, "time_shift_type": "linear", "base_shift": 2.0},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("flux")
    return {name: text_folders.flux(made / name, name != "schnell", **levels) for name, levels in KINDS.items()}


def opened(folder: Path) -> Any:
    pipe = diffusers.FluxPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents_of(pipe: Any, prompts: list[str], noise: Tensor, **more: Any) -> Tensor:
    """What the pipeline makes of these prompts from this noise (n, C, H, W)."""
    size = {"height": 16, "width": 16, "output_type": "latent"}
    found = pipe(prompts, latents=pipe._pack_latents(noise, *noise.shape), **size, **more).images
    return pipe._unpack_latents(found, 16, 16, pipe.vae_scale_factor)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_latents_are_packed_as_the_pipeline_packs_them(n: int, c: int, height: int, width: int) -> None:
    x, pipe = torch.randn(n, c, 2 * height, 2 * width), diffusers.FluxPipeline
    assert torch.equal(packed(x), pipe._pack_latents(x, *x.shape))
    assert torch.equal(unpacked(packed(x), height, width), x)
    theirs = pipe._prepare_latent_image_ids(n, height, width, "cpu", torch.float32)
    assert torch.equal(token_positions(height, width).float(), theirs)


@settings(max_examples=50)
@given(st.integers(1, 10**5), st.floats(0, 2), st.floats(0, 2))
def test_levels_are_shifted_by_the_resolution(tokens: int, low: float, high: float) -> None:
    """As diffusers' own formula has it, which its base values give back."""
    config = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": low, "max_shift": high}
    shift = dynamic_shift("FluxPipeline", config, tokens)
    assert shift is not None
    assert shift.mu == pytest.approx(calculate_shift(tokens, 256, 4096, low, high), abs=1e-9)
    ends = [dynamic_shift("FluxPipeline", config, n) for n in (256, 4096)]
    assert [end.mu for end in ends if end] == pytest.approx([low, high])
    assert dynamic_shift("StableDiffusion3Pipeline", {"use_dynamic_shifting": False}, tokens) is None
    assert dynamic_shift("StableDiffusionPipeline", {"use_dynamic_shifting": True}, tokens) is None


@pytest.mark.parametrize("name", KINDS)
def test_the_pipeline_as_it_is(name: str, folders: dict[str, Path]) -> None:
    """Its own levels and its own guidance, at another number of steps than its own and, of one, at that too, from equal noise."""
    model, pipe = fewer.load(folders[name], prompts=TEXTS), opened(folders[name])
    assert (model.shape, model.classes, model.empty_label) == ((4, 8, 8), 3, None)
    noise, labels = unit_noise(0, range(3), model.shape), torch.tensor([2, 0, 1])
    for nfe in (None, 5) if name == "dev" else (5,):
        own = as_it_is(model, nfe)
        assert own is not None
        assert own.steps == (nfe or 28)
        asked, some = ({}, 1) if nfe is None else ({"num_inference_steps": nfe}, 3)
        found = latents_of(pipe, [TEXTS[k] for k in labels[:some]], noise[:some], **asked)
        torch.testing.assert_close(
            own.samples(model, noise[:some], labels[:some], 0, None), found, atol=1e-4, rtol=1e-4
        )
        read = Case.of_pipeline(model, own.steps)  # what is audited
        assert [float(row.tau) for row in read.plan.rows] == pipe.scheduler.sigmas[:-1].tolist()
        audit(read)
    one, another = (
        fewer.sample(model, fewer.standard("ddim", model, 3, "uniform"), noise=noise, labels=k) for k in (0, 2)
    )
    assert not torch.allclose(one, another, atol=1e-3)  # the prompt matters
    assert names_of(model)  # blocks that plans may leave out


@pytest.mark.parametrize(("name", "scale"), [("dev", 3.5), ("dev", 6.0), ("schnell", 3.5)])
def test_plans_give_in_the_pipeline_what_sample_gives(name: str, scale: float, folders: dict[str, Path]) -> None:
    """With the scale that its network is told, where it takes one."""
    model, pipe = fewer.load(folders[name], prompts=TEXTS), opened(folders[name])
    told = model.with_guidance(scale) if name == "dev" else model
    noise, labels = unit_noise(1, range(2), model.shape), [1, 2]
    for plan in (fewer.standard("dpmpp-2m", model, 4, "uniform", start=0.9), fewer.standard("ddim", model, 3, "shift")):
        fewer.apply(plan, pipe, model)
        found = latents_of(pipe, TEXTS[1:], noise, num_inference_steps=len(plan.rows), guidance_scale=scale)
        expected = fewer.sample(told, plan, noise=noise, labels=labels)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        untold = fewer.sample(model, plan, noise=noise, labels=labels)
        assert torch.allclose(untold, expected, atol=1e-3) == (scale == 3.5)
        fewer.unapply(pipe)


def test_pictures_are_the_pipelines(folders: dict[str, Path]) -> None:
    """Decoded by its VAE; untold, of the size that the pipeline makes."""
    model, pipe = fewer.load(folders["dev"], prompts=TEXTS), opened(folders["dev"])
    noise = unit_noise(0, range(1), model.shape)
    plan = fewer.standard("euler", model, 2, "uniform")
    fewer.apply(plan, pipe, model)
    size = {"height": 16, "width": 16, "num_inference_steps": 2, "output_type": "pt"}
    found = pipe(TEXTS[:1], latents=packed(noise), **size).images
    assert model.decode is not None
    there = model.decode(fewer.sample(model, plan, noise=noise, labels=0)).clamp(-1, 1)
    torch.testing.assert_close(2 * found - 1, there, atol=1e-4, rtol=1e-4)
    (folders["dev"] / "fewer.json").rename(folders["dev"] / "kept")
    assert fewer.load(folders["dev"], prompts=["a"]).shape == (4, 128, 128)
    (folders["dev"] / "kept").rename(folders["dev"] / "fewer.json")


def test_its_guidance_is_told(folders: dict[str, Path]) -> None:
    """The pipeline's own scale where none is given, which is said; second passes there are none."""
    model, plain = (fewer.load(folders[name], prompts=TEXTS) for name in ("dev", "schnell"))
    assert model.embedded_guidance == 3.5
    assert model.with_guidance(5).embedded_guidance == 5
    assert model.describe()["embedded_guidance"] == 3.5
    assert "is given guidance 3.5" in str(ignored_guidance(model, None))
    assert ignored_guidance(model.with_guidance(5), None) is None
    assert plain.embedded_guidance is None
    assert ignored_guidance(plain, None) is None
    for ask, says in (
        (lambda: fewer.standard("ddim", model, 4, "uniform", guidance=3.0), r"model.with_guidance\(3\)"),
        (lambda: fewer.tune(model, 4, guidance=3.0), r"model.with_guidance\(3\)"),
        (
            lambda: fewer.standard("ddim", plain, 4, "uniform", guidance=3.0),
            "needs a model with labels and an empty label",
        ),
        (lambda: plain.with_guidance(3.0), "takes no guidance scale as an input"),
        (lambda: model.with_guidance(float("nan")), "expected a finite scale"),
        (lambda: fewer.load(folders["dev"], prompts=TEXTS, negative_prompt="red"), "makes no second pass"),
    ):
        with pytest.raises(InputError, match=says):
            ask()


def test_its_steps_may_be_kept(folders: dict[str, Path]) -> None:
    """Where a grid has its levels: without a shift those of `trailing`; shifted ones have no name."""
    plain, shifted = (fewer.load(folders[name], prompts=TEXTS) for name in ("schnell", "dev"))
    own = as_it_is(plain, 5)
    assert own is not None
    assert own.plan is not None
    same = fewer.standard(own_solver(plain), plain, 5, own_grid(plain))
    assert [float(row.tau) for row in same.rows] == pytest.approx([float(row.tau) for row in own.plan.rows], abs=1e-6)
    assert own_solver(shifted) == "euler"
    for model in (shifted, replace(plain, pipeline=replace(plain.pipeline, config={"shift": 3.0}))):
        with pytest.raises(InputError, match="knows no grid of the shifted levels"):
            own_grid(model)


@pytest.mark.parametrize("told", [{"max_shift": 3.0}, {"time_shift_type": "linear"}])
def test_other_pipelines_shift_by_the_resolution_too(told: dict[str, Any], tmp_path: Path) -> None:
    """Stable Diffusion 3, whose tokens are as its network says, at levels that the scheduler makes."""
    folder = text_folders.written("stable diffusion 3", tmp_path / "mine")
    rewrite(folder / "scheduler" / "scheduler_config.json", use_dynamic_shifting=True, base_shift=2.0, **told)
    model, pipe = fewer.load(folder, prompts=TEXTS), diffusers.DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    noise, own = unit_noise(0, range(3), model.shape), as_it_is(model, 4)
    assert own is not None
    found = pipe(TEXTS, latents=noise, num_inference_steps=4, guidance_scale=1.0, output_type="latent").images
    torch.testing.assert_close(own.samples(model, noise, torch.arange(3), 0, None), found, atol=1e-4, rtol=1e-4)


def test_hostile_flux_folders(tmp_path: Path) -> None:
    folder = text_folders.flux(tmp_path / "mine")

    def refused(says: str) -> None:
        with pytest.raises(InputError, match=says) as told:
            fewer.load(folder, prompts=TEXTS)
        assert "\n" not in str(told.value)

    for size in (7, 0, -8, "8", True, 10**6, None):
        (folder / "fewer.json").write_text(json.dumps({"sample_size": size}))
        refused("sample_size")
    (folder / "fewer.json").unlink()
    rewrite(folder / "scheduler" / "scheduler_config.json", base_shift="a lot")
    refused("expected numbers")
    rewrite(folder / "scheduler" / "scheduler_config.json", base_shift=0.5, max_image_seq_len=256)
    refused("expected numbers")


def test_the_commands(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--guidance` is the network's input, also beside a plan, which is the same for any."""
    flux, out = str(folders["dev"]), tmp_path / "out"
    plan = fewer.standard("ddim", fewer.load(flux, prompts=TEXTS), 2, "uniform").save(tmp_path / "plan.json")
    draw = ["sample", flux, "--prompt", "fox", "-n1", "--out", str(out)]
    made = {}
    for more in ([], ["--guidance", "3.5"], ["--guidance", "9"]):
        assert run([*draw, "--plan", str(plan), *more]) == 0
        said = capsys.readouterr().err
        assert ("is given guidance 3.5" in said) == (more != ["--guidance", "9"])
        made[" ".join(more)] = (out / "00000.png").read_bytes()
    assert made[""] == made["--guidance 3.5"] != made["--guidance 9"]
    assert run(["inspect", flux, "--prompts", str(_file(tmp_path)), "--json", str(tmp_path / "facts.json")]) == 0
    assert json.loads((tmp_path / "facts.json").read_text())["embedded_guidance"] == 3.5
    capsys.readouterr()
    for words, says in (
        (["--negative-prompt", "red"], "nothing guides"),
        (["--negative-prompt", "red", "--guidance", "3"], "makes no second pass"),
    ):
        assert run([*draw, *words]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1


def _file(folder: Path) -> Path:
    path = folder / "prompts.txt"
    path.write_text("\n".join(TEXTS))
    return path
