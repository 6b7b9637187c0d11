"""Claims of samplers whose next call depends on the sample."""
