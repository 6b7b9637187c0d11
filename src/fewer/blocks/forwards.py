"""Forwards in the place of a module's own, each for the thread alone that puts it there, so that threads may share a network."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

Forward = Callable[..., Any]


@dataclass
class _Held:
    """The forwards of a module: its own, which is on the instance where `instance` says so, and those of threads."""

    own: Forward
    instance: bool
    threads: dict[int, Forward] = field(default_factory=dict)

    @property
    def here(self) -> Forward:
        """That of this thread."""
        return self.threads.get(threading.get_ident(), self.own)


_held: WeakKeyDictionary[nn.Module, _Held] = WeakKeyDictionary()
_lock = threading.RLock()


def forward_of(module: nn.Module) -> Forward:
    """The module's forward in this thread."""
    held = _held.get(module)
    return module.forward if held is None else held.here


def replace(module: nn.Module, forward: Forward) -> Callable[[], None]:
    """Put a forward, which is kept out of compiled graphs, in the place of this thread's; the call of the result undoes it."""
    thread = threading.get_ident()
    with _lock:
        if module not in _held:
            _hold(module)
        held = _held[module]
        before = held.threads.get(thread)
        held.threads[thread] = untraced(forward)

    def restore() -> None:
        with _lock:
            if before is not None:
                held.threads[thread] = before
                return
            del held.threads[thread]
            if not held.threads:
                _release(module)

    return restore


@contextmanager
def replaced(module: nn.Module, forward: Forward) -> Iterator[None]:
    """The module with another forward in this thread; afterwards it is as it was."""
    restore = replace(module, forward)
    try:
        yield
    finally:
        restore()


@dataclass
class Ran:
    """Whether a module has run since another forward was put in its place."""

    yes: bool = False


@contextmanager
def watched(module: nn.Module, forward: Forward) -> Iterator[Ran]:
    """As `replaced`, and tells whether the module has run: where it has not, the other forward was without effect."""
    ran, other = Ran(), untraced(forward)

    def noted(*args: Any, **kwargs: Any) -> Any:
        ran.yes = True
        return other(*args, **kwargs)

    with replaced(module, noted):
        yield ran


def untraced(forward: Forward) -> Forward:
    """Kept out of compiled graphs, which would freeze one row's decision; the module's own forward is compiled."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled; importing it takes seconds
        return forward
    return torch.compiler.disable(forward, recursive=False)  # type: ignore[no-any-return]


def _hold(module: nn.Module) -> None:
    held = _held[module] = _Held(module.forward, "forward" in vars(module))

    def forward(*args: Any, **kwargs: Any) -> Any:
        return held.here(*args, **kwargs)

    module.forward = untraced(forward)  # type: ignore[method-assign]


def _release(module: nn.Module) -> None:
    held = _held.pop(module)
    if held.instance:
        module.forward = held.own  # type: ignore[method-assign]
    else:
        del module.forward
