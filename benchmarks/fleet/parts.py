"""The parts of a pipeline, by the types that its constructor names."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from functools import partial
from typing import Any

import diffusers
from diffusers import ConfigMixin, ModelMixin, SchedulerMixin
from diffusers.guiders import ClassifierFreeGuidance

from benchmarks.fleet.families import BUCKETED, OWN_SIZES, PARTS, SMALL_AREAS
from benchmarks.fleet.images import ImageEncoder, ImageProcessor, Processor
from benchmarks.fleet.networks import tiny
from benchmarks.fleet.texts import Encoder, Tokenizer

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "FlowMatchEulerDiscreteScheduler": {"shift": 3.0},
    "DDIMScheduler": {**SCALED, "clip_sample": False, "steps_offset": 1},
    "DDPMScheduler": {**SCALED, "clip_sample": False},
    "PNDMScheduler": {**SCALED, "skip_prk_steps": True},
    "UniPCMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
    "AmusedScheduler": {"mask_token_id": 7},
    "FlowMapEulerDiscreteScheduler": {"shift": 3.0},
    "CogVideoXDDIMScheduler": {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "clip_sample": False},
}
FAKES = {  # by patterns of names
    r"(\w+_)?tokenizer(_\d)?": Tokenizer, r"text_encoder(_\d)?": Encoder, "bert": Encoder, "processor": Processor,
    "text_processor": Processor, "image_encoder": ImageEncoder, "siglip": ImageEncoder,
    r"feature_extractor|(clip_)?image_processor|siglip_processor|image_feature_extractor": ImageProcessor,
}  # fmt: skip
# not needed where embeddings and latents are given
BESIDE = ("safety_checker", "vocoder", "audio_scheduler")
BESIDE += ("watermarker", "prompt_enhancer", "latent_upsampler", "pe")


def pipeline(name: str) -> Any:
    """A tiny pipeline of the class of this name. Raises what its constructor, or that of a part, raises."""
    kind = getattr(diffusers, name)
    given = dict(PARTS.get(name, {}))
    for each, parameter in inspect.signature(kind.__init__).parameters.items():
        if each == "self" or each in given:
            continue
        made = part(each, parameter, kind)
        if made is not inspect.Parameter.empty:
            given[each] = made
    given = {each: value() if isinstance(value, partial | type) else value for each, value in given.items()}
    names = inspect.signature(kind.__init__).parameters
    if "requires_safety_checker" in names:
        given["requires_safety_checker"] = False
    if name in SMALL_AREAS:
        own = vars(sys.modules[kind.__module__])
        size = (32, 32, None)[: len(own["calculate_dimensions"](1024, 1.0))]
        own["calculate_dimensions"] = lambda area, ratio: size
    if name in BUCKETED:
        own = vars(sys.modules[f"{kind.__module__.rpartition('.')[0]}.image_processor"])
        own["find_best_bucket"] = lambda height, width, basesize: (32, 32)
    pipe = kind(**{each: value for each, value in given.items() if each in names})
    pipe.set_progress_bar_config(disable=True)
    vars(pipe).update(OWN_SIZES.get(name, {}))
    return pipe


def part(name: str, parameter: inspect.Parameter, kind: type) -> Any:
    """A part for a parameter of the pipeline's constructor; Parameter.empty where its own default will do."""
    if name == "guider":
        return ClassifierFreeGuidance(guidance_scale=5.0)
    if name.startswith(BESIDE):
        return None
    types_ = annotated(kind, parameter.annotation)
    if name.endswith("scheduler"):
        return scheduler(next((each for each in types_ if issubclass(each, SchedulerMixin)), diffusers.DDIMScheduler))
    found = next((each for each in types_ if issubclass(each, ModelMixin)), None)
    if found is not None:
        return None if name == "transformer_2" else tiny(found)
    fake = next((FAKES[pattern] for pattern in FAKES if re.fullmatch(pattern, name)), None)
    if fake is not None:
        return fake()
    return parameter.default if parameter.default is inspect.Parameter.empty else inspect.Parameter.empty


def scheduler(kind: type) -> Any:
    """A scheduler of this class, as pipelines of its kind have it."""
    kind = diffusers.DDIMScheduler if kind is SchedulerMixin or not issubclass(kind, ConfigMixin) else kind
    return kind(**SCHEDULERS.get(kind.__name__, {}))


def annotated(kind: type, annotation: Any) -> list[type]:
    """The classes that an annotation names, of a union each."""
    if isinstance(annotation, str):
        annotation = eval(annotation, vars(sys.modules[kind.__module__]))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [each for some in typing.get_args(annotation) for each in annotated(kind, some)]
    return [annotation] if isinstance(annotation, type) else []
