"""Choosing the table: spaces, strategies, the study that keeps their candidates, and the verdict."""

from fewer.tuning.results import Result
from fewer.tuning.tune import tune

__all__ = ["Result", "tune"]
