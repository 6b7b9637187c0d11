"""Folders of pipelines of any class: loaded whole, and called as --prompts and --set say."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import text_folders
import tiny_pipelines as tiny
import torch
from pipelines import rewrite
from refused_commands import check_refused
from test_prompts import refused, run

import fewer
from fewer.cli.call_values import values_of
from fewer.errors import InputError
from fewer.search.known_studies import check_same


def ltx() -> Any:
    """Its class has no loader of its own."""
    parts = tiny.ltx().pipe.components | {"text_encoder": text_folders.t5(), "tokenizer": text_folders.t5_tokenizer()}
    return diffusers.LTXPipeline(**parts)


def ddpm() -> Any:
    """Without text, and with a loader of its own where nothing is set."""
    return tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(clip_sample=False)).pipe


MADE: dict[str, Callable[[], Any]] = {"ltx": ltx, "ddpm": ddpm, "stable diffusion": text_folders.stable_diffusion}
CALLS: dict[str, dict[str, Any]] = {
    "ddpm": {"batch_size": 2},
    "ltx": {"height": 64, "width": 64, "num_frames": 9, "guidance_scale": 2.5},
    "stable diffusion": {"guidance_scale": 7.5, "negative_prompt": "bad"},
}


def plain() -> fewer.Model:
    """A model of a function's own."""
    return fewer.load("digits")


def called() -> tuple[Any, dict[str, Any]]:
    """A pipeline and its call."""
    return tiny.silent(ltx()), CALLS["ltx"] | {"prompt": ["fox"], "num_frames": 17}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp("whole") / name.replace(" ", "-") for name in MADE}
    for name, folder in made.items():
        MADE[name]().save_pretrained(folder)
    return made


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["ltx"], tmp_path / "copied"))


@pytest.mark.parametrize("name", MADE)
def test_a_folder_is_the_model_of_its_pipeline(name: str, folders: dict[str, Path]) -> None:
    """As an owner who loads and calls the pipeline has it."""
    prompts = None if name == "ddpm" else ["fox", "harbour"]
    model = fewer.load(folders[name], prompts=prompts, call=CALLS[name])
    pipe = tiny.silent(MADE[name]())
    call = CALLS[name] | ({"negative_prompt": ["bad"] * 2} if name == "stable diffusion" else {})
    own = fewer.Model.from_pipeline(pipe, call | ({} if prompts is None else {"prompt": prompts}))
    assert (model.prompts, model.called_with, model.hash) == (own.prompts, own.called_with, own.hash)
    assert model.name == folders[name].name
    noise, plan = torch.randn(2, *own.shape), fewer.standard("ddim", own, nfe=2)
    found, expected = (fewer.sample(each, plan, noise=noise) for each in (model, own))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_function_is_called_with_what_is_set() -> None:
    """--set and --prompts replace values of the call that it returns."""
    model = fewer.load("test_whole_folders:called", prompts=["fox", "harbour"], call={"num_frames": 9})
    own = fewer.Model.from_pipeline(called()[0], CALLS["ltx"] | {"prompt": ["fox", "harbour"]})
    assert (model.prompts, model.called_with, model.hash) == (own.prompts, own.called_with, own.hash)


@pytest.mark.parametrize("name", ["ltx", "ddpm"])
def test_a_repository_is_its_folder(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hub's client has fetched before, it finds without a network; values are set as of a folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fetched = tmp_path / "models--someone--tiny"
    shutil.copytree(folders[name], fetched / "snapshots/0123abcd")
    (fetched / "refs").mkdir()
    (fetched / "refs/main").write_text("0123abcd")
    prompts = None if name == "ddpm" else ["fox"]
    model, own = (fewer.load(each, prompts=prompts, call=CALLS[name]) for each in ("someone/tiny", folders[name]))
    assert (model.called_with, model.hash, model.prompts) == (own.called_with, own.hash, own.prompts)
    assert model.loaded is not None
    assert model.loaded.model == "someone/tiny"


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (["height=768", "guidance_scale=7.5", "use=true"], {"height": 768, "guidance_scale": 7.5, "use": True}),
        (
            ["a=null", 'b="7"', "c=a red fox", "d=x=y", "e="],
            {"a": None, "b": "7", "c": "a red fox", "d": "x=y", "e": ""},
        ),
        (["a=NaN", "b=-Infinity"], {"a": "NaN", "b": "-Infinity"}),
        ([], None),
        (None, None),
    ],
)
def test_values_are_json_or_text(given: list[str] | None, values: dict[str, Any] | None) -> None:
    assert values_of(given) == values


