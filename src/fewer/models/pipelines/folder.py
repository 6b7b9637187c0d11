"""Reading a pipeline folder in diffusers format: network, noise schedule, prediction type, clipping.

All of it comes from the folder's configuration files. Weights are read from safetensors only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError, one_line
from fewer.files import read_json
from fewer.models.denoiser import LONGEST_NAME
from fewer.models.distilled import distilled_for
from fewer.models.model import Model
from fewer.models.pipelines.defaults import own_guidance, own_steps, shifted
from fewer.models.pipelines.network_files import hash_of, hashes_of, load_module, network_folder
from fewer.models.pipelines.pipeline_defaults import DynamicShift, PipelineDefaults
from fewer.models.pipelines.scheduler_config import (
    class_named,
    clip_of,
    make_scheduler,
    planned_scheduler,
    schedule_of,
    settings,
)

ALONE = ("UNet2DModel", "DiTTransformer2DModel")
COMPONENTS = ("unet", "transformer", "scheduler", "vae")


class DiffusersNetwork:
    """A diffusers UNet2DModel or DiTTransformer2DModel as network(x, t, labels) -> output."""

    def __init__(self, module: nn.Module, wants_labels: bool) -> None:
        self.module = module
        self.wants_labels = wants_labels

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Output (n, C or 2 C, H, W) in the module's dtype."""
        classes = labels if self.wants_labels else None
        output: Tensor = self.module(x, timestep=t, class_labels=classes, return_dict=False)[0]
        return output


def load_folder(
    folder: Path, device: torch.device, dtype: torch.dtype | None = None, empty_label: int | None = None
) -> Model:
    """The model of a pipeline folder, or of `unet/` or `transformer/` beside `scheduler/`.

    `empty_label` names the label that was trained as 'no class' where the folder does not say it (a `fewer.json`
    with "classes" and "empty_label" does). Raises InputError for anything that is not such a folder.
    """
    index, own = read_if_there(folder / "model_index.json"), read_if_there(folder / "fewer.json")
    part = network_folder(folder)
    kind = read_json(part / "config.json").get("_class_name")
    if not isinstance(kind, str) or kind not in ALONE:
        raise InputError(f"{part / 'config.json'} is a {kind}; fewer reads {' and '.join(ALONE)} so far")
    _check_components(folder, index)
    scheduler = scheduler_of(folder)
    dtype = dtype or torch.float32
    module = load_module(class_named(kind), part, device, dtype)
    classes, empty = _classes(kind, module.config, own, empty_label)
    return Model(
        network=DiffusersNetwork(module, classes is not None),
        shape=sample_shape(module.config, part),
        classes=classes,
        empty_label=empty,
        data_range=data_range(own),
        decode=decoder(load_autoencoder(folder / "vae", device)) if (folder / "vae").is_dir() else None,
        name=own_name(folder, own),
        hash=hash_of(folder),
        known_as=partial(hashes_of, module),
        device=device,
        dtype=dtype,
        **process(index.get("_class_name"), scheduler),
    )


def process(pipeline: Any, scheduler: Any, shift: DynamicShift | None = None) -> dict[str, Any]:
    """Fields of a Model that a pipeline's class name and scheduler decide: its training process and sampling defaults.

    `shift` is that of the scheduler's levels by the pipeline (`fewer.models.pipelines.defaults.dynamic_shift`).
    """
    schedule, predicts, sigma_data = schedule_of(scheduler)
    steps = own_steps(pipeline, shifted(copy.deepcopy(scheduler), shift))
    defaults = PipelineDefaults(type(scheduler).__name__, settings(scheduler), steps, own_guidance(pipeline), shift)
    return {
        "schedule": schedule, "predicts": predicts, "sigma_data": sigma_data, "clip": clip_of(scheduler),
        "pipeline": defaults, "distilled": distilled_for(defaults.scheduler, steps),
    }  # fmt: skip


