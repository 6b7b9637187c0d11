"""A pipeline folder of any class, loaded whole, as a model: its network is the pipeline's loop, called as its owner calls it.

Only classes of diffusers and transformers are made, whatever model_index.json names, and weights are read from safetensors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fewer.errors import InputError, first_line
from fewer.files import read_json
from fewer.models.model import Model
from fewer.models.pipelines.cut.loop import takes
from fewer.models.pipelines.folder import ALONE, COMPONENTS, own_name, parts_of, read_if_there, scheduler_of
from fewer.models.pipelines.network_files import NETWORKS, load_module
from fewer.models.pipelines.prompts import check_prompts
from fewer.models.pipelines.scheduler_config import class_named, quiet
from fewer.models.pipelines.text_encoders import load_encoder, silence, transformers_for
from fewer.models.pipelines.text_to_image import KINDS

FURTHER = re.compile(r"(negative_)?prompt(_\d)?")  # names of prompts of a call


def only_whole(folder: Path) -> bool:
    """Whether the folder is of a pipeline class of diffusers whose network is not read alone."""
    index = read_if_there(folder / "model_index.json")
    parts = parts_of(index)
    networks = {parts[name][1] for name in NETWORKS if name in parts}
    alone = bool(networks) and networks <= set(ALONE) and parts.keys() <= set(COMPONENTS)
    return not (alone or index.get("_class_name") in tuple(KINDS)) and _pipeline_class(index) is not None


def load_whole(
    folder: Path, device: torch.device, dtype: torch.dtype | None, prompts: Sequence[str] | None,
    call: Mapping[str, Any],
) -> Model:  # fmt: skip
    """The model of a folder's pipeline, called with these prompts, or those that its fewer.json lists, and further arguments.

    Raises InputError for folders of no pipeline class of diffusers, with parts that are of other libraries or damaged, where
    prompts are missing, and as `Model.from_pipeline` does.
    """
    own = read_if_there(folder / "fewer.json")
    _check_values(call)
    pipe = _pipeline(folder, device, dtype or torch.float32)
    listed = own.get("prompts") if prompts is None and "prompt" not in call else prompts
    return Model.from_pipeline(pipe, _with_prompts(folder, pipe, listed, call), name=own_name(folder, own))


def _check_values(call: Mapping[str, Any]) -> None:
    """Raises InputError for values that JSON does not have: they are those of a command line."""
    for name, value in call.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            finite = False
        if not finite:
            raise InputError(
                f"{name} is {value!r:.80}; expected a finite number, text, true, false or null (Model.from_pipeline takes more)"
            )


def _with_prompts(folder: Path, pipe: Any, prompts: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """The call, with the prompts. Raises InputError where it has some already, where it takes none, and where it lacks some."""
    kind = type(pipe).__name__
    if prompts is not None:
        if not takes(pipe, "prompt"):
            raise InputError(f"the call of {kind} takes no prompt: leave out prompts (--prompt, --prompts)")
        if "prompt" in call:
            raise InputError("prompt is set, and prompts are given: expected one of them")
        listed = check_prompts(prompts)
        return (
            {"prompt": listed[0], **call}
            if len(listed) == 1
            else {"prompt": list(listed), **_for_each(call, len(listed))}
        )
    if takes(pipe, "prompt") and not any("prompt" in name for name in call):
        raise InputError(f"{folder} is a {kind}, which takes text: give --prompts FILE (in Python prompts=[..])")
    return dict(call)


def _for_each(call: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The call, its one text of a further prompt (a negative one, or one for another encoder) given n times."""
    return {
        name: [value] * n if isinstance(value, str) and FURTHER.fullmatch(name) else value
        for name, value in call.items()
    }


def _pipeline(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline of a folder, its networks and encoders in eval mode on the device."""
    if not (folder / "model_index.json").is_file():
        raise InputError(f"{folder} has no model_index.json, which says what pipeline to call")
    index = read_json(folder / "model_index.json")
    own = _pipeline_class(index)
    if own is None:
        raise InputError(f"{folder} is a {index.get('_class_name')!r:.80}, which is no pipeline class of diffusers")
    made: dict[str, Any] = {name: None for name, value in index.items() if value == [None, None]}
    for name, (library, kind) in parts_of(index).items():
        if name == "scheduler":
            made[name] = scheduler_of(folder)
        elif (module := _module_class(folder / name, library, kind)) is not None:
            made[name] = _loaded(module, folder / name, device, dtype)
    try:
        with silence():
            return own.from_pretrained(folder, **made, use_safetensors=True, local_files_only=True)
    except Exception as error:  # diffusers and transformers raise many types for damaged folders
        raise InputError(f"{folder} cannot be loaded as a {own.__name__}: {first_line(error)}") from error


def _pipeline_class(index: Mapping[str, Any]) -> Any:
    """The pipeline class of diffusers that model_index.json names; None for none."""
    if "_class_name" not in index:  # nor is diffusers imported, which takes a second
        return None
    with quiet():  # importing a pipeline warns of what is not installed
        named, base = class_named(index.get("_class_name")), class_named("DiffusionPipeline")
    return named if isinstance(named, type) and issubclass(named, base) and named is not base else None


def _loaded(kind: type[nn.Module], part: Path, device: torch.device, dtype: torch.dtype) -> Any:
    if not part.is_dir():
        raise InputError(f"{part} is missing, and model_index.json names it")
    if issubclass(kind, class_named("ModelMixin")):
        return load_module(kind, part, device, dtype)
    return load_encoder(kind, part, device, dtype)


def _module_class(part: Path, library: str, name: str) -> type[nn.Module] | None:
    """The class of a part that has weights; None for one of configuration alone, as tokenizers are.

    Raises InputError for a part of another library, which could run code, and for a pipeline inside of the pipeline.
    """
    kind: Any = getattr(_library(part, library), name, None)
    if kind is None:  # which diffusers may know by another name, as of old tokenizers
        return None
    if not isinstance(kind, type):
        raise InputError(f"{part} is a {library}.{name}, which is no class")
    if issubclass(kind, class_named("DiffusionPipeline")):
        raise InputError(f"{part} is a pipeline inside of a pipeline, which fewer does not read so far")
    return kind if issubclass(kind, nn.Module) else None


def _library(part: Path, name: str) -> Any:
    """diffusers, transformers, or the module of a pipeline of diffusers."""
    import diffusers

    if name == "transformers":
        return transformers_for(part)
    found = diffusers if name == "diffusers" else getattr(diffusers.pipelines, name, None)
    if not isinstance(found, ModuleType):
        raise InputError(
            f"{part} is of {name[:80]!r}; fewer reads parts of diffusers and transformers, and runs no other code"
        )
    return found
