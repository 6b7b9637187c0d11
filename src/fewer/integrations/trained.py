"""The network's training process in a scheduler's configuration: noise schedule, prediction type, bounds, tensors as text."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from fewer.errors import InputError, first_line
from fewer.models.angles import Angle, Cosine
from fewer.models.denoiser import Clip
from fewer.models.ending import EndedNetwork
from fewer.models.model import Model
from fewer.models.pipelines.defaults import own_scheduler
from fewer.models.pipelines.scheduler_config import clip_of, explodes, schedule_of, settings
from fewer.models.schedules import Discrete, Flow, Schedule, VarianceExploding

PROCESSES: dict[str, Callable[..., Schedule]] = {
    "variance-preserving": Discrete,
    "variance-exploding": VarianceExploding,
    "flow": Flow,
    "cosine": Cosine,
    "angle": Angle,
}

# entries of a FewerScheduler's configuration that describe its network and the pipeline's own scheduler
OWN = ("process", "schedule", "predicts", "sigma_data", "clip", "exploding", "scheduler")


def described(trained: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The noise schedule, the prediction and the bounds on it of a Model or a scheduler, and its scheduler's configuration.

    Raises InputError for noise schedules and predictions that are not known.
    """
    if isinstance(trained, Model):
        trained = of_data(trained)
        schedule, predicts, sigma_data, clip = trained.schedule, trained.predicts, trained.sigma_data, trained.clip
        own = None if trained.pipeline is None else own_scheduler(trained.pipeline)
    elif hasattr(trained, "config"):
        schedule, predicts, sigma_data = schedule_of(trained)
        clip, own = clip_of(trained), trained
    else:
        raise InputError(f"got a {type(trained).__name__}; expected a Model or a diffusers scheduler")
    config = {} if own is None else settings(own)
    if predicts not in ("edm", "consistency"):
        sigma_data = config.get("sigma_data", sigma_data)  # which some pipelines of flow models read
    process = next((name for name, known in PROCESSES.items() if type(schedule) is known), None)
    if process is None or not isinstance(schedule, Discrete | VarianceExploding | Flow | Cosine | Angle):
        raise InputError(
            f"a {type(schedule).__name__} schedule is not supported; expected one of {', '.join(PROCESSES)}"
        )
    numbers = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(schedule).items()}
    bounds = None if clip is None else asdict(clip)
    known = {
        "process": process, "schedule": numbers, "predicts": predicts, "sigma_data": sigma_data, "clip": bounds,
        "exploding": own is not None and explodes(own, schedule), "scheduler": None if own is None else type(own).__name__,
    }  # fmt: skip
    return known, config


def of_data(model: Model) -> Model:
    """A model in its network's own frame, where its samples are above the data (see fewer.models.ending); else itself."""
    if not isinstance(model.network, EndedNetwork):
        return model
    own = model.network.denoiser
    return replace(model, **{each.name: getattr(own, each.name) for each in fields(own)})


def frame(
    process: str,
    schedule: Mapping[str, Any] | None,
    predicts: str,
    sigma_data: float,
    clip: Mapping[str, float | None] | None,
) -> Model:
    """A model that has these numbers and no network. Raises InputError for words and numbers that are not known.

    Without a `schedule`, as older configurations are, times of the model mean nothing.
    """
    if process not in PROCESSES:
        raise InputError(f"process is {process!r}; expected one of {', '.join(PROCESSES)}")
    try:
        bounds = None if clip is None else Clip(**clip)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(f"clip is {clip!r}; expected bound and quantile") from error
    return Model(_no_network, _schedule(process, schedule), predicts, (1,), 1, 1, clip=bounds, sigma_data=sigma_data)


def _schedule(process: str, given: Mapping[str, Any] | None) -> Schedule:
    """The schedule of a process with these numbers; without them one that scales the state as all of the process do."""
    if given is None:
        given = {"alpha_bar": (0.5, 0.25)} if process == "variance-preserving" else {}
    numbers = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    try:
        return PROCESSES[process](**numbers)
    except (TypeError, ValueError) as error:
        raise InputError(f"schedule is no {process} one: {first_line(error)}") from error


def _no_network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    raise InputError("a scheduler has no network")


def packed(tensors: dict[str, Tensor]) -> str | None:
    """Tensors as text: safetensors in base64; None for none."""
    return base64.b64encode(dump_safetensors(tensors)).decode() if tensors else None


def unpacked(text: str | None) -> dict[str, Tensor]:
    """The tensors of such a text in float32. Raises InputError for anything else."""
    if text is None:
        return {}
    try:
        found = parse_safetensors(base64.b64decode(text, validate=True))
    except Exception as error:  # safetensors raises a type of its own for each kind of damage
        raise InputError(f"tensors is no base64 of safetensors (nothing else is ever loaded): {error}") from error
    return {name: tensor.to(torch.float32) for name, tensor in found.items()}
