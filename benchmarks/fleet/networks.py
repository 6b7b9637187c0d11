"""Tiny networks and autoencoders of diffusers with random weights, from the names of their parameters.

A parameter's name decides its value; where that does not do for a class, CLASSES has its own.
"""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch

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

UNET = {
    "block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 4, "num_attention_heads": None,
}  # fmt: skip
XL = {
    "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + WIDTH,
}  # fmt: skip
KL = {
    "block_out_channels": (4, 4), "latent_channels": LATENT, "sample_size": 16, "shift_factor": 0.1,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
FLUX2_VAE = {name: value for name, value in KL.items() if name != "shift_factor"}
WAN_VAE = {
    "base_dim": 3, "z_dim": LATENT, "dim_mult": [1, 1, 1, 1], "latents_mean": [0.0] * LATENT, "latents_std": [1.0] * LATENT,
    "temperal_downsample": [False, True, True],
}  # fmt: skip
LATENTS = {"in_channels": LATENT, "out_channels": LATENT}
WAN = {**LATENTS, "rope_max_seq_len": 32}
PACKED = {"in_channels": 4 * LATENT, "out_channels": 4 * LATENT}
COG_BLOCKS = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (8, 8, 8, 8), "latent_channels": LATENT,
}  # fmt: skip
MOTION = {"block_out_channels": (8, 8), "motion_max_seq_length": 8}
HUNYUAN_VAE = {"in_channels": 3, "out_channels": 3, "latent_channels": LATENT, "block_out_channels": (32, 32), "layers_per_block": 1,
               "spatial_compression_ratio": 4, "downsample_match_channel": False, "upsample_match_channel": False}

