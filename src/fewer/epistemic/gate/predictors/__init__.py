"""Predictors of a sample's error from its run."""
