"""How often Python's garbage collector looks for what nothing reaches, in processes that are fewer's own."""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 10, 10)  # new objects of a look, and looks of one at what is older


def collect_seldom() -> None:
    """For this process: what imports make stays, and looking through it after each 700 new objects takes a fifth of their time."""
    gc.set_threshold(*THRESHOLDS)
