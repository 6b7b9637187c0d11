"""Weights and layers' inputs in few bits: their grids, their codes, their file, and networks that have them."""
