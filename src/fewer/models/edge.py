"""The edge to networks that are not fewer's own: how they are called, and what they may return.

A network is called on tensors of its own, in eval mode, without the autocast of the code around. What it returns is checked
to be one tensor of floats on the device of its input.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from fewer.errors import InputError, foreign

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_held: dict[int, int] = {}  # modules that were put in eval mode, by id: the number of calls under way


def called(
    network: Callable[..., Any], name: str, roots: Sequence[nn.Module], x: Tensor, t: Tensor, labels: Tensor | None
) -> Tensor:
    """The output of a network on tensors that it may write to; `roots` are the modules that it reaches.

    Raises ForeignError for what the network raises, and InputError for what is no tensor of floats on the device of x.
    """
    around = without_autocast(x.device.type) if torch.is_autocast_enabled(x.device.type) else nullcontext()
    with around, in_eval(roots), foreign(f"the network of {name}"):
        out = network(x, t, labels)
    return _one_tensor(out, name, x.device)


def _one_tensor(out: Any, name: str, device: torch.device) -> Tensor:
    """The tensor itself, the only one of a tuple or list, or the `sample` of an object as diffusers' networks return."""
    found = out
    if isinstance(out, tuple | list) and len(out) == 1:
        found = out[0]
    elif isinstance(out, Mapping):
        found = out.get("sample")
    elif not isinstance(out, Tensor):
        found = getattr(out, "sample", None)
    if not isinstance(found, Tensor):
        many = f" of {len(out)}" if isinstance(out, tuple | list) else ""
        raise InputError(f"the network of {name} returned {type(out).__name__}{many}; expected one torch.Tensor")
    if not found.is_floating_point():
        raise InputError(f"the network of {name} returned numbers of {found.dtype}; expected floats")
    if found.device != device:
        raise InputError(f"the network of {name} returned a tensor on {found.device} for an input on {device}")
    return found


@contextmanager
def in_eval(roots: Sequence[nn.Module]) -> Iterator[None]:
    """These modules and all inside of them in eval mode; afterwards each in its own, also after an error.

    Only the flag is set: a module's own `train` may do more. Of calls in several threads the last one restores it.
    """
    with _lock:
        # a frozen TorchScript module has no flag
        changed = [each for each in _all_modules(roots) if getattr(each, "training", False) or id(each) in _held]
        for module in changed:
            _held[id(module)] = _held.get(id(module), 0) + 1
            module.training = False
    try:
        yield
    finally:
        with _lock:
            for module in changed:
                _held[id(module)] -= 1
                if not _held[id(module)]:
                    del _held[id(module)]
                    module.training = True


def _all_modules(roots: Sequence[nn.Module]) -> list[nn.Module]:
    """As `nn.Module.modules`, which takes ten times as long."""
    found: dict[int, nn.Module] = {}
    rest: list[nn.Module | None] = list(roots)
    for module in rest:  # which grows meanwhile
        if module is not None and id(module) not in found:
            found[id(module)] = module
            if children := module._modules:
                rest.extend(children.values())
    return list(found.values())


@contextmanager
def without_autocast(*kinds: str) -> Iterator[None]:
    """Autocast switched off for these types of device, where it is on."""
    with ExitStack() as stack:
        for kind in kinds:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def in_own_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose arithmetic is its own: autocast around a call changes nothing inside."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with without_autocast("cpu", "cuda"):
            return function(*args, **kwargs)

    return inside
