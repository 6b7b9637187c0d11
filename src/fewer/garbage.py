"""How often Python's garbage collector looks for what nothing reaches, in processes that are fewer's own."""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 10, 10)  # new objects before a collection; collections of a generation before one of the next


def collect_seldom() -> None:
    """Collect less often in this process than Python does, after 700 new objects: that takes a fifth of the time of imports, whose
    objects all stay.
    """
    gc.set_threshold(*THRESHOLDS)
