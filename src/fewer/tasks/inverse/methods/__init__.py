"""Samplers of posteriors, one a file."""
