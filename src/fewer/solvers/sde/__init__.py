"""Solvers that add noise."""
