"""Pipeline classes of diffusers, tiny and random, as `python -m benchmarks.pipelines` tries all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are no installed package

from benchmarks.fleet.checks import examine
from benchmarks.fleet.classes import beyond

SOME = (
    "AnimateDiffPipeline", "AuraFlowPipeline", "BriaPipeline", "ChromaPipeline", "CogView3PlusPipeline", "DDIMPipeline",
    "DDPMPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline", "FluxPipeline", "HunyuanDiTPipeline", "HunyuanVideoPipeline",
    "Lumina2Pipeline", "LuminaPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline", "StableDiffusion3Img2ImgPipeline",
    "StableDiffusion3Pipeline", "StableDiffusionControlNetPipeline", "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline", "StableDiffusionPAGPipeline", "StableDiffusionPipeline",
    "StableDiffusionXLControlNetPipeline", "StableDiffusionXLPipeline",
)  # fmt: skip


@pytest.mark.parametrize("name", SOME)
def test_a_pipeline_loads_plays_a_plan_and_is_itself_again(name: str) -> None:
    outcome = examine(name, guided=True, checks=("loads", "applies", "restored"), steps=3)
    assert not outcome.built
    assert set(outcome.found.values()) == {""}, outcome.found


ASKED = {
    "every token has a time of its own": "LTXConditionPipeline",
    "step is told the next time": "KandinskyPriorPipeline",
    "the network is called before its input is scaled": "StableDiffusionAttendAndExcitePipeline",
}


@pytest.mark.parametrize("kind", ASKED)
def test_what_a_pipeline_does_beside_its_step_is_followed(kind: str) -> None:
    outcome = examine(ASKED[kind], guided=False, checks=("loads", "applies"), steps=3)
    assert not outcome.built
    assert set(outcome.found.values()) == {""}, outcome.found


@pytest.mark.slow  # imports pipelines of every family
def test_classes_count_by_their_loop() -> None:
    """One loop over numbers counts; a loop within a loop, tokens, and other pipelines' loops do not."""
    assert not beyond("FluxPipeline")
    assert not beyond("LTX2Pipeline")  # which steps a second scheduler in the same loop
    assert "within another loop" in beyond("HeliosPipeline")
    assert "tokens" in beyond("VQDiffusionPipeline")
    assert "3 loops" in beyond("UnCLIPPipeline")
    assert "no scheduler" in beyond("FluxPriorReduxPipeline")
    assert "no loop" in beyond("StableCascadeCombinedPipeline")
