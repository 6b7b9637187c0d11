"""Negative prompts, and what a search over prompts is resumed with: the same texts, encoded by the same encoders."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

import diffusers
import text_folders
from safetensors.torch import load_file, save_file

import fewer
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.images import DECODED, at_once
from fewer.models import bundled
from fewer.search.study import Study

TEXTS = ["a fox", "two owls"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("text")
    return {name: text_folders.written(name, made / name.replace(" ", "-")) for name in text_folders.MADE}


def latents_of(pipe: Any, noise: Tensor, negative: str | None) -> Tensor:
    """What the pipeline makes of TEXTS from this noise, in three guided rows."""
    more: dict[str, Any] = {} if negative is None else {"negative_prompt": [negative] * 2}
    if type(pipe).__name__.startswith("PixArt"):
        more = {"negative_prompt": negative or "", "use_resolution_binning": False}
    return pipe(TEXTS, latents=noise, num_inference_steps=3, guidance_scale=3.0, output_type="latent", **more).images


@pytest.mark.parametrize("name", text_folders.SOME)
def test_the_empty_label_is_the_negative_prompt(name: str, folders: dict[str, Path]) -> None:
    """A plan gives in the pipeline, called with that text, what sample gives; another text, or none, gives something else."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folders[name], local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    made = []
    for negative in (None, "", "red"):
        model = fewer.load(folders[name], prompts=TEXTS, negative_prompt=negative)
        assert model.negative_prompt == negative
        noise = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
        plan = fewer.standard("ddim", model, 6, "uniform", start=0.6, guidance=3.0)
        fewer.apply(plan, pipe, model)
        made.append(fewer.sample(model, plan, noise=noise, labels=[0, 1]))
        torch.testing.assert_close(latents_of(pipe, noise, negative), made[-1], atol=1e-4, rtol=1e-4)
        fewer.unapply(pipe)
    untold, empty, red = made
    assert not torch.allclose(red, empty, atol=1e-3)
    assert torch.allclose(untold, empty, atol=1e-5) == (name != "stable diffusion xl")  # which takes zeros untold


def test_what_is_no_negative_prompt(folders: dict[str, Path]) -> None:
    for folder, told, says in (
        (folders["stable diffusion"], 3, "negative prompt is 3; expected a text"),
        (folders["stable diffusion"], ["red"], "expected a text"),
        (folders["stable diffusion"], "a\0b", "holds characters that are no text"),
        (folders["stable diffusion"], "a" * 6000, "has 6000 characters"),
        (folders["stable diffusion"], "ab" * 10, "negative prompt, 'abab.*', has 22 tokens .* takes 12"),
        ("digits", "red", "takes no text"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            fewer.load(folder, prompts=TEXTS if folder != "digits" else None, negative_prompt=told)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_only_guidance_heeds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line it is refused where nothing guides; a guided plan file does."""
    model, out = fewer.load("words-digits"), tmp_path / "out"
    plain, guided = (
        str(fewer.standard("ddim", model, 2, "logsnr", guidance=scale).save(tmp_path / f"{scale}.json"))
        for scale in (None, 3.0)
    )
    sample = ["sample", "words-digits", "--prompt", "three", "-n1", "--out", str(out), "--negative-prompt"]
    for command in (
        [*sample, "two"],
        [*sample, "two", "--plan", plain],
        ["tune", "words-digits", "--nfe", "3", "--negative-prompt", "two", "--out", str(out)],
        ["compare", "words-digits", "--nfe", "3", "--negative-prompt", "two"],
    ):
        assert run(command) == 2
        assert capsys.readouterr().err.endswith("and nothing guides: give --guidance too\n")
    assert not out.exists()
    made = []
    for text in ("two", "nine"):
        assert run([*sample, text, "--plan", guided]) == 0
        made.append((out / "00000.png").read_bytes())
    assert made[0] != made[1]


def other_encoder(folder: Path) -> None:
    """Change the text encoder of a folder, and nothing else."""
    weights = folder / "text_encoder" / "model.safetensors"
    save_file({name: 1.1 * each for name, each in load_file(weights).items()}, weights, {"format": "pt"})


def test_a_study_is_of_its_texts_and_encoders(folders: dict[str, Path], tmp_path: Path) -> None:
    """The model's hash, by which a plan is known, is of none of them."""
    folder = Path(shutil.copytree(folders["stable diffusion xl"], tmp_path / "mine"))
    first, same, texts, negative = (
        fewer.load(folder, prompts=prompts, negative_prompt=told)
        for prompts, told in ((TEXTS, "red"), (TEXTS, "red"), (TEXTS[:1], "red"), (TEXTS, None))
    )
    other_encoder(folder)
    encoder = fewer.load(folder, prompts=TEXTS, negative_prompt="red")
    assert first.conditions == same.conditions
    Study("nfe-4", tmp_path / "study.db", first.conditions)
    for model, changed in ((texts, "prompts"), (negative, "negative_prompt"), (encoder, "text_encoders")):
        assert model.hash == first.hash
        with pytest.raises(InputError, match=f"it was searched with another {changed}$"):
            Study("nfe-4", tmp_path / "study.db", model.conditions, resume=True)
    Study("nfe-4", tmp_path / "study.db", same.conditions, resume=True)
    assert fewer.load("digits").conditions == {}


@pytest.mark.slow
def test_a_search_goes_on_with_the_same_texts_and_encoders_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan plays with any."""
    monkeypatch.setattr(sys.modules["fewer.search.tune"], "enough_noises", lambda *_: 16)  # a short search
    folder = Path(shutil.copytree(bundled.folder("words-digits"), tmp_path / "mine"))
    searched = f"tune {folder} --nfe 4 --guidance 2 --trials 1 --negative-prompt nine --out {tmp_path / 'out'}".split()
    assert run(searched) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["model"]["negative_prompt"] == "nine"
    capsys.readouterr()
    assert run([*searched, "--resume"]) == 0
    other = ["six" if word == "nine" else word for word in searched]
    capsys.readouterr()
    assert run([*other, "--resume"]) == 2
    assert "it was searched with another negative_prompt" in capsys.readouterr().err
    other_encoder(folder)
    assert run([*searched, "--resume"]) == 2
    assert "it was searched with another text_encoders" in capsys.readouterr().err
    play = ["sample", str(folder), "--plan", str(tmp_path / "out" / "plan.json"), "-n1"]
    assert run([*play, "--prompt", "six", "--out", str(tmp_path / "images")]) == 0


def test_few_large_latents_are_decoded_at_once() -> None:
    """Those of one image of 1024x1024 pixels; of small ones 16."""
    for side, count in ((4, DECODED), (32, DECODED), (64, 4), (128, 1), (512, 1)):
        assert at_once(torch.empty(100, 4, side, side, device="meta")) == count
