"""Text-to-image folders: prompts as labels, latents and their images, and the trained pipeline of digits from words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused_commands import check_refused
from torch import Tensor

pytest.importorskip("transformers")

import diffusers
import text_folders
from pipelines import rewrite

import fewer
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.image_errors import ImageErrors
from fewer.images import at_once
from fewer.integrations.as_it_is import as_it_is, ignored_guidance
from fewer.models import bundled
from fewer.models.pipelines.prompts import LARGEST_FILE, MOST, check_prompts, read_prompts
from fewer.noise import unit_noise
from fewer.search.strategies.joint import names_of

TEXTS = ["a fox", "two owls", "blue"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pipelines' folders, each written once."""
    return {
        name: text_folders.written(name, tmp_path_factory.mktemp("text") / name.replace(" ", "-"))
        for name in text_folders.MADE
    }


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["stable diffusion"], tmp_path / "mine"))


@pytest.fixture(scope="module")
def digits() -> fewer.Model:
    return fewer.load("words-digits")


def opened(folder: Path) -> Any:
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents_of(pipe: Any, prompts: list[str], noise: Tensor, rows: int, **more: Any) -> Tensor:
    """What the pipeline makes of these prompts from this noise."""
    if type(pipe).__name__.startswith("PixArt"):
        more["use_resolution_binning"] = False  # which knows no pictures of 16 pixels
    return pipe(prompts, latents=noise, num_inference_steps=rows, output_type="latent", **more).images


@pytest.mark.parametrize("name", text_folders.SOME)
def test_plans_give_in_the_pipeline_what_sample_gives(name: str, folders: dict[str, Path]) -> None:
    """From equal noise, with prompts that the plan was made for and with others, guided and not."""
    model, other = (fewer.load(folders[name], prompts=texts) for texts in (TEXTS, ["no fox", "red"]))
    assert (model.classes, model.empty_label, model.prompts) == (3, 3, tuple(TEXTS))
    pipe, noise = opened(folders[name]), torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    for guidance, scale in ((3.0, 2.0), (None, 1.0)):
        plan = fewer.standard("dpmpp-2m", model, 6 if guidance else 3, "uniform", start=0.6, guidance=guidance)
        fewer.apply(plan, pipe, model)
        for used, labels in ((model, [2, 0]), (other, [0, 1])):
            expected = fewer.sample(used, plan, noise=noise, labels=labels)
            found = latents_of(pipe, [used.prompts[k] for k in labels], noise, 3, guidance_scale=scale)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        fewer.unapply(pipe)
    one, another = (fewer.sample(model, plan, noise=noise, labels=label) for label in (0, 2))
    assert not torch.allclose(one, another, atol=1e-3)  # the prompt matters
    assert names_of(model)  # blocks that plans may leave out


@pytest.mark.parametrize("name", text_folders.MADE)
def test_pictures_are_the_pipelines(name: str, folders: dict[str, Path]) -> None:
    """Decoded by its VAE, of the size that it makes untold."""
    model, pipe = fewer.load(folders[name], prompts=TEXTS), opened(folders[name])
    latents = unit_noise(0, range(2), model.shape)
    config = pipe.vae.config
    shift = config.get("shift_factor") or 0.0
    with torch.inference_mode():
        expected = pipe.vae.decode(latents / config.scaling_factor + shift).sample
    assert model.decode is not None
    torch.testing.assert_close(model.decode(latents), expected, atol=1e-5, rtol=1e-5)
    assert expected.shape[1:] == (3, 16, 16)


def test_the_pipeline_as_it_is(digits: fewer.Model) -> None:
    """Its own scheduler, played here, gives what the pipeline itself gives."""
    pipe, labels = opened(bundled.folder("words-digits")), torch.arange(4)
    noise = unit_noise(3, range(4), digits.shape)
    own = as_it_is(digits, 16, 2.5)
    assert own is not None
    found = latents_of(pipe, WORDS[:4], noise, own.steps, guidance_scale=2.5)
    torch.testing.assert_close(own.samples(digits, noise, labels, 0, None), found, atol=1e-4, rtol=1e-4)