CLASSES: dict[str, dict[str, Any]] = {
    "AutoencoderKL": KL,
    "AutoencoderKLWan": WAN_VAE,
    "AutoencoderKLQwenImage": WAN_VAE,
    "AutoencoderKLCogVideoX": COG_BLOCKS,
    "AutoencoderTiny": {"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4),
                        "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "latent_channels": LATENT},
    "AutoencoderKLFlux2": FLUX2_VAE,
    "VQModel": {"block_out_channels": (4, 4), "latent_channels": LATENT, "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2, "num_vq_embeddings": 8},
    "UNet2DModel": {"in_channels": 1, "out_channels": 1, "block_out_channels": (8,), "down_block_types": ("DownBlock2D",),
                    "up_block_types": ("UpBlock2D",)},
    "UNet2DConditionModel": UNET,
    "UNet3DConditionModel": {"num_attention_heads": None, "block_out_channels": (8, 16), "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
                             "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "attention_head_dim": 4},
    "MotionAdapter": {**MOTION, "motion_layers_per_block": 1, "motion_norm_num_groups": 2},
    "ControlNetModel": {"block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                        "conditioning_embedding_out_channels": (4, 8), "attention_head_dim": 4, "num_attention_heads": None},
    "SD3Transformer2DModel": LATENTS,
    "SD3ControlNetModel": LATENTS,
    "AuraFlowTransformer2DModel": LATENTS,
    "FluxTransformer2DModel": {**PACKED, "out_channels": None},
    "FluxControlNetModel": {"in_channels": 16},
    "ChromaTransformer2DModel": {**PACKED, "out_channels": None},
    "BriaTransformer2DModel": {"in_channels": 16}, "BriaFiboTransformer2DModel": {"in_channels": 16, "joint_attention_dim": 32},
    "LongCatImageTransformer2DModel": {"in_channels": 16}, "OvisImageTransformer2DModel": PACKED,
    "QwenImageTransformer2DModel": {"in_channels": 16, "out_channels": LATENT},
    "QwenImageControlNetModel": {"in_channels": 16, "out_channels": LATENT},
    "Flux2Transformer2DModel": {**PACKED, "out_channels": None, "axes_dims_rope": (2, 2, 2, 2)},
    "PixArtTransformer2DModel": {"in_channels": LATENT, "out_channels": 2 * LATENT, "use_additional_conditions": False},
    "WanTransformer3DModel": WAN,
    "SkyReelsV2Transformer3DModel": WAN,
    "LTXVideoTransformer3DModel": LATENTS, "VersatileUNet": {},
    "SanaTransformer2DModel": LATENTS,
    "CogView3PlusTransformer2DModel": LATENTS,
    "CogView4Transformer2DModel": LATENTS,
    "Lumina2Transformer2DModel": {"in_channels": LATENT, "num_kv_heads": 1},
    "LuminaNextDiT2DModel": {"in_channels": LATENT},
    "ZImageTransformer2DModel": {"in_channels": LATENT, "axes_lens": [64, 16, 16]},
    "MochiTransformer3DModel": {"in_channels": 12},
    "CogVideoXTransformer3DModel": {**LATENTS, "sample_width": 2, "sample_height": 2, "sample_frames": 9, "time_embed_dim": 2},
    "AllegroTransformer3DModel": {**LATENTS, "sample_frames": 2, "cross_attention_dim": WIDTH},
    "LatteTransformer3DModel": {"in_channels": LATENT, "out_channels": 2 * LATENT, "patch_size": 2, "video_length": 2,
                                "norm_type": "ada_norm_single", "num_embeds_ada_norm": 1000},
    "DiTTransformer2DModel": {"in_channels": LATENT, "out_channels": 2 * LATENT, "num_embeds_ada_norm": 1000},
    "CosmosTransformer3DModel": {"in_channels": LATENT, "out_channels": LATENT, "attention_head_dim": 16, "text_embed_dim": WIDTH,
                                 "max_size": (4, 8, 8), "concat_padding_mask": False, "crossattn_proj_in_channels": WIDTH, "encoder_hidden_states_channels": WIDTH},
    "HunyuanVideoTransformer3DModel": LATENTS, "HunyuanVideoFramepackTransformer3DModel": {**LATENTS, "has_clean_x_embedder": True, "has_image_proj": True, "image_proj_dim": WIDTH},
    "HunyuanVideo15Transformer3DModel": {"in_channels": 2 * LATENT + 1, "out_channels": LATENT},
    "HunyuanImageTransformer2DModel": {**LATENTS, "rope_axes_dim": (4, 4)},
    "Kandinsky5Transformer3DModel": {"in_visual_dim": LATENT, "out_visual_dim": LATENT},
    "Kandinsky3UNet": {"in_channels": LATENT, "groups": 2, "block_out_channels": (8, 16), "encoder_hid_dim": WIDTH, "time_embedding_dim": 16, "attention_head_dim": 4},
    "ErnieImageTransformer2DModel": PACKED, "GlmImageTransformer2DModel": {**LATENTS, "prior_vq_quantizer_codebook_size": 8},
    "PRXTransformer2DModel": {"in_channels": LATENT, "axes_dim": (4, 4)},
    "HunyuanDiT2DModel": {"in_channels": LATENT, "patch_size": 2, "text_len": 4, "text_len_t5": 4},
    "HunyuanDiT2DControlNetModel": {"in_channels": LATENT, "patch_size": 2, "transformer_num_layers": 2, "text_len": 4, "text_len_t5": 4},
    "CosmosControlNetModel": {"in_channels": LATENT, "latent_channels": LATENT + 2, "model_channels": 32, "attention_head_dim": 16,
                              "max_size": (4, 8, 8), "n_controlnet_blocks": 1, "crossattn_proj_in_channels": WIDTH,
                              "encoder_hidden_states_channels": WIDTH, "img_context_dim_out": WIDTH},
    "AutoencoderKLCosmos": {"latent_channels": LATENT, "encoder_block_out_channels": (8, 8), "decode_block_out_channels": (8, 8),
                            "attention_resolutions": (8,), "resolution": 16, "patch_size": 2},
    "AutoencoderKLMagvit": {"block_out_channels": (8, 8, 8, 8), "latent_channels": LATENT, "spatial_group_norm": False},
    "EasyAnimateTransformer3DModel": {**LATENTS, "attention_head_dim": 16, "patch_size": 2},
    "AutoencoderKLHunyuanVideo": {"block_out_channels": (8, 8, 8, 8), "latent_channels": LATENT},
    "AutoencoderKLHunyuanVideo15": {**HUNYUAN_VAE, "temporal_compression_ratio": 2},
    "AutoencoderKLHunyuanImage": {**HUNYUAN_VAE, "sample_size": 16},
    "AutoencoderKLHunyuanImageRefiner": {**HUNYUAN_VAE, "temporal_compression_ratio": 2},
    "AutoencoderKLLTXVideo": {"latent_channels": LATENT, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
                              "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1),
                              "patch_size": 1, "spatio_temporal_scaling": (True, True, False, False),
                              "decoder_spatio_temporal_scaling": (True, True, False, False)},
    "AutoencoderKLLTX2Video": {"latent_channels": LATENT, "block_out_channels": (8,), "decoder_block_out_channels": (8,),
                               "layers_per_block": (1,), "decoder_layers_per_block": (1, 1), "spatio_temporal_scaling": (True,),
                               "decoder_spatio_temporal_scaling": (True,), "decoder_inject_noise": (False, False),
                               "downsample_type": ("spatial",), "upsample_residual": (False,), "upsample_factor": (1,),
                               "upsample_type": ("spatial",), "patch_size": 1, "down_block_types": ("LTX2VideoDownBlock3D",)},
    "AutoencoderKLLTX2Audio": {"base_channels": 4, "latent_channels": LATENT, "ch_mult": (1,), "mel_bins": 16, "resolution": 32},
    "AutoencoderKLMochi": {"latent_channels": 12, "encoder_block_out_channels": (32, 32, 32, 32), "layers_per_block": (1, 1, 1, 1, 1),
                           "decoder_block_out_channels": (32, 32, 32, 32)},
    "AutoencoderKLAllegro": {"block_out_channels": (8, 8, 8, 8), "latent_channels": LATENT},
    "AutoencoderKLTemporalDecoder": {"block_out_channels": (4, 4), "latent_channels": LATENT,
                                     "down_block_types": ("DownEncoderBlock2D",) * 2},
    "AutoencoderKLQwenImage21": {"base_dim": 4, "decoder_base_dim": 4, "z_dim": 16, "latents_mean": [0.0] * 16,
                                 "latents_std": [1.0] * 16, "dim_mult": [1, 1, 1, 1, 1], "num_res_blocks": 1},
    "AutoencoderDC": {"latent_channels": LATENT, "encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8),
                      "encoder_block_types": ("ResBlock", "ResBlock"), "decoder_block_types": ("ResBlock", "ResBlock"),
                      "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1), "encoder_qkv_multiscales": ((), ()),
                      "decoder_qkv_multiscales": ((), ()), "encoder_out_shortcut": False, "decoder_in_shortcut": False,
                      "upsample_block_type": "interpolate", "downsample_block_type": "stride_conv", "scaling_factor": 0.4},
    "AutoencoderOobleck": {"encoder_hidden_size": 4, "downsampling_ratios": [2, 2], "channel_multiples": [1, 1],
                           "decoder_channels": 4, "decoder_input_channels": LATENT, "sampling_rate": 8},
    "SanaControlNetModel": LATENTS, "SanaVideoTransformer3DModel": {**LATENTS, "sample_size": 8},
    "UNet1DModel": {"sample_size": 64, "sample_rate": 64, "extra_in_channels": 16},
    "UNetSpatioTemporalConditionModel": {"block_out_channels": (32, 64), "addition_time_embed_dim": 8, "num_attention_heads": (2, 2),
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), "num_frames": 2,
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), "projection_class_embeddings_input_dim": 24},
    "I2VGenXLUNet": {"block_out_channels": (8, 16), "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
                     "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "num_attention_heads": None, "attention_head_dim": 4},
    "StableAudioDiTModel": {"in_channels": LATENT, "out_channels": LATENT, "global_states_input_dim": 2 * WIDTH,
                            "cross_attention_input_dim": WIDTH, "sample_size": 16},
    "StableAudioProjectionModel": {"text_encoder_dim": WIDTH, "conditioning_dim": WIDTH, "min_value": 0, "max_value": 32},
    "T2IAdapter": {"channels": [8, 8], "downscale_factor": 2, "num_res_blocks": 1},
    "ControlNetUnionModel": {"block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), **XL,
                             "conditioning_embedding_out_channels": (4, 8), "attention_head_dim": 4, "num_attention_heads": None,
                             "num_trans_channel": 8, "num_proj_channel": 8, "num_trans_head": 2},
    "SparseControlNetModel": {"block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
                              "conditioning_embedding_out_channels": (4, 8), "num_attention_heads": None, "attention_head_dim": 4},
    "WanVACETransformer3DModel": {**WAN, "vace_layers": [0], "vace_in_channels": 72},
    "WanAnimateTransformer3DModel": {**WAN, "in_channels": 2 * LATENT + 4, "latent_channels": LATENT, "image_dim": WIDTH,
        "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16}, "motion_encoder_size": 16, "motion_style_dim": 8,
        "motion_dim": 4, "motion_encoder_dim": 16, "face_encoder_hidden_dim": 16, "face_encoder_num_heads": 2,
        "inject_face_latents_blocks": 1},
    "ChronoEditTransformer3DModel": {**WAN, "in_channels": 2 * LATENT + 4, "image_dim": WIDTH, "added_kv_proj_dim": WIDTH},
    "AnyFlowTransformer3DModel": WAN, "AnyFlowFARTransformer3DModel": {**WAN, "chunk_partition": (1, 1)},
    "HeliosTransformer3DModel": {**LATENTS, "rope_dim": (4, 2, 2)},
    "HiDreamImageTransformer2DModel": {**LATENTS, "patch_size": 2, "caption_channels": [WIDTH, WIDTH], "llama_layers": [0, 0],
                                       "axes_dims_rope": (4, 4), "max_resolution": (8, 8)},
    "BriaFibo2Transformer2DModel": {"in_channels": LATENT, "injection_layer_ids": (0,)},
    "DreamLiteUNetModel": {"num_attention_heads": None, "attention_head_dim": 4, "block_out_channels": (8, 8, 8)},
    "LTX2VideoTransformer3DModel": {**LATENTS, "audio_in_channels": 64, "audio_out_channels": 64, "audio_num_attention_heads": 2,
                                    "audio_attention_head_dim": 4, "audio_cross_attention_dim": 8, "caption_channels": WIDTH},
    "StableAudio3DiTModel": {"io_channels": LATENT, "cond_token_dim": WIDTH, "global_cond_dim": WIDTH, "local_add_cond_dim": LATENT + 1,
                             "timestep_features_dim": 16, "num_memory_tokens": 2},
    "AutoencoderSAME": {"patch_size": 4, "encoder_channels": 16, "encoder_c_mults": (1,), "encoder_strides": (2,),
                        "encoder_transformer_depths": (1,), "latent_dim": LATENT, "dim_heads": 8, "sampling_rate": 16},
    "PriorTransformer": {"embedding_dim": WIDTH, "num_embeddings": 4},
    "Ideogram4Transformer2DModel": {"in_channels": 16, "mrope_section": (2, 1, 1)},
    "JoyImageEditTransformer3DModel": LATENTS, "JoyImageEditPlusTransformer3DModel": LATENTS,
    "MotifVideoTransformer3DModel": {"in_channels": 2 * LATENT + 1, "out_channels": LATENT},
    "NucleusMoEImageTransformer2DModel": {"in_channels": 16, "out_channels": LATENT, "num_experts": 2, "moe_enabled": False},
    "OmniGenTransformer2DModel": {"in_channels": LATENT, "pad_token_id": 0, "vocab_size": 64, "time_step_dim": 16},
    "QwenImage21Transformer2DModel": {"in_channels": 16, "out_channels": 16},
    "Krea2Transformer2DModel": {"in_channels": 16, "num_text_layers": 2},
    "LongCatAudioDiTTransformer": {"latent_dim": LATENT},
    "ZImageControlNetModel": {"control_layers_places": [0], "control_refiner_layers_places": [0], "control_in_dim": LATENT},
    "StableCascadeUNet": {"in_channels": LATENT, "out_channels": LATENT, "block_out_channels": (8, 8), "num_attention_heads": (2, 2),
                          "down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1), "timestep_ratio_embedding_dim": 8,
                          "clip_text_pooled_in_channels": WIDTH, "clip_seq": 1, "conditioning_dim": 16},
    "WuerstchenDiffNeXt": {"c_in": LATENT, "c_out": LATENT, "c_r": 8, "c_cond": WIDTH, "c_hidden": [8, 8], "nhead": [-1, 2], "blocks": [1, 1],
                           "level_config": ["CT", "CTA"], "inject_effnet": [False, True], "effnet_embd": LATENT, "clip_embd": WIDTH},
    "WuerstchenPrior": {"c_in": 4, "c": 8, "c_cond": WIDTH, "c_r": 8, "depth": 1, "nhead": 2},
    "PaellaVQModel": {"levels": 1, "bottleneck_blocks": 1, "embed_dim": 4, "num_vq_embeddings": 8, "latent_channels": LATENT},
    "AceStepTransformer1DModel": {"audio_acoustic_hidden_dim": LATENT, "in_channels": 3 * LATENT, "encoder_hidden_size": WIDTH},
    "AceStepConditionEncoder": {"hidden_size": WIDTH, "text_hidden_dim": WIDTH},
    "Cosmos3OmniTransformer": {"latent_channel": LATENT, "patch_latent_dim": 4 * LATENT, "vocab_size": 64, "dtype": "float32"},
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


def named(name: str, **given: Any) -> Any:
    """The same of a class that diffusers exports by this name."""
    return tiny(getattr(diffusers, name), **given)
