"""Claims of lighter networks."""
