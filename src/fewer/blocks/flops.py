"""A count of floating point operations of calls of a network."""

from __future__ import annotations

import sys
from types import MethodType
from typing import Any, Self

from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker


class FlopCounter(FlopCounterMode):
    """Counts the operations made within it, of all modules together.

    torch's own attributes them to modules, which fails where a module is handed a parameter while no derivatives are kept; and
    it imports torch's compiler, which takes as long as a small search, to keep it from compiling the count.
    """

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker = _Untracked()

    def __enter__(self) -> Self:
        super().__enter__()
        if "torch._dynamo" not in sys.modules:  # then nothing is compiled
            mode: Any = getattr(self, "mode", self)
            if (count := getattr(type(mode).__torch_dispatch__, "__wrapped__", None)) is not None:
                mode.__torch_dispatch__ = MethodType(count, mode)
        return self


class _Untracked(ModuleTracker):
    """Has no module but the whole, and no hooks."""

    def __enter__(self) -> _Untracked:
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing was put anywhere."""
