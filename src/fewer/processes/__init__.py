"""What runs along a model's flow beside sampling by a plan: an adaptive reference, inversion, other processes."""
