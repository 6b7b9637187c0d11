"""Plays a model to choose the numbers of a part: statistics of a solver, weights of a guidance rule, fitted starts."""
