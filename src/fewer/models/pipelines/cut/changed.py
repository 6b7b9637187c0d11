"""What a pipeline's call changes in its networks until it ends, as attention processors are: a cut call has it to itself.

Some pipelines put things into their networks before their loop and take them out after it, which a call that is let go never does.
Here they are in the networks for the length of a turn alone, so that the pipeline's owner, and other pipelines of the same
networks, never meet them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

ENTRIES = (
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
)  # attributes of a module that are changed by their entries
MISSING: Any = object()

Attributes = dict[
    int, tuple[dict[Any, Any], dict[Any, Any]]
]  # where attributes are, and a copy, by the id of the former


class Changed:
    """The attributes of a pipeline's networks that its call has changed from `before`, each with the value that is elsewhere."""

    def __init__(self, pipe: Any) -> None:
        self._before = _attributes(pipe)
        self._entries: list[list[Any]] = []

    def begin(self) -> None:
        """Take out what has been put in so far."""
        for place, was in self._before.values():
            self._entries += [
                [place, key, was.get(key, MISSING)]
                for key in {**was, **place}
                if place.get(key, MISSING) is not was.get(key, MISSING)
            ]
        self._before = {}
        self._exchange()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Within it the call's own values are in the networks."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for entry in self._entries:
            place, key, other = entry
            entry[2] = place.get(key, MISSING)
            if other is MISSING:
                place.pop(key, None)
            else:
                place[key] = other


def _attributes(pipe: Any) -> Attributes:
    """Those of all modules of a pipeline's parts."""
    parts = [part for part in getattr(pipe, "components", {}).values() if isinstance(part, nn.Module)]
    modules = [module for part in parts for module in part.modules()]
    places = [place for module in modules for place in (vars(module), *(vars(module)[name] for name in ENTRIES))]
    return {id(place): (place, dict(place)) for place in places}
