"""What a scheduler's configuration must say of the network: the process it was trained under, and what it predicts."""

from __future__ import annotations

import base64
from typing import Any

import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from fewer.errors import InputError
from fewer.models.from_scheduler import clip_of, schedule_of, settings
from fewer.models.model import Clip, Model
from fewer.models.schedules import Discrete, Flow, Schedule, VarianceExploding

# rows need of a process how it scales the state, which none of its other numbers changes
PROCESSES: dict[str, Schedule] = {
    "variance-preserving": Discrete((0.5, 0.25)),
    "variance-exploding": VarianceExploding(),
    "flow": Flow(),
}


def described(trained: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The process, the prediction and the bounds on it of a Model or a scheduler, and its scheduler's configuration.

    Raises InputError for noise schedules and predictions that are not known.
    """
    if isinstance(trained, Model):
        schedule, predicts, sigma_data, clip = trained.schedule, trained.predicts, trained.sigma_data, trained.clip
        config = (trained.pipeline or {}).get("config", {})
    elif hasattr(trained, "config"):
        schedule, predicts, sigma_data = schedule_of(trained)
        clip, config = clip_of(trained), settings(trained)
    else:
        raise InputError(f"got a {type(trained).__name__}; expected a Model or a diffusers scheduler")
    process = next((name for name, known in PROCESSES.items() if type(schedule) is type(known)), None)
    if process is None:
        raise InputError(
            f"a {type(schedule).__name__} schedule is not supported; expected one of {', '.join(PROCESSES)}"
        )
    bounds = None if clip is None else {"bound": clip.bound, "quantile": clip.quantile}
    return {"process": process, "predicts": predicts, "sigma_data": sigma_data, "clip": bounds}, config


def frame(process: str, predicts: str, sigma_data: float, clip: dict[str, float | None] | None) -> Model:
    """A model that has these numbers and no network. Raises InputError for words that are not known."""
    if process not in PROCESSES:
        raise InputError(f"process is {process!r}; expected one of {', '.join(PROCESSES)}")
    try:
        bounds = None if clip is None else Clip(**clip)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(f"clip is {clip!r}; expected bound and quantile") from error
    return Model(_no_network, PROCESSES[process], predicts, (1,), 1, 1, bounds, sigma_data)


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
