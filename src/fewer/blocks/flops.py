"""A count of floating point operations of calls of a network."""

from __future__ import annotations

from typing import Any

from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker


class FlopCounter(FlopCounterMode):
    """Counts the operations made within it, of all modules together.

    torch's own attributes them to modules, which fails where a module is handed a parameter while no derivatives are kept.
    """

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker = _Untracked()


class _Untracked(ModuleTracker):
    """Has no module but the whole, and no hooks."""

    def __enter__(self) -> _Untracked:
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing was put anywhere."""
