"""Calls of tiny pipelines, whose loops are cut, and their networks' own outputs."""

from __future__ import annotations

import gc
import inspect
import threading
from typing import Any

import diffusers
import pipelines as plain
import pytest
import tiny_pipelines as tiny
import torch
from torch import Tensor

SCALE = 5.0


def call_of(case: tiny.Case, **more: Any) -> dict[str, Any]:
    """The arguments by which a case calls its pipeline."""

    class Caught(Exception):
        pass

    kind, found = type(case.pipe), {}
    own = kind.__call__
    names = list(inspect.signature(own).parameters)[1:]

    def catch(self: Any, *args: Any, **kwargs: Any) -> None:
        found.update(dict(zip(names, args, strict=False)) | kwargs)
        raise Caught

    kind.__call__ = catch
    try:
        with pytest.raises(Caught):
            case.run(4, **more)
    finally:
        kind.__call__ = own
    return found


def ddim() -> tiny.Case:
    return tiny.unconditional("DDIMPipeline", diffusers.DDIMScheduler(**plain.LINEAR, clip_sample=False))


def ddpm() -> tiny.Case:
    return tiny.unconditional("DDPMPipeline", diffusers.DDPMScheduler(**plain.LINEAR, clip_sample=False))


def guided_flux() -> tiny.Case:
    return tiny.flux(guidance_embeds=True)


def direct(case: tiny.Case, x: Tensor, t: float, scale: float, label: int | list[int] = 0) -> Tensor:
    """The output of the network itself, guided by its two passes."""
    model = case.model
    with torch.inference_mode():
        if model.classes is None:
            return model(x, t, None)
        of_label = model(x, t, torch.as_tensor(label).expand(len(x)))
        if scale == 1:
            return of_label
        empty = model(x, t, torch.full((len(x),), model.empty_label))
    return empty + scale * (of_label - empty)


def same(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) < 1e-5 * float(b.abs().max())


def threads() -> list[threading.Thread]:
    """Of pipelines that wait for a question; those of models that are gone have ended, as soon as they are collected."""
    gc.collect()
    return [each for each in threading.enumerate() if each.name.startswith("fewer")]


def parts(case: tiny.Case) -> list[Any]:
    """All that a pipeline holds, and the hooks on its network."""
    network = getattr(case.pipe, "unet", None) or case.pipe.transformer
    hooks = [list(each.values()) for each in (network._forward_hooks, network._forward_pre_hooks)]
    return [*vars(case.pipe).items(), *vars(network).keys(), hooks, network.forward]


def made(kind: Any = diffusers.DDPMPipeline, scheduler: Any = None) -> Any:
    return kind(plain.unet().eval(), scheduler or diffusers.DDPMScheduler(**plain.LINEAR))
