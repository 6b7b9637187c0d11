"""Settings of tiny convolutional networks, and of adapters beside them."""

from __future__ import annotations

from typing import Any

UNETS: dict[str, dict[str, Any]] = {
    "AudioLDM2UNet2DConditionModel": {
        "num_attention_heads": None, "attention_head_dim": 4, "block_out_channels": (8, 8),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": (16, 16),
    },
    "ControlNetModel": {
        "block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "conditioning_embedding_out_channels": (4, 8), "attention_head_dim": 4, "num_attention_heads": None,
    },
    "ControlNetXSAdapter": {
        "conditioning_embedding_out_channels": (4, 8), "block_out_channels": (4, 4), "base_block_out_channels": (8, 8),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "num_attention_heads": 1,
        "max_norm_num_groups": 2, "use_linear_projection": False, "cross_attention_dim": 16,
    },
    "ControlNetUnionModel": {
        "block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 40, "conditioning_embedding_out_channels": (4, 8),
        "attention_head_dim": 4, "num_attention_heads": None, "num_trans_channel": 8, "num_proj_channel": 8,
        "num_trans_head": 2,
    },
    "DreamLiteUNetModel": {
        "num_attention_heads": None, "attention_head_dim": 4, "block_out_channels": (8, 8),
        "down_block_types": ("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        "up_block_types": ("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"), "transformer_layers_per_block": 1,
    },
    "I2VGenXLUNet": {
        "block_out_channels": (8, 16), "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "num_attention_heads": None,
        "attention_head_dim": 4,
    },
    "Kandinsky3UNet": {
        "in_channels": 4, "groups": 2, "layers_per_block": 3, "block_out_channels": (16, 16), "encoder_hid_dim": 16,
        "time_embedding_dim": 16, "attention_head_dim": 4,
    },
    "MotionAdapter": {
        "block_out_channels": (8, 8), "motion_max_seq_length": 8, "motion_layers_per_block": 1,
        "motion_norm_num_groups": 2,
    },
    "PriorTransformer": {"embedding_dim": 16, "num_embeddings": 4, "additional_embeddings": 4},
    "SparseControlNetModel": {
        "block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "conditioning_embedding_out_channels": (4, 8), "num_attention_heads": None, "attention_head_dim": 4,
    },
    "StableCascadeUNet": {
        "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 8), "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1),
        "timestep_ratio_embedding_dim": 8, "clip_text_pooled_in_channels": 16, "clip_seq": 1,
        "conditioning_dim": 16,
    },
    "T2IAdapter": {"channels": [8, 8], "downscale_factor": 2, "num_res_blocks": 1},
    "UNet1DModel": {"sample_size": 64, "sample_rate": 64, "extra_in_channels": 16},
    "UNet2DConditionModel": {
        "block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 4,
        "num_attention_heads": None,
    },
    "UNet2DModel": {
        "in_channels": 1, "out_channels": 1, "block_out_channels": (8,), "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
    },
    "UNet3DConditionModel": {
        "num_attention_heads": None, "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "attention_head_dim": 4,
    },
    "UNetSpatioTemporalConditionModel": {
        "block_out_channels": (32, 64), "addition_time_embed_dim": 8, "num_attention_heads": (2, 2),
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), "num_frames": 2,
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "projection_class_embeddings_input_dim": 24,
    },
    "UNetFlatConditionModel": {
        "block_out_channels": (8, 8), "down_block_types": ("CrossAttnDownBlockFlat", "DownBlockFlat"),
        "up_block_types": ("UpBlockFlat", "CrossAttnUpBlockFlat"), "attention_head_dim": 4, "num_attention_heads": None,
    },
    "UniDiffuserModel": {
        "text_dim": 16, "clip_img_dim": 16, "num_text_tokens": 4, "in_channels": 4, "out_channels": 4, "sample_size": 8,
        "patch_size": 2, "norm_type": "layer_norm", "use_data_type_embedding": True,
    },
    "UniDiffuserTextDecoder": {
        "prefix_length": 4, "prefix_inner_dim": 16, "prefix_hidden_dim": 16, "vocab_size": 64, "n_positions": 16, "n_embd": 16,
        "n_layer": 1, "n_head": 2,
    },
    "WuerstchenDiffNeXt": {
        "c_in": 4, "c_out": 4, "c_r": 8, "c_cond": 16, "c_hidden": [8, 8], "nhead": [-1, 2], "blocks": [1, 1],
        "level_config": ["CT", "CTA"], "inject_effnet": [False, True], "effnet_embd": 4, "clip_embd": 16,
    },
    "WuerstchenPrior": {"c_in": 4, "c": 8, "c_cond": 16, "c_r": 8, "depth": 1, "nhead": 2},
}  # fmt: skip
