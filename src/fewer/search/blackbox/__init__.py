"""Black-box optimizers, each in a file named after its method, and the strategy that plays them over a plan's numbers."""
