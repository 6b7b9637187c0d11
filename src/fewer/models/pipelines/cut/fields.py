"""Fields of the model of a pipeline's call: its network, labels and hashes, and what it knows of the pipeline's own sampler."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewer.errors import InputError, foreign
from fewer.models.beginning import Beginning
from fewer.models.denoiser import Denoiser
from fewer.models.distilled import distilled_for
from fewer.models.ending import Ended, counted_beginning, ended
from fewer.models.pipelines.cut.beginnings import beginning_of, end_of
from fewer.models.pipelines.cut.loop import Cut, takes
from fewer.models.pipelines.cut.network import PipelineNetwork
from fewer.models.pipelines.defaults import own_scheduler
from fewer.models.pipelines.experts import Experts, boundary, of_one_expert
from fewer.models.pipelines.network_files import hashes_of
from fewer.models.pipelines.origin import hash_of_its_folder
from fewer.models.pipelines.pipeline_defaults import DynamicShift, PipelineDefaults
from fewer.models.pipelines.scheduler_config import ENDING, check_one_scheduler, clip_of, schedule_of, settings
from fewer.models.reach import hash_of_network

# in the names of arguments that go sample by sample
CONDITIONS = ("prompt", "image", "mask", "video", "audio", "class_labels")
# components that decode states to images, and, by how their names begin, those that are no part of the network
DECODERS = ("vae", "vqvae", "movq")
BESIDE = ("text_encoder", "image_encoder", "vae", "vqvae", "movq", "safety_checker", "vocoder")


def fields_of(pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the Model of a pipeline's call. Raises InputError and ForeignError as `Model.from_pipeline` does."""
    kind = type(pipe).__name__
    call = _checked(pipe, call)
    schedule, predicts, sigma_data = schedule_of(pipe.scheduler)
    with foreign(f"the call of {kind}"):
        cut = Cut(pipe, call)
    network, weights = _network(call, cut), hash_of_networks(pipe)
    denoiser = Denoiser(
        network, schedule, predicts, tuple(network.filler.shape[1:]), clip=clip_of(pipe.scheduler), sigma_data=sigma_data,
        device=cut.noise.device, dtype=cut.noise.dtype, name=kind,
    )  # fmt: skip
    beginning, end = beginning_of(pipe, cut, denoiser), end_of(pipe, cut, denoiser)
    distilled = distilled_for(type(pipe.scheduler).__name__, _steps(cut))
    if end:
        denoiser, beginning = _ended(denoiser, beginning, end, distilled is not None)
    return {
        **{each.name: getattr(denoiser, each.name) for each in dataclasses.fields(denoiser)}, "classes": network.classes,
        "prompts": _prompts(call, network.classes), "called_with": _digest(call),
        "hash": weights, "known_as": partial(hash_of_its_folder, pipe, weights),
        "experts": _experts(pipe, call, network, float(schedule.time(schedule.tau_max)) + 1),
        "beginning": beginning, "pipeline": _defaults(pipe, cut), "distilled": distilled,
        "decode": network.images if _decodes(pipe, call) and not end else None,
    }  # fmt: skip


def _ended(
    denoiser: Denoiser, beginning: Beginning | None, end: float, distilled: bool
) -> tuple[Denoiser, Beginning | None]:
    """The denoiser and the beginning in the frame of an end above the data.

    Raises InputError for a call that begins at or below its end, and for a network whose data prediction is a sample.
    """
    if distilled:
        raise InputError(
            "denoising_end ends above the data, and a distilled model goes on with noise that it draws anew there"
        )
    if beginning is not None and beginning.level <= end:
        raise InputError(
            f"the call begins at level {beginning.level:g}, and denoising_end ends it at level {end:g}: no step is left"
        )
    made = ended(denoiser, end)
    assert isinstance(made.schedule, Ended)
    return made, None if beginning is None else counted_beginning(made.schedule, beginning)


def _checked(pipe: Any, call: Any) -> dict[str, Any]:
    """The call's arguments. Raises InputError for what is no pipeline with a scheduler of its own, and no arguments of its call."""
    kind = type(pipe).__name__
    if not all(hasattr(pipe, name) for name in ("scheduler", "components", "set_progress_bar_config")):
        raise InputError(f"pipe is a {kind} without a scheduler; expected a diffusers pipeline")
    if type(pipe.scheduler).__name__ == "FewerScheduler":
        raise InputError(f"the {kind} plays a plan: take it off with fewer.unapply(pipe)")
    check_one_scheduler(pipe)
    if not isinstance(call, Mapping) or not all(isinstance(name, str) for name in call):
        raise InputError(f"call is {call!r:.80}; expected the arguments of the pipeline's call, dict(prompt=..)")
    known = inspect.signature(type(pipe).__call__).parameters
    strange = [name for name in call if name not in known]
    if strange and not any(each.kind is each.VAR_KEYWORD for each in known.values()):
        near = get_close_matches(strange[0], known)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise InputError(f"the call of {kind} has no argument {strange[0]!r}{hint}")
    return dict(call)


def _network(call: dict[str, Any], cut: Cut) -> PipelineNetwork:
    """The network of the call's samples and conditions (see `_by_arguments`), where those of one condition begin with equal data;
    else every sample has a condition of its own, as the pictures that were made of a prompt.
    """
    network = _by_arguments(call, cut)
    given = cut.noise if call.get("denoising_start") is not None else cut.data
    if given is None:
        return network
    by_condition = network.sample_states(given).unflatten(0, (network.classes or 1, -1))
    alike = bool((by_condition == by_condition[:, :1]).all())
    return network if alike else PipelineNetwork(cut, network.size, network.size, network.copies)


