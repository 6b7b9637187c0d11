"""Claims of restoration."""
