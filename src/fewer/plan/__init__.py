"""A plan: a table with one row per network call, its start, its checks and its file."""

from fewer.plan.row import Guidance, Row, Shortcut, Start
from fewer.plan.table import Plan
from fewer.plan.values import Coefficient

__all__ = ["Coefficient", "Guidance", "Plan", "Row", "Shortcut", "Start"]
