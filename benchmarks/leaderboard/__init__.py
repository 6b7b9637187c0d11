"""The leaderboard: diffusers, k_diffusion and this package from the same noises, by paired error to one reference."""