@pytest.mark.parametrize("given", [["768"], ["=768"], ["a b=1"], ["a=1", "a=2"], [""]])
def test_values_without_a_name(given: list[str]) -> None:
    with pytest.raises(InputError, match="--set"):
        values_of(given)


BAD = [
    ("tune digits --nfe 3 --set height=8", "has no model_index.json, which says what pipeline to call"),
    ("inspect {folder}/missing --set height=8", "is no folder, no bundled model"),
    ("inspect collections:Counter --set height=8", "'collections:Counter' returned Counter"),
    ("inspect test_whole_folders:plain --set height=8", "'test_whole_folders:plain' returned a fewer.Model"),
    ("inspect test_whole_folders:called --set hight=64", "has no argument 'hight'; the nearest are height"),
    ("sample test_whole_folders:called --guidance 4 --negative-prompt bad --out {out}", "--set negative_prompt=TEXT"),
    ("inspect {ltx} --set guidance=3", "give --prompts FILE"),
    ("inspect {ltx} --prompts {prompts} --set hight=64", "has no argument 'hight'; the nearest are height"),
    ("compare {ltx} --prompts {prompts} --set prompt=fox", "expected one of them"),
    ("sample {ltx} --prompt fox --set guidance_scale=1e999 --out {out}", "guidance_scale is inf"),
    ("sample {sd} --prompt fox --set height --out {out}", "expected NAME=VALUE"),
    ("inspect {sd} --prompts {prompts} --set guidance_scale=3 --empty-label 1", "an empty label was given"),
]


@pytest.mark.parametrize(("command", "says"), BAD)
def test_bad_commands(
    command: str, says: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    check_refused(command, says, tmp_path, capsys, ltx=folders["ltx"], sd=folders["stable diffusion"])


def test_a_search_is_of_the_values_that_are_set(folders: dict[str, Path]) -> None:
    """They are in its definition, by which it goes on."""
    first, again, other = (
        fewer.load(folders["stable diffusion"], prompts=["fox"], call={"guidance_scale": scale}).conditions
        for scale in (3.0, 3.0, 4.0)
    )
    check_same("study.db", json.dumps(first), again)
    with pytest.raises(InputError, match="another call"):
        check_same("study.db", json.dumps(first), other)


@pytest.mark.slow
def test_a_search_goes_on_with_the_same_values_only(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    few_standards: None,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.modules["fewer.search.tune"], "enough_noises", lambda *_: 8)
    prompts = tmp_path / "p.txt"
    prompts.write_text("fox\n")
    tune = f"tune {folders['stable diffusion']} --prompts {prompts} --nfe 2 --trials 1 --out {tmp_path / 'out'}".split()
    assert run([*tune, "--set", "guidance_scale=3"]) == 0
    capsys.readouterr()
    assert run([*tune, "--set", "guidance_scale=4", "--resume"]) == 2
    assert "another call" in capsys.readouterr().err


def test_hostile_folders(copied: Path) -> None:
    """Other libraries' code is never run, and weights are never unpickled."""
    index = copied / "model_index.json"
    good = json.loads(index.read_text())
    for part, says in (
        (["os", "system"], "text_encoder is of 'os'"),
        (["my_code", "Encoder"], "text_encoder is of 'my_code'"),
        (["transformers", "NoModel"], "cannot be loaded as a LTXPipeline"),
        (["diffusers", "DiffusionPipeline"], "pipeline inside of a pipeline"),
        (["pipeline_utils", "os"], "text_encoder is a pipeline_utils.os, which is no class"),
    ):
        rewrite(index, text_encoder=part)
        refused(copied, says)
    index.write_text(json.dumps(good))
    weights = next((copied / "text_encoder").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    refused(copied, r"has no \.safetensors weights")
    index.write_text(json.dumps(good | {"_class_name": ["code", "Pipeline"]}))
    refused(copied, "no class that is known|another pipeline class")
