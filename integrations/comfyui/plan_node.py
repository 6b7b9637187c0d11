"""A node that reads a plan's file, and gives the sigmas and the sampler that play it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_sampling
import comfy.samplers
import torch

from fewer import InputError, Plan, plan_sigmas, sample_k_diffusion
from fewer.integrations.engine_guidance import row_scales
from fewer.integrations.k_diffusion import check_playable

ABOVE = 1e-3  # share by which a plan's first sigma may be above the model's noisiest


class FewerPlan:
    """Sigmas, a sampler, and the model with the plan's guidance scales, for SamplerCustom and SamplerCustomAdvanced."""

    RETURN_TYPES = ("SIGMAS", "SAMPLER", "MODEL")
    FUNCTION = "load"
    CATEGORY = "sampling/custom_sampling"
    DESCRIPTION = (
        "Reads a plan that fewer tune has written. The model goes on with the guidance scales of the plan's rows."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs: a model, and the path of a plan's file."""
        return {"required": {"model": ("MODEL",), "plan": ("STRING", {"default": "plan.json"})}}

    @classmethod
    def IS_CHANGED(cls, model: Any, plan: str) -> float:
        """When the file was written last, so that a new plan is read anew."""
        return Path(plan).stat().st_mtime if Path(plan).is_file() else math.nan

    def load(self, model: Any, plan: str) -> tuple[torch.Tensor, Any, Any]:
        """Sigmas (N + 1,), the sampler, and the model. Raises InputError for plans that this model cannot play."""
        table = Plan.load(plan)
        check_playable(table)
        process = model.get_model_object("model_sampling")
        sigmas = plan_sigmas(table, isinstance(process, comfy.model_sampling.CONST))
        if float(sigmas[0]) > float(process.sigma_max) * (1 + ABOVE):
            raise InputError(
                f"plan {table.name!r} begins at sigma {float(sigmas[0]):.4g}, above the {float(process.sigma_max):.4g} of this "
                "model: it was made for another one"
            )
        unguided = replace(table, rows=tuple(replace(row, guidance=None) for row in table.rows))
        sampler = comfy.samplers.KSAMPLER(sample_k_diffusion, extra_options={"plan": unguided})
        return sigmas, sampler, guided(model, row_scales(table), sigmas)


def guided(model: Any, scales: list[float | None], sigmas: torch.Tensor) -> Any:
    """A clone of the model that guides each call by its row's scale, 1 where the row does not; the model for no guided rows."""
    if set(scales) == {None}:
        return model
    clone = model.clone()
    clone.set_model_sampler_cfg_function(scaled(scales, sigmas), disable_cfg1_optimization=True)
    return clone


def scaled(scales: list[float | None], sigmas: torch.Tensor) -> Callable[[dict[str, Any]], torch.Tensor]:
    """ComfyUI's function of guidance: x less the guided data prediction, by the scale of the row whose sigma is nearest."""

    def function(args: dict[str, Any]) -> torch.Tensor:
        sigma = float(args["sigma"].flatten()[0])
        scale = scales[int((sigmas[:-1] - sigma).abs().argmin())]
        label, empty = args["cond_denoised"], args["uncond_denoised"]
        return args["input"] - (empty + (1.0 if scale is None else scale) * (label - empty))

    return function