def test_guidance_that_nobody_asked_for(digits: fewer.Model) -> None:
    """The pipeline's own scale is told, and not taken."""
    assert digits.pipeline is not None
    assert digits.pipeline.guidance == 7.5
    assert "--guidance 7.5" in str(ignored_guidance(digits, None))
    assert ignored_guidance(digits, 2.0) is None
    assert ignored_guidance(fewer.load("digits"), None) is None


def test_latents_have_the_size_that_the_network_is_made_for(folders: dict[str, Path]) -> None:
    model = fewer.load(folders["stable diffusion"], prompts=["a"] * 40)  # more than are encoded at once
    assert model.shape == (4, 8, 8)
    assert model.describe()["prompts"] == ["a"] * 40
    x = unit_noise(0, range(1), model.shape).expand(40, -1, -1, -1)
    out = model(x, 500.0, torch.arange(40))
    torch.testing.assert_close(out, out[:1].expand_as(out), atol=1e-5, rtol=1e-5)


def test_another_dtype(folders: dict[str, Path]) -> None:
    model = fewer.load(folders["stable diffusion xl"], prompts=TEXTS, dtype="bfloat16")
    plan = fewer.standard("ddim", model, 2, "uniform", start=0.6)
    assert fewer.sample(model, plan, n=3).isfinite().all()
    exact = fewer.load(folders["stable diffusion xl"], prompts=TEXTS)
    x = unit_noise(0, range(3), model.shape)
    near, there = (each(x, 300.0, torch.arange(3)) for each in (model, exact))
    assert (near - there).square().mean() < 0.01 * there.square().mean()
    assert exact.to(dtype=torch.bfloat16)(x, 300.0, torch.arange(3)).shape == x.shape


