"""Claims of methods that make networks lighter."""