def _by_arguments(call: dict[str, Any], cut: Cut) -> PipelineNetwork:
    """The network of as many conditions as the call's arguments list, as far as the loop's state agrees.

    Where it does not, or an argument lists one condition a row, every row of the state has conditions of its own.
    """
    rows, counts = len(cut.noise), {_count(value) for value in _conditions(call).values()}
    if not counts:
        return PipelineNetwork(cut, None, rows, 1)
    named = [value for name, value in call.items() if name.startswith("num_") and name.endswith("_per_prompt")]
    each = math.prod(value or 1 for value in named)
    if each > 1 and rows in counts:
        return PipelineNetwork(cut, rows, rows, 1)
    fitting = [count for count in counts if rows % (count * each) == 0]
    classes, size = (max(fitting), max(fitting) * each) if fitting else (rows, rows)
    doubled = rows == 2 * size and torch.equal(cut.noise[:size], cut.noise[size:])
    return PipelineNetwork(cut, classes, size, 2 if doubled else 1)


def _conditions(call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that may differ from sample to sample of a call."""
    named = {name: value for name, value in call.items() if any(word in name for word in CONDITIONS)}
    return {name: value for name, value in named.items() if value is not None and not name.startswith("num_")}


def _count(value: Any) -> int:
    """Number of conditions that an argument holds: of a list or batch as many, of a text or an image one."""
    several = isinstance(value, list | tuple) or (isinstance(value, Tensor | np.ndarray) and value.ndim > 1)
    return max(len(value), 1) if several else 1


def _prompts(call: Mapping[str, Any], classes: int | None) -> tuple[str, ...]:
    """The labels' texts, where the call has one for each."""
    given = call.get("prompt")
    listed = [given] if isinstance(given, str) else given
    texts = isinstance(listed, list | tuple) and all(isinstance(each, str) for each in listed)
    return tuple(listed) if texts and len(listed) == classes else ()  # type: ignore[arg-type]


def _decodes(pipe: Any, call: Mapping[str, Any]) -> bool:
    """Whether the call decodes its last states to images."""
    decoder = any(name in DECODERS and part is not None for name, part in pipe.components.items())
    other = any(takes(pipe, name) for name in ("num_frames", "video_length", "audio_length_in_s", "audio_end_in_s"))
    return decoder and takes(pipe, "output_type") and call.get("output_type") != "latent" and not other


def _experts(pipe: Any, call: Mapping[str, Any], network: PipelineNetwork, steps: float) -> Experts | None:
    """The pipeline's two experts, whose loops are begun when they are first asked for."""
    ratio = boundary(pipe)
    if ratio is None:
        return None
    steps = pipe.scheduler.config.get("num_train_timesteps", steps)
    return Experts(ratio * steps, cache(lambda: of_one_expert(pipe, call, network)))


def _steps(cut: Cut) -> int:
    """Steps of the call's own loop."""
    sigmas = cut.given.get("sigmas")
    listed = cut.given.get("timesteps") if sigmas is None else sigmas
    return int(cut.given.get("num_inference_steps", 1)) if listed is None else len(listed)


def _defaults(pipe: Any, cut: Cut) -> PipelineDefaults | None:
    """The scheduler and number of steps of the call; None where they do not give the times of the pipeline's own loop, or the
    scheduler lists the time after its last step, too.
    """
    if type(pipe.scheduler).__name__ in ENDING:
        return None
    theirs, sigmas, mu = copy.deepcopy(pipe.scheduler), cut.given.get("sigmas"), cut.given.get("mu")
    with foreign(f"the scheduler of {type(pipe).__name__}"):
        theirs.set_timesteps(**cut.given)
    regular = sigmas is not None and np.allclose(sigmas, np.linspace(1, 1 / len(sigmas), len(sigmas)))
    shift = DynamicShift(None if mu is None else float(mu), regular) if regular or mu is not None else None
    steps = len(sigmas) if sigmas is not None else cut.given.get("num_inference_steps", 0)
    if not cut.whole or not steps or theirs.config.get("invert_sigmas"):
        return None
    found = PipelineDefaults(type(theirs).__name__, settings(theirs), steps, None, shift)
    ours = own_scheduler(found)
    ours.set_timesteps(steps)
    theirs_at, ours_at = (torch.as_tensor(each.timesteps).double().cpu() for each in (theirs, ours))
    return found if theirs_at.shape == ours_at.shape and torch.allclose(theirs_at, ours_at, rtol=1e-5) else None


def hash_of_networks(pipe: Any) -> str:
    """sha256 of the weights of a pipeline's networks, without its encoders and decoders; "" for none."""
    parts = [part for name, part in sorted(pipe.components.items()) if not name.startswith(BESIDE)]
    return "".join(hashes_of(*(part for part in parts if isinstance(part, nn.Module))))


def _digest(call: Mapping[str, Any]) -> str:
    """sha256 of the call's arguments, without those that decide no output of the network."""
    digest = hashlib.sha256()
    for name, value in sorted(call.items()):
        if name not in ("num_inference_steps", "latents", "generator", "output_type", "return_dict"):
            digest.update(f"{name} {_described(value)};".encode())
    return digest.hexdigest()


def _described(value: Any) -> str:
    """An argument as text: arrays by their content, and things that are none by their type."""
    match value:
        case Tensor() | np.ndarray():
            return hash_of_network([value]) or ""
        case None | bool() | int() | float() | str():
            return repr(value)
        case Mapping():
            return str({str(key): _described(each) for key, each in value.items()})
        case Sequence():
            return str([_described(each) for each in value])
        case _ if hasattr(value, "tobytes"):  # an image of PIL
            return hashlib.sha256(value.tobytes()).hexdigest()
        case _:
            return type(value).__name__
