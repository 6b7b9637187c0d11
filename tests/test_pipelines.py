"""Pipeline classes of diffusers, tiny and random, as `python -m benchmarks.pipelines` tries all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the benchmarks are no installed package

from benchmarks.fleet.checks import examine

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
