"""What the tables of names do not tell: parts and arguments of single classes and families."""

from __future__ import annotations

from typing import Any

from benchmarks.fleet.families import flows, pixels, sounds, stable_diffusion, videos
from benchmarks.fleet.families.flows import BUCKETED, OWN_SIZES, PROMPTED, SMALL_AREAS

TABLES = (stable_diffusion, pixels, flows, videos, sounds)
PARTS: dict[str, dict[str, Any]] = {name: parts for table in TABLES for name, parts in table.PARTS.items()}
CALLS: dict[str, dict[str, Any]] = {name: told for table in TABLES for name, told in table.CALLS.items()}

# changes of the call without guidance, of classes that diffusers cannot call otherwise
PLAIN: dict[str, dict[str, Any]] = {
    "HunyuanDiTPAGPipeline": {"pag_scale": 0.0},
    "AnyFlowPipeline": {"negative_prompt_embeds": None},
    "StableCascadePriorPipeline": {"negative_prompt_embeds": None, "negative_prompt_embeds_pooled": None},
    "WuerstchenPriorPipeline": {"negative_prompt_embeds": None},
}

__all__ = ["BUCKETED", "CALLS", "OWN_SIZES", "PARTS", "PLAIN", "PROMPTED", "SMALL_AREAS"]
