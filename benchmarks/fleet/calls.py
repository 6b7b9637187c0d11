"""The arguments of a pipeline's call, by their names."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from benchmarks.fleet.families import CALLS, PLAIN, PROMPTED
from benchmarks.fleet.networks import WIDTH
from benchmarks.fleet.pictures import drawn, mask, picture, pictures

TEXT = 4  # tokens of a text
MASKS = [
    f"{sign}{name}{number}"
    for sign in ("", "negative_")
    for name in ("prompt_attention_mask", "prompt_embeds_mask")
    for number in ("", "_2")
]


def call(kind: type, guided: bool) -> dict[str, Any]:
    """Arguments of the pipeline's call for one sample, with guidance or without."""
    names = inspect.signature(kind.__call__).parameters
    own = CALLS.get(kind.__name__, {}) | ({} if guided else PLAIN.get(kind.__name__, {}))
    size = own.get("height", 16)
    scale = 5.0 if guided else 1.0
    latents = '"latent"' in inspect.getsource(kind.__call__)
    ones, embeds = torch.ones(1, TEXT, dtype=torch.long), (1, TEXT, WIDTH)
    table: dict[str, Any] = {
        **dict.fromkeys(MASKS, ones),
        "prompt_embeds": drawn(*embeds, seed=2), "negative_prompt_embeds": drawn(*embeds, seed=3),
        "pooled_prompt_embeds": drawn(1, WIDTH, seed=4), "negative_pooled_prompt_embeds": drawn(1, WIDTH, seed=5),
        "prompt_embeds_2": drawn(*embeds, seed=6), "negative_prompt_embeds_2": drawn(*embeds, seed=7),
        "image": picture(size=size), "mask_image": mask(size), "control_image": picture(1, size), "strength": 0.8,
        "video": pictures(own.get("num_frames", 2), size),
        "height": size, "width": size, "num_frames": 2, "output_type": "latent" if latents else "np", "max_sequence_length": TEXT,
        "use_resolution_binning": False, "_auto_resize": False, "max_area": size * size, "prompt": "a fox in the snow",
        "image_embeds": drawn(1, WIDTH, seed=8), "negative_image_embeds": drawn(1, WIDTH, seed=9),
        "eta": 0.0, "batch_size": 1, "class_labels": [1], "guidance_scale": scale, "true_cfg_scale": scale,
        "min_guidance_scale": 1.0, "max_guidance_scale": scale,
    }  # fmt: skip
    given = {name: value for name, value in table.items() if name in names}
    if "prompt_embeds" in names and kind.__name__ not in PROMPTED:
        given.pop("prompt", None)
    elif "prompt_embeds" in names:
        given = {name: value for name, value in given.items() if "_embeds" not in name and "_mask" not in name}
    given |= {name: value for name, value in own.items() if name in names}
    texts = "negative_prompt" in names and names["negative_prompt"].default is not None
    if texts and "prompt_embeds" in given and "prompt" not in given:
        given["negative_prompt"] = None
    return given
