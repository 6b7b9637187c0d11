"""diffusers and friends."""
