"""Choosing the table: spaces, strategies, the study that keeps their candidates, and the verdict."""

from fewer.search.results import Result
from fewer.search.tune import tune

__all__ = ["Result", "tune"]
