"""Calls of a pipeline's network: what is denoised in them, and the same call for some of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fewer.errors import InputError
from fewer.integrations.tape import Node, Taped

INPUTS = ("hidden_states", "sample", "x")  # by which networks call what they denoise
PER_FRAME = "encoder_hidden_states"  # which video networks take once a frame
UNBATCHED = ("image_rotary_emb", "img_ids", "txt_ids")


@dataclass(frozen=True)
class Arguments:
    """Arguments of a network's call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def x(self) -> Tensor:
        """What the network denoises, (rows, ..), of which some networks take a list. Raises InputError for anything else."""
        x = self._first
        if isinstance(x, list) and all(isinstance(each, Tensor) and each.shape == x[0].shape for each in x):
            return torch.stack(x)
        if isinstance(x, Tensor):
            return x
        raise InputError(f"the pipeline gives its network a {type(x).__name__} to denoise; expected rows of one shape")

    @property
    def _first(self) -> Any:
        return self.args[0] if self.args else next((self.kwargs[name] for name in INPUTS if name in self.kwargs), None)

    @property
    def time(self) -> Any:
        """The time that the network is given, where it is given one; else None."""
        time = self.kwargs.get("timestep", self.args[1] if len(self.args) > 1 else None)
        return time if isinstance(time, Tensor | float | int) and torch.as_tensor(time).numel() == 1 else None

    def with_x(self, x: Tensor) -> Arguments:
        """The same with another sample."""
        given = list(x.unbind()) if isinstance(self._first, list) else x
        if self.args:
            return replace(self, args=(given, *self.args[1:]))
        name = next(name for name in INPUTS if name in self.kwargs)
        return replace(self, kwargs={**self.kwargs, name: given})

    def same(self, other: Arguments) -> bool:
        """Whether both are equal, tensor by tensor."""
        return same(self.args, other.args) and same(dict(self.kwargs), dict(other.kwargs))

    def rows(self, start: int, stop: int) -> Arguments:
        """Those of rows start .. stop - 1 alone."""
        n = len(self.x)
        if (start, stop) == (0, n):
            return self
        of = _of_lists if isinstance(self._first, list) else part
        return Arguments(of(self.args, n, start, stop), of(dict(self.kwargs), n, start, stop))


def part(value: Any, batch: int, start: int, stop: int, name: str = "") -> Any:
    """Entries start .. stop - 1 of every tensor of a batch, in tuples, lists and dicts too."""
    if isinstance(value, Tensor):
        if name in UNBATCHED or value.ndim == 0 or len(value) != batch:
            each = len(value) // batch if name == PER_FRAME and value.ndim else 0
            return value[start * each : stop * each] if each and len(value) == each * batch else value
        return value[start:stop]
    if isinstance(value, dict):
        return {key: part(entry, batch, start, stop, key) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(part(entry, batch, start, stop, name) for entry in value)
    return value


def _of_lists(value: Any, batch: int, start: int, stop: int) -> Any:
    """The same for a network that takes lists of rows: entries of lists and tensors of a batch."""
    if isinstance(value, tuple):
        return tuple(_of_lists(entry, batch, start, stop) for entry in value)
    if isinstance(value, dict):
        return {key: _of_lists(entry, batch, start, stop) for key, entry in value.items()}
    rows = isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0)
    return value[start:stop] if rows and len(value) == batch else value


def same(one: Any, other: Any) -> bool:
    """Whether two arguments are equal, tensor by tensor."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.shape == other.shape and torch.equal(one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other or (type(one) is type(other) is not Tensor and one == other)


@dataclass
class Call:
    """A call of a network, whose rows are run where they are needed.

    run   gives the network's output, of whatever kind, for the arguments of some rows
    node  of what the pipeline was given as the output
    returned  that itself: the outputs of the rows that had been run, again and again
    """

    network: nn.Module
    given: Arguments
    run: Callable[[Arguments, range], Any]
    node: Node = field(default_factory=Node)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    returned: Tensor | None = None
    whole: Any = None

    def __len__(self) -> int:
        return len(self.given.x)

    def need(self, rows: Sequence[int]) -> None:
        """Run those of the rows that have not been run."""
        missing = [k for k in rows if k not in self.outputs]
        if not missing:
            return
        span = range(min(missing), max(missing) + 1)
        self.whole = self.run(self.given.rows(span.start, span.stop), span)
        out = tensor(self.whole, self.network)
        if len(out) != len(span):
            raise InputError(
                f"{type(self.network).__name__} does not give one row of output for each row that it is given, as it must "
                "for a plan that guides"
            )
        self.outputs.update(zip(span, out, strict=True))

    def tell(self, like: Call | None) -> Any:
        """What the pipeline gets: where no row was run, zeros in the place of the output of a call like this one."""
        if not self.outputs and (like is None or like.returned is None):
            self.need(range(len(self)))
        if self.outputs or like is None or like.returned is None:
            known = [self.outputs[k] for k in sorted(self.outputs)]
            returned = torch.stack([self.outputs.get(k, known[k % len(known)]) for k in range(len(self))])
        else:
            self.whole, returned = like.whole, torch.zeros_like(like.returned)
        self.returned = returned
        return rewrapped(self.whole, Taped.of(returned.clone(), self.node))


def tensor(out: Any, network: nn.Module) -> Tensor:
    """What a network gives, alone or first of several, in rows. Raises InputError where that is none."""
    first = out if isinstance(out, Tensor) else out[0]
    if isinstance(first, list) and all(isinstance(each, Tensor) and each.shape == first[0].shape for each in first):
        return torch.stack(first)
    if isinstance(first, Tensor):
        return first
    raise InputError(
        f"{type(network).__name__} gives a {type(first).__name__}; a plan that changes its calls needs rows"
    )


def rewrapped(out: Any, value: Tensor) -> Any:
    """A network's output, of the same kind, with these rows in the place of its first."""
    if isinstance(out, Tensor):
        return value
    rows = list(value.unbind()) if isinstance(out[0], list) else value
    if isinstance(out, tuple | list):
        return type(out)((rows, *out[1:]))
    return type(out)(**{**out, next(iter(out)): rows})