def read_if_there(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no such file."""
    return read_json(path) if path.exists() else {}


def own_name(folder: Path, own: dict[str, Any]) -> str:
    """The name in fewer.json, which `Model` checks, or else that of the folder."""
    return own.get("name") or one_line(folder.resolve().name)[:LONGEST_NAME] or "model"


def parts_of(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of each part of a pipeline that model_index.json names, without those that are left out."""
    return {
        name: (value[0], value[1])
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
        if not name.startswith("_")
    }


def _check_components(folder: Path, index: dict[str, Any]) -> None:
    """InputError for a pipeline with further parts, without which its samples would differ."""
    for name in parts_of(index):
        if name not in COMPONENTS:
            raise InputError(
                f"{folder} is a {index.get('_class_name')} with {name!r}, which fewer does not read so far"
            )


def sample_shape(config: Any, part: Path) -> tuple[int, int, int]:
    """(C, H, W) of what the network of a folder denoises. Raises InputError for a sample_size that is no number of pixels."""
    size = config["sample_size"]
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    for value in (height, width):
        if not _is_count(value):
            raise InputError(f"{part / 'config.json'} has sample_size {size!r}; expected the pixels of a side")
    return config["in_channels"], height, width


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _classes(kind: str, config: Any, own: dict[str, Any], empty: int | None) -> tuple[int | None, int | None]:
    """How many classes there are, and the label that stands for none of them."""
    if kind == "DiTTransformer2DModel":
        known = config["num_embeds_ada_norm"]
        labels = known + 1  # its label embedding has one row more, for dropped labels
        empty = known if empty is None else empty
    else:
        known, embedded = config["num_class_embeds"], config["class_embed_type"]
        if embedded not in (None, "timestep") or (embedded and known is None):
            raise InputError(f"class_embed_type {embedded!r} is not supported; expected integer labels")
        if known is None:
            if empty is not None or own.get("empty_label") is not None:
                raise InputError("an empty label was given for a network without classes")
            return None, None
        empty = own.get("empty_label") if empty is None else empty
        labels, known = known, known - 1 if empty == known - 1 else known
    classes = own.get("classes", known)
    if not _is_count(classes) or classes > labels:
        raise InputError(f"classes is {classes!r}; the network embeds {labels} labels")
    if empty is not None and (not isinstance(empty, int) or isinstance(empty, bool) or not 0 <= empty < labels):
        raise InputError(f"empty label {empty!r} is out of range; the network embeds labels 0 .. {labels - 1}")
    return classes, empty


def data_range(own: dict[str, Any]) -> tuple[float, float]:
    """The values that images take, as fewer.json has them, or [-1, 1]. Raises InputError for what is no range."""
    given = own.get("data_range", [-1.0, 1.0])
    numbers = isinstance(given, list) and len(given) == 2 and all(isinstance(v, int | float) for v in given)
    if not numbers or not -math.inf < given[0] < given[1] < math.inf:
        raise InputError(f"data_range is {given!r}; expected two rising numbers such as [-1, 1]")
    return float(given[0]), float(given[1])


def load_autoencoder(part: Path, device: torch.device) -> Any:
    """The AutoencoderKL of a folder, in float32."""
    return load_module(class_named("AutoencoderKL"), part, device, torch.float32)


def decoder(vae: Any) -> Callable[[Tensor], Tensor]:
    """From latents to images: the decoder of `latents / scaling_factor`, moved as the VAE's configuration says."""
    config = vae.config
    mean: Any = config.get("shift_factor") or 0.0
    std: Any = 1.0
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        numbers = (config["latents_mean"], config["latents_std"])
        mean, std = (torch.tensor(each, dtype=torch.float32).view(1, -1, 1, 1).to(vae.device) for each in numbers)

    def decode(latents: Tensor) -> Tensor:
        with torch.inference_mode():
            images: Tensor = vae.decode(latents * std / config.scaling_factor + mean).sample
        return images

    return decode


def scheduler_of(folder: Path) -> Any:
    """The folder's own diffusers scheduler. Raises InputError where there is none that diffusers knows."""
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.exists():
        raise InputError(f"{folder} has no scheduler/scheduler_config.json")
    config = read_json(path)
    if config.get("_class_name") == "FewerScheduler":  # of a pipeline that was saved with its plan
        return planned_scheduler(config)
    return make_scheduler(config.get("_class_name"), config)
