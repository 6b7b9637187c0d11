"""Deterministic solvers."""
