"""Settings of tiny transformers, where those of their parameters' names do not do."""

from __future__ import annotations

from typing import Any

TRANSFORMERS: dict[str, dict[str, Any]] = {
    "AceStepAudioTokenDetokenizer": {"audio_acoustic_hidden_dim": 4, "pool_window_size": 2},
    "AceStepAudioTokenizer": {
        "audio_acoustic_hidden_dim": 4, "pool_window_size": 2, "fsq_dim": 16, "fsq_input_levels": [4, 4, 4],
    },
    "AceStepConditionEncoder": {"hidden_size": 16, "text_hidden_dim": 16, "timbre_hidden_dim": 4},
    "AceStepTransformer1DModel": {"audio_acoustic_hidden_dim": 4, "in_channels": 12, "encoder_hidden_size": 16},
    "AllegroTransformer3DModel": {
        "in_channels": 4, "out_channels": 4, "sample_frames": 2, "cross_attention_dim": 24, "attention_head_dim": 12,
    },
    "AnyFlowFARTransformer3DModel": {
        "in_channels": 4, "out_channels": 4, "rope_max_seq_len": 32, "chunk_partition": (1, 1),
    },
    "AnyFlowTransformer3DModel": {"in_channels": 4, "out_channels": 4, "rope_max_seq_len": 32},
    "AuraFlowTransformer2DModel": {"in_channels": 4, "out_channels": 4},
    "BriaFibo2Transformer2DModel": {"in_channels": 4, "injection_layer_ids": (0,)},
    "BriaFiboTransformer2DModel": {"in_channels": 16, "joint_attention_dim": 32},
    "BriaTransformer2DModel": {"in_channels": 16},
    "ChromaTransformer2DModel": {"in_channels": 16, "out_channels": None},
    "ChronoEditTransformer3DModel": {
        "in_channels": 12, "out_channels": 4, "rope_max_seq_len": 32, "image_dim": 16, "added_kv_proj_dim": 16,
    },
    "CogVideoXTransformer3DModel": {
        "in_channels": 4, "out_channels": 4, "sample_width": 2, "sample_height": 2, "sample_frames": 9,
        "time_embed_dim": 2,
    },
    "CogView3PlusTransformer2DModel": {"in_channels": 4, "out_channels": 4},
    "CogView4Transformer2DModel": {"in_channels": 4, "out_channels": 4},
    "Cosmos3OmniTransformer": {"latent_channel": 4, "patch_latent_dim": 16, "vocab_size": 64, "dtype": "float32"},
    "CosmosControlNetModel": {
        "in_channels": 4, "latent_channels": 6, "model_channels": 32, "attention_head_dim": 16,
        "max_size": (4, 8, 8), "n_controlnet_blocks": 1, "crossattn_proj_in_channels": 16,
        "encoder_hidden_states_channels": 16, "img_context_dim_out": 16,
    },
    "CosmosTransformer3DModel": {
        "in_channels": 4, "out_channels": 4, "attention_head_dim": 16, "text_embed_dim": 16,
        "max_size": (4, 8, 8), "concat_padding_mask": False, "crossattn_proj_in_channels": 16,
        "encoder_hidden_states_channels": 16,
    },
    "DiTTransformer2DModel": {"in_channels": 4, "out_channels": 8, "num_embeds_ada_norm": 1000},
    "EasyAnimateTransformer3DModel": {"in_channels": 4, "out_channels": 4, "attention_head_dim": 16, "patch_size": 2},
    "ErnieImageTransformer2DModel": {"in_channels": 16, "out_channels": 16},
    "Flux2Transformer2DModel": {"in_channels": 16, "out_channels": None, "axes_dims_rope": (2, 2, 2, 2)},
    "FluxControlNetModel": {"in_channels": 16},
    "FluxTransformer2DModel": {"in_channels": 16, "out_channels": None},
    "GlmImageTransformer2DModel": {"in_channels": 4, "out_channels": 4, "prior_vq_quantizer_codebook_size": 8},
    "HeliosTransformer3DModel": {"in_channels": 4, "out_channels": 4, "rope_dim": (4, 2, 2)},
    "HiDreamImageTransformer2DModel": {
        "in_channels": 4, "out_channels": 4, "patch_size": 2, "caption_channels": [16, 16],
        "llama_layers": [0, 0], "axes_dims_rope": (4, 2, 2), "max_resolution": (8, 8),
    },
    "HunyuanDiT2DControlNetModel": {
        "in_channels": 4, "patch_size": 2, "transformer_num_layers": 2, "text_len": 4, "text_len_t5": 4,
    },
    "HunyuanDiT2DModel": {"in_channels": 4, "patch_size": 2, "text_len": 4, "text_len_t5": 4},
    "HunyuanImageTransformer2DModel": {"in_channels": 4, "out_channels": 4, "rope_axes_dim": (4, 4)},
    "HunyuanVideo15Transformer3DModel": {"in_channels": 9, "out_channels": 4},
    "HunyuanVideoFramepackTransformer3DModel": {
        "in_channels": 4, "out_channels": 4, "has_clean_x_embedder": True, "has_image_proj": True,
        "image_proj_dim": 16,
    },
    "HunyuanVideoTransformer3DModel": {"in_channels": 4, "out_channels": 4},
    "Ideogram4Transformer2DModel": {"in_channels": 16, "mrope_section": (2, 1, 1)},
    "JoyImageEditPlusTransformer3DModel": {"in_channels": 4, "out_channels": 4},
    "JoyImageEditTransformer3DModel": {"in_channels": 4, "out_channels": 4},
    "Kandinsky5Transformer3DModel": {"in_visual_dim": 4, "out_visual_dim": 4},
    "Kandinsky6Transformer3DModel": {"in_visual_dim": 4, "out_visual_dim": 4},
    "Krea2Transformer2DModel": {"in_channels": 16, "num_text_layers": 2},
    "LTX2VideoTransformer3DModel": {
        "in_channels": 4, "out_channels": 4, "audio_in_channels": 16, "audio_out_channels": 16,
        "audio_num_attention_heads": 2, "audio_attention_head_dim": 4, "audio_cross_attention_dim": 8,
        "caption_channels": 16,
    },
    "LTX2TextConnectors": {
        "caption_channels": 16, "text_proj_in_factor": 1, "video_connector_num_attention_heads": 2,
        "video_connector_attention_head_dim": 8, "video_connector_num_layers": 1, "video_connector_num_learnable_registers": None,
        "audio_connector_num_attention_heads": 2, "audio_connector_attention_head_dim": 8, "audio_connector_num_layers": 1,
        "audio_connector_num_learnable_registers": None, "connector_rope_base_seq_len": 32, "rope_double_precision": False,
    },
    "LTXVideoTransformer3DModel": {"in_channels": 4, "out_channels": 4},
    "LatteTransformer3DModel": {
        "in_channels": 4, "out_channels": 8, "patch_size": 2, "video_length": 2,
        "norm_type": "ada_norm_single", "num_embeds_ada_norm": 1000,
    },
    "LongCatAudioDiTTransformer": {"latent_dim": 4},
    "LongCatImageTransformer2DModel": {"in_channels": 16},
    "Lumina2Transformer2DModel": {"in_channels": 4, "num_kv_heads": 1},
    "LuminaNextDiT2DModel": {"in_channels": 4},
    "MochiTransformer3DModel": {"in_channels": 12},
    "MotifVideoTransformer3DModel": {"in_channels": 9, "out_channels": 4},
    "NucleusMoEImageTransformer2DModel": {
        "in_channels": 16, "out_channels": 4, "num_experts": 2, "moe_enabled": False,
    },
    "OmniGenTransformer2DModel": {
        "rope_scaling": {"short_factor": [1.0] * 4, "long_factor": [1.0] * 4},
        "in_channels": 4, "pad_token_id": 0, "vocab_size": 64, "time_step_dim": 16,
    },
    "OvisImageTransformer2DModel": {"in_channels": 16, "out_channels": 16},
    "PRXTransformer2DModel": {"in_channels": 4, "axes_dim": (4, 4)},
    "PixArtTransformer2DModel": {"in_channels": 4, "out_channels": 8, "use_additional_conditions": False},
    "QwenImage21Transformer2DModel": {"in_channels": 16, "out_channels": 16},
    "QwenImageControlNetModel": {"in_channels": 16, "out_channels": 4},
    "QwenImageTransformer2DModel": {"in_channels": 16, "out_channels": 4},
    "SD3ControlNetModel": {"in_channels": 4, "out_channels": 4},
    "SD3Transformer2DModel": {"in_channels": 4, "out_channels": 4},
    "SanaControlNetModel": {"in_channels": 4, "out_channels": 4},
    "SanaTransformer2DModel": {"in_channels": 4, "out_channels": 4},
    "SanaVideoTransformer3DModel": {"in_channels": 4, "out_channels": 4, "sample_size": 8, "rope_max_seq_len": 32},
    "SkyReelsV2Transformer3DModel": {"in_channels": 4, "out_channels": 4, "rope_max_seq_len": 32},
    "StableAudio3DiTModel": {
        "io_channels": 4, "cond_token_dim": 16, "global_cond_dim": 16, "local_add_cond_dim": 5,
        "timestep_features_dim": 16, "num_memory_tokens": 2,
    },
    "StableAudio3DurationEmbedder": {"output_dim": 16, "fourier_dim": 16},
    "StableAudioDiTModel": {
        "in_channels": 4, "out_channels": 4, "global_states_input_dim": 32, "cross_attention_input_dim": 16,
        "sample_size": 16,
    },
    "StableAudioProjectionModel": {"text_encoder_dim": 16, "conditioning_dim": 16, "min_value": 0, "max_value": 32},
    "WanAnimateTransformer3DModel": {
        "in_channels": 12, "out_channels": 4, "rope_max_seq_len": 32, "latent_channels": 4, "image_dim": 16,
        "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16}, "motion_encoder_size": 16,
        "motion_style_dim": 8, "motion_dim": 4, "motion_encoder_dim": 16, "face_encoder_hidden_dim": 16,
        "face_encoder_num_heads": 2, "inject_face_latents_blocks": 1,
    },
    "WanTransformer3DModel": {"in_channels": 4, "out_channels": 4, "rope_max_seq_len": 32},
    "WanVACETransformer3DModel": {
        "in_channels": 4, "out_channels": 4, "rope_max_seq_len": 32, "vace_layers": [0],
        "vace_in_channels": 72,
    },
    "ZImageControlNetModel": {
        "control_layers_places": [0], "control_refiner_layers_places": [0], "control_in_dim": 4,
    },
    "ZImageTransformer2DModel": {"in_channels": 4, "axes_lens": [64, 16, 16]},
}  # fmt: skip
