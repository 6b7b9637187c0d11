"""Tiny networks and autoencoders of diffusers with random weights, from the names of their parameters.

A parameter's name decides its value; where that does not do for a class, the tables beside this file have its own.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import diffusers
import torch

from benchmarks.fleet.autoencoders import AUTOENCODERS
from benchmarks.fleet.transformers import TRANSFORMERS
from benchmarks.fleet.unets import UNETS

# a size for every parameter of that name
WIDTH = 16  # of texts, pooled texts and hidden layers; two heads of 8
LATENT = 4  # channels of latents; packed two by two they are 16
ONE = (
    "num_layers num_single_layers num_refiner_layers num_mmdit_layers num_single_dit_layers n_layers n_refiner_layers depth "
    "num_hidden_layers mmdit_layers num_text_blocks num_visual_blocks num_layerwise_text_blocks num_refiner_text_blocks "
    "perceiver_num_layers dit_depth layers_per_block approximator_layers num_res_blocks"
)
TWO = (
    "num_attention_heads n_heads num_heads num_kv_heads n_kv_heads num_key_value_heads num_cross_attention_heads dit_heads "
    "text_num_attention_heads text_num_key_value_heads num_key_value_attention_heads motion_num_attention_heads norm_num_groups"
)
EIGHT = (
    "attention_head_dim head_dim cross_attention_head_dim sample_size sample_width sample_height adaln_lora_dim adaln_dim "
    "conditioning_dim motion_max_seq_length"
)
SIXTEEN = (
    "cross_attention_dim caption_channels joint_attention_dim pooled_projection_dim caption_projection_dim text_embed_dim "
    "text_dim in_text_dim in_text_dim2 cap_feat_dim context_in_dim text_hidden_dim text_in_dim freq_dim time_embed_dim time_dim "
    "model_dim hidden_size dim embed_dim dit_dim dit_text_dim text_embed_2_dim text_emb_dim cross_attention_dim_t5 "
    "image_embed_dim time_proj_dim condition_dim timestep_embed_dim timestep_guidance_channels approximator_num_channels "
    "approximator_hidden_dim pos_embed_max_size encoder_hidden_size text_encoder_dim llm_features_dim rope_max_seq_len"
)
THIRTY_TWO = "ffn_dim ff_dim intermediate_size ffn_hidden_size text_intermediate_size multiple_of"
SIZES: dict[str, Any] = {
    name: size
    for size, names in ((1, ONE), (2, TWO), (8, EIGHT), (WIDTH, SIXTEEN), (32, THIRTY_TWO))
    for name in names.split()
}
SIZES |= dict.fromkeys(("max_text_seq_length", "text_len", "text_len_t5"), 4)
ROPE = (2, 2, 4)
SIZES |= dict.fromkeys(("axes_dims_rope", "rope_axes_dim", "axes_dims", "axes_dim_rope", "rope_dim_list"), ROPE)

CLASSES = {**AUTOENCODERS, **UNETS, **TRANSFORMERS}
# of networks that are told of sizes and pooled texts
XL = {
    "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + WIDTH,
}  # fmt: skip


def tiny(kind: type, seed: int = 0, **given: Any) -> Any:
    """A network or autoencoder of this class, every weight drawn: some are made as zeros, and what follows would do nothing."""
    names = inspect.signature(kind.__init__).parameters
    sizes = {name: size for name, size in SIZES.items() if name in names}
    torch.manual_seed(seed)
    made = kind(**(sizes | CLASSES.get(kind.__name__, {}) | given))
    generator = torch.Generator().manual_seed(seed)
    for weights in made.parameters():
        weights.data.normal_(0, 0.15, generator=generator)
    return made.eval().requires_grad_(False)


def made(name: str, **given: Any) -> partial[Any]:
    """What makes the same of a class that diffusers exports by this name."""
    return partial(lambda: tiny(getattr(diffusers, name), **given))


def scheduler(name: str, **given: Any) -> partial[Any]:
    """What makes a scheduler of diffusers of this name."""
    return partial(lambda: getattr(diffusers, name)(**given))
