"""Settings of tiny autoencoders: images of twice the size of their latents, where a class leaves the choice."""

from __future__ import annotations

from typing import Any

AUTOENCODERS: dict[str, dict[str, Any]] = {
    "AutoencoderDC": {
        "latent_channels": 4, "encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8),
        "encoder_block_types": ("ResBlock", "ResBlock"), "decoder_block_types": ("ResBlock", "ResBlock"),
        "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), ()), "decoder_qkv_multiscales": ((), ()),
        "encoder_out_shortcut": False, "decoder_in_shortcut": False, "upsample_block_type": "interpolate",
        "downsample_block_type": "stride_conv", "scaling_factor": 0.4,
    },
    "AutoencoderKL": {
        "block_out_channels": (4, 4), "latent_channels": 4, "sample_size": 16, "shift_factor": 0.1,
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
        "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
    },
    "AutoencoderKLAllegro": {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4},
    "AutoencoderKLCogVideoX": {
        "down_block_types": ("CogVideoXDownBlock3D", "CogVideoXDownBlock3D", "CogVideoXDownBlock3D", "CogVideoXDownBlock3D"),
        "up_block_types": ("CogVideoXUpBlock3D", "CogVideoXUpBlock3D", "CogVideoXUpBlock3D", "CogVideoXUpBlock3D"),
        "block_out_channels": (8, 8, 8, 8), "latent_channels": 4,
    },
    "AutoencoderKLCosmos": {
        "latent_channels": 4, "encoder_block_out_channels": (8, 8), "decode_block_out_channels": (8, 8),
        "attention_resolutions": (8,), "resolution": 16, "patch_size": 2,
    },
    "AutoencoderKLFlux2": {
        "block_out_channels": (4, 4), "latent_channels": 4, "sample_size": 16,
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
        "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
    },
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 32),
        "layers_per_block": 1, "spatial_compression_ratio": 4, "downsample_match_channel": False,
        "upsample_match_channel": False, "sample_size": 16,
    },
    "AutoencoderKLHunyuanImageRefiner": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 32),
        "layers_per_block": 1, "spatial_compression_ratio": 4, "downsample_match_channel": False,
        "upsample_match_channel": False, "temporal_compression_ratio": 2,
    },
    "AutoencoderKLHunyuanVideo": {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4},
    "AutoencoderKLHunyuanVideo15": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 32),
        "layers_per_block": 1, "spatial_compression_ratio": 4, "downsample_match_channel": False,
        "upsample_match_channel": False, "temporal_compression_ratio": 2,
    },
    "AutoencoderKLLTX2Audio": {
        "base_channels": 16, "latent_channels": 4, "ch_mult": (1,), "mel_bins": 16, "resolution": 32,
    },
    "AutoencoderKLLTX2Video": {
        "latent_channels": 4, "block_out_channels": (8,), "decoder_block_out_channels": (8,),
        "layers_per_block": (1,), "decoder_layers_per_block": (1, 1), "spatio_temporal_scaling": (True,),
        "decoder_spatio_temporal_scaling": (True,), "decoder_inject_noise": (False, False),
        "downsample_type": ("spatial",), "upsample_residual": (False,), "upsample_factor": (1,),
        "upsample_type": ("spatial",), "patch_size": 1, "down_block_types": ("LTX2VideoDownBlock3D",),
    },
    "AutoencoderKLLTXVideo": {
        "latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1), "patch_size": 1,
        "spatio_temporal_scaling": (True, True, False, False),
        "decoder_spatio_temporal_scaling": (True, True, False, False),
    },
    "AutoencoderKLMagvit": {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "spatial_group_norm": False},
    "AutoencoderKLMochi": {
        "latent_channels": 12, "encoder_block_out_channels": (32, 32, 32, 32),
        "layers_per_block": (1, 1, 1, 1, 1), "decoder_block_out_channels": (32, 32, 32, 32),
    },
    "AutoencoderKLQwenImage": {
        "base_dim": 3, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "latents_mean": [0.0, 0.0, 0.0, 0.0],
        "latents_std": [1.0, 1.0, 1.0, 1.0], "temperal_downsample": [False, True, True],
    },
    "AutoencoderKLQwenImage21": {
        "base_dim": 4, "decoder_base_dim": 4, "z_dim": 16,
        "latents_mean": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "latents_std": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        "dim_mult": [1, 1, 1, 1, 1], "num_res_blocks": 1,
    },
    "AutoencoderKLTemporalDecoder": {
        "block_out_channels": (32, 32), "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
    },
    "AutoencoderKLWan": {
        "base_dim": 3, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "latents_mean": [0.0, 0.0, 0.0, 0.0],
        "latents_std": [1.0, 1.0, 1.0, 1.0], "temperal_downsample": [False, True, True],
    },
    "AutoencoderOobleck": {
        "encoder_hidden_size": 4, "downsampling_ratios": [2, 2], "channel_multiples": [1, 1],
        "decoder_channels": 4, "decoder_input_channels": 4, "sampling_rate": 8,
    },
    "AutoencoderSAME": {
        "patch_size": 4, "encoder_channels": 16, "encoder_c_mults": (1,), "encoder_strides": (2,),
        "encoder_transformer_depths": (1,), "latent_dim": 4, "dim_heads": 8, "sampling_rate": 16,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4),
        "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "latent_channels": 4,
    },
    "PaellaVQModel": {
        "levels": 1, "bottleneck_blocks": 1, "embed_dim": 4, "num_vq_embeddings": 8, "latent_channels": 4,
    },
    "VQModel": {
        "block_out_channels": (4, 4), "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
        "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"), "num_vq_embeddings": 8,
    },
}  # fmt: skip