# prompt files


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20), min_size=1, max_size=8))
def test_prompt_files_round_trip(tmp_path_factory: pytest.TempPathFactory, prompts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "prompts.txt"
    for text in ("\n".join(prompts), "\ufeff\n" + "\n \n".join(f"  {p}\t " for p in prompts) + "\r\n"):
        path.write_text(text, encoding="utf-8", newline="")
        assert read_prompts(path) == tuple(prompts)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds 0 prompts"),
        (b" \n\n\t\n", "holds 0 prompts"),
        (b"\xff\xfe\x00a", "is no text in UTF-8"),
        (b"a fox\n\x00\x01\x02", "prompt 2 holds characters that are no text"),
        (b"a\n" * (MOST + 1), f"holds {MOST + 1} prompts; expected 1 to {MOST}"),
        (b"a" * (LARGEST_FILE + 1), "is larger than 1 MiB"),
        (b"a" * 6000, "has 6000 characters"),
    ],
)
def test_bad_prompt_files(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_prompts(path)


def test_what_is_no_list_of_prompts(tmp_path: Path) -> None:
    for given_ in ("a fox", 3, [], [""], ["a", 3], [None]):
        with pytest.raises(InputError, match="prompts"):
            check_prompts(given_)
    for path in (tmp_path, tmp_path / "none.txt", "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            read_prompts(path)


# what is refused


def refused(folder: Any, says: str, **more: Any) -> None:
    with pytest.raises(InputError, match=says) as told:
        fewer.load(folder, **{"prompts": TEXTS} | more)
    assert "\n" not in str(told.value)


def test_prompts_are_needed_and_only_where_there_is_text(copied: Path) -> None:
    refused(copied, "give --prompts FILE, one prompt a line", prompts=None)
    refused(copied, "whose labels are prompts", empty_label=0)
    for name in ("digits", "mixture16", "builtins:print"):
        refused(name, "takes no text: leave out prompts")


def test_a_folder_may_list_its_prompts(copied: Path) -> None:
    (copied / "fewer.json").write_text(json.dumps({"prompts": TEXTS}))
    assert fewer.load(copied).prompts == tuple(TEXTS)
    assert fewer.load(copied, prompts=["x"]).prompts == ("x",)
    (copied / "fewer.json").write_text(json.dumps({"prompts": [1]}))
    refused(copied, "fewer.json: prompts: prompt 1 is 1", prompts=None)


def test_long_prompts(folders: dict[str, Path]) -> None:
    long = "ab" * 10
    for name in ("stable diffusion", "stable diffusion xl"):
        refused(folders[name], "prompt 2, 'abab.*', has 22 tokens .* takes 12", prompts=["a", long])
    fewer.load(folders["stable diffusion 3"], prompts=["a", long])  # its third encoder takes it whole
    refused(folders["stable diffusion 3"], "has 402 tokens .* takes 256", prompts=["ab" * 200])


def test_hostile_text_folders(copied: Path) -> None:
    index = copied / "model_index.json"
    good = index.read_text()
    rewrite(index, _class_name="LTXPipeline")
    refused(copied, "cannot be loaded as a LTXPipeline")
    index.write_text(good)
    rewrite(index, text_encoder=["os", "system"])
    refused(copied, "is a system; fewer reads CLIPTextModel")
    rewrite(index, text_encoder=["transformers", "BertModel"], tokenizer=["transformers", "BertTokenizer"])
    refused(copied, "is a BertModel; fewer reads")
    index.write_text(good)
    rewrite(index, controlnet=["diffusers", "ControlNetModel"])
    refused(copied, "with 'controlnet', which fewer does not read so far")
    index.write_text(good)
    rewrite(index, text_encoder=[None, None])
    refused(copied, "no tokenizer with a text encoder")
    index.write_text(good)
    config = copied / "unet" / "config.json"
    kept = config.read_text()
    rewrite(config, in_channels=9)
    refused(copied, "cannot load UNet2DConditionModel")
    rewrite(config, in_channels=4, time_cond_proj_dim=8)
    refused(copied, "cannot load|lack|guided by an input of its own")
    config.write_text(kept)
    weights = next((copied / "text_encoder").glob("*.safetensors"))
    bytes_ = weights.read_bytes()
    weights.write_bytes(b"no weights")
    refused(copied, "cannot load CLIPTextModel")
    weights.rename(weights.with_suffix(".bin"))
    refused(copied, r"has no \.safetensors weights")
    weights.write_bytes(bytes_)
    shutil.rmtree(copied / "tokenizer")
    refused(copied, "tokenizer is missing")


def test_without_transformers(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(copied, r"transformers, which encodes it, is missing: pip install 'fewer\[prompts\]'")


@pytest.mark.slow
def test_import_stays_light() -> None:
    code = "import sys, fewer; fewer.load('mixture16'); assert 'transformers' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# the trained pipeline


def test_words_make_their_digits(digits: fewer.Model) -> None:
    """Nine of ten decoded samples are what their prompts say, by the bundled classifier; also by phrases, in another order."""
    assert digits.prompts == tuple(WORDS)
    assert digits.decode is not None
    classifier, drawn = bundled.digits_classifier(), torch.arange(100) % 10
    phrased = fewer.load("words-digits", prompts=[f"a picture of the digit {word}" for word in WORDS[::-1]])
    for model, wanted in ((digits, drawn), (phrased, 9 - drawn)):
        plan = fewer.standard("dpmpp-2m", model, 20, "logsnr", guidance=2.0)
        latents = fewer.sample(model, plan, n=100, seed=0)
        assert (classifier(digits.decode(latents)).argmax(1) == wanted).float().mean() > 0.9


def test_words_are_single_tokens() -> None:
    tokenizer = opened(bundled.folder("words-digits")).tokenizer
    for word in [*WORDS, "digit", "number", "picture", "handwritten", "the", "a", "of"]:
        assert len(tokenizer(word).input_ids) == 3


def test_the_trained_pipeline_is_small() -> None:
    assert sum(path.stat().st_size for path in bundled.folder("words-digits").rglob("*")) < 2.2e6


def test_latents_keep_the_digits(digits: fewer.Model) -> None:
    """Held-out digits go through the autoencoder and are still themselves."""
    pytest.importorskip("sklearn")
    images, labels = bundled.digits_images("test")
    vae = opened(bundled.folder("words-digits")).vae
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mode() * vae.config.scaling_factor
    assert digits.decode is not None
    again = digits.decode(latents)
    assert (bundled.digits_classifier()(again).argmax(1) == labels).float().mean() > 0.95
    assert (again - images).square().mean() < 0.05 * images.var()


def test_errors_of_images(digits: fewer.Model) -> None:
    """Those of decoded, clamped latents, of a bounded number of them; equal latents have none."""
    assert digits.decode is not None
    reference = 2 * unit_noise(0, range(300), digits.shape)
    errors = ImageErrors(digits, reference)
    assert torch.equal(errors(reference), torch.zeros(256, dtype=torch.float64))
    samples = reference[:40] + 0.1 * unit_noise(1, range(40), digits.shape)
    there, found = (  # as many at once as are measured: some processors round otherwise for other numbers of images
        torch.cat([digits.decode(some) for some in x.split(at_once(x))])[:40].clamp(-1, 1).double()
        for x in (reference[:256], samples)
    )
    torch.testing.assert_close(errors(samples), (found - there).square().flatten(1).mean(1), atol=1e-9, rtol=1e-6)


def test_quality_in_latents_and_in_images(digits: fewer.Model) -> None:
    noise, labels = unit_noise(0, range(32), digits.shape), digits.labels(32)
    fine, plans = (
        fewer.standard("unipc", digits, 30, "logsnr"),
        [fewer.standard("ddim", digits, n, "logsnr") for n in (4, 8)],
    )
    target, *samples = (fewer.sample(digits, plan, noise=noise, labels=labels) for plan in (fine, *plans))
    evaluator = Evaluator(digits, noise, labels, target)
    coarse, finer = (evaluator.quality(x).figures for x in samples)
    for name in ("paired_rmse", "paired_rmse_images"):
        assert finer[name].high < coarse[name].low
    assert "paired_rmse_images" not in evaluator.quality(samples[0], pairs=False).figures


def test_a_plan_file_plays_any_prompt(tmp_path: Path, digits: fewer.Model, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line, and in the pipeline by what it says itself: without a word where it fits."""
    plan = replace(fewer.standard("unipc", digits, 4, "logsnr"), model=digits.signature)
    file, out = plan.save(tmp_path / "plan.json"), tmp_path / "out"
    assert run(["sample", "words-digits", "--plan", str(file), "--prompt", "the seven", "-n2", "--out", str(out)]) == 0
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".png") == [
        "00000.png",
        "00001.png",
        "grid.png",
    ]
    assert run(["sample", "words-digits", "--nfe", "2", "--prompt", "two", "-n2", "--out", str(out)]) == 0
    assert "--guidance 7.5" in capsys.readouterr().err
    pipe, noise = opened(bundled.folder("words-digits")), unit_noise(5, range(2), digits.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fewer.apply(fewer.Plan.load(file), pipe)
    found = latents_of(pipe, ["zero", "seven"], noise, 4, guidance_scale=1.0)
    torch.testing.assert_close(found, fewer.sample(digits, plan, noise=noise, labels=[0, 7]), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_tune_over_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A search over a file of prompts; it goes on with the same ones only."""
    monkeypatch.setattr(sys.modules["fewer.search.tune"], "enough_noises", lambda *_: 16)  # a short search
    prompts, out = tmp_path / "p.txt", tmp_path / "out"
    prompts.write_text("a three\n\nthe digit nine\n")
    tune = f"tune words-digits --prompts {prompts} --nfe 3 --trials 2 --out {out}".split()
    assert run(tune) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["model"]["prompts"] == ["a three", "the digit nine"]
    assert results["quality"]["paired_rmse_images"]["value"] > 0
    assert any("--guidance 7.5" in note for note in results["notes"])
    page = (out / "report.html").read_text()
    assert "paired_rmse_images" in page
    assert "a three; the digit nine" in page
    prompts.write_text("six\n")
    capsys.readouterr()
    assert run([*tune, "--resume"]) == 2
    assert "another prompts" in capsys.readouterr().err


BAD = [
    ("tune {text} --nfe 3", "give --prompts FILE"),
    ("inspect {text}", "give --prompts FILE"),
    ("compare {text} --nfe 3", "give --prompts FILE"),
    ("sample {text} --out {out}", "give --prompts FILE"),
    ("tune {text} --nfe 3 --prompts {folder}", "cannot be read"),
    ("tune digits --nfe 3 --prompts {prompts}", "takes no text"),
    ("sample digits --prompt three --out {out}", "takes no text"),
    ("sample {text} --prompt fox --prompts {prompts} --out {out}", "--prompt and --prompts are both given"),
    ("sample {text} --prompt fox --label 3 --out {out}", "label 3 is out of range"),
]


@pytest.mark.parametrize(("command", "says"), BAD)
def test_bad_commands(
    command: str, says: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    check_refused(command, says, tmp_path, capsys, text=folders["stable diffusion"])
