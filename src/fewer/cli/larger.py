"""`fewer sample --size`: samples larger than the network's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewer.errors import InputError

if TYPE_CHECKING:
    from fewer.models.model import Model


@dataclass(frozen=True)
class Larger:
    """The options that say how (see `fewer.large`)."""

    size: tuple[int, ...]
    overlap: int
    tileable: bool

    def of(self, model: Model, seed: int, batch: int | None) -> Model:
        """The model of these larger samples; raises InputError where there is none."""
        from fewer.engine import MICRO_BATCH
        from fewer.tasks.large.larger import large

        return large(
            model, self.size, overlap=self.overlap, tileable=self.tileable, seed=seed, batch=batch or MICRO_BATCH
        )


def larger(size: str | None, overlap: int | None, tileable: bool | None) -> Larger | None:
    """What the options ask for; None without --size. Raises InputError for a size in other words, and for the others alone."""
    if size is None:
        given = "--overlap" if overlap is not None else "--tileable" if tileable is not None else None
        if given is not None:
            raise InputError(f"{given} is of samples larger than the network's own: give --size too")
        return None
    if not re.fullmatch(r"\d{1,6}(x\d{1,6})*", size):
        raise InputError(f"--size is {size!r:.80}; expected sizes such as 64x96, height first")
    return Larger(tuple(map(int, size.split("x"))), overlap or 0, tileable is None or tileable)


def windows_of(model: Model) -> int:
    """Evaluations of the network's own size that one evaluation of the model takes: 1 of most models."""
    from fewer.tasks.large.rolled import LargeNetwork

    return model.network.windows if isinstance(model.network, LargeNetwork) else 1
