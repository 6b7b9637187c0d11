"""Pipelines of diffusers as models: networks, schedulers, text encoders and prompts."""
