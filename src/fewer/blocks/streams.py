"""The streams of a module: its output as a tuple of tensors, and the inputs that these continue.

Modules of diffusers return a tensor, a tuple of one, a pair (text, image), or a tensor with what a UNet's way up takes
from the way down. A `Form`, read from one call, tells how to take such outputs apart and how to make them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewer.errors import InputError

Streams = tuple[Tensor | None, ...]
MAIN = ("hidden_states", "input_tensor", "x", "input")
TEXT = "encoder_hidden_states"


@dataclass(frozen=True)
class Form:
    """The layout of a module's streams in its arguments and its output.

    wrapped   whether the output is a tuple of the streams (of one, too)
    sources   for each stream of the output the input that it continues: a position or a keyword
    same      whether every stream has the shape of its source, so that the module can be residual
    skips     how many tensors a UNet's stage on the way down gives to the way up, after its only stream
    """

    wrapped: bool
    sources: tuple[int | str, ...]
    same: bool
    skips: int = 0

    def taken(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Streams:
        """The inputs that the output's streams continue."""
        return tuple(args[source] if isinstance(source, int) else kwargs[source] for source in self.sources)

    def apart(self, output: Any) -> Streams:
        """The streams of an output, followed by what the way up takes."""
        if self.skips:
            return output[0], *output[1]
        return tuple(output) if self.wrapped else (output,)

    def made(self, streams: Streams) -> Any:
        """An output of these streams; a stream that is passed on alone stands for what the way up takes, too."""
        if self.skips:
            return streams[0], streams[1:] or streams * self.skips
        return streams if self.wrapped else streams[0]


def form_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Form:
    """The form of a module from one call of it. Raises InputError for outputs of another kind, naming the module."""
    inputs: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    tensors: dict[int | str, Tensor] = {key: value for key, value in inputs if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"block {name!r} takes no tensor, so it cannot be left out")
    main = next((key for key in (*MAIN, 0) if key in tensors), next(iter(tensors)))
    if isinstance(output, Tensor):
        return Form(False, (main,), output.shape == tensors[main].shape)
    if isinstance(output, tuple | list) and len(output) == 2 and isinstance(output[1], tuple | list):
        return Form(True, (main,), False, skips=len(output[1]))
    if isinstance(output, tuple | list) and len(output) in (1, 2) and all(isinstance(o, Tensor | None) for o in output):
        order = (main,) if len(output) == 1 else _pair(main, tensors, output)
        same = all(o is None or o.shape == tensors[key].shape for o, key in zip(output, order, strict=True))
        return Form(True, order, same)
    raise InputError(f"block {name!r} returns a {type(output).__name__}; expected a tensor or a tuple of one or two")


def _pair(main: int | str, tensors: Mapping[int | str, Tensor], output: Sequence[Any]) -> tuple[int | str, ...]:
    """Which inputs a pair continues: (text, image) as blocks return it, unless only the other order has the shapes."""
    text = TEXT if TEXT in tensors else main
    for order in ((text, main), (main, text)):
        if all(o is None or o.shape == tensors[key].shape for o, key in zip(output, order, strict=True)):
            return order
    return text, main
