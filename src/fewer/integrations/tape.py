"""A tape of what a pipeline does to its network's outputs on their way to its scheduler, to be played again from other outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fewer.models.pipelines.whole_times import plainly


@dataclass(eq=False)
class Operation:
    """A function of torch and its arguments, with nodes in the place of tensors that are on the tape."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def writes(self) -> bool:
        """Whether it changes its first argument, which is then what it gives."""
        name = self.function.__name__
        dunder = name.startswith("__")
        return name == "__setitem__" or name.startswith("__i") if dunder else name.endswith("_")

    def played(self, value: Callable[[Node], Tensor]) -> Any:
        """What it gives where its nodes have these values, of which none is changed."""
        args = _each(Node, value, self.args)
        if not self.writes:
            return self.function(*args, **_each(Node, value, self.kwargs))
        args = (args[0].clone(), *args[1:])
        self.function(*args, **_each(Node, value, self.kwargs))
        return args[0]


@dataclass(eq=False)
class Node:
    """A tensor on the tape: the result of an operation, or its entry `place`; a leaf where there is no operation."""

    operation: Operation | None = None
    place: int | None = None
    needs: tuple[Node, ...] = field(init=False)

    def __post_init__(self) -> None:
        found: list[Node] = []
        if self.operation is not None:
            _each(Node, found.append, (self.operation.args, self.operation.kwargs))
        self.needs = tuple(found)

    def leaves(self) -> list[Node]:
        """The leaves that it is made of."""
        known, left, leaves = {self}, [self], []
        while left:
            node = left.pop()
            if node.operation is None:
                leaves.append(node)
            new = [each for each in node.needs if each not in known]
            known.update(new)
            left += new
        return leaves

    def played(self, leaves: Mapping[Node, Tensor]) -> Tensor:
        """Its value where its leaves have these."""
        results: dict[Operation, Any] = {}

        def value(node: Node) -> Tensor:
            if node.operation is None:
                return leaves[node]
            if node.operation not in results:
                results[node.operation] = node.operation.played(value)
            result = results[node.operation]
            return result if node.place is None else result[node.place]

        return value(self)


class Taped(Tensor):
    """A tensor that is on a tape: whatever torch makes of it is on the tape, too."""

    node: Node

    @staticmethod
    def of(value: Tensor, node: Node) -> Taped:
        """The tensor as a node of the tape."""
        made = value.as_subclass(Taped)
        made.node = node
        return made

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every operation on tensors that are taped: it is done, and noted."""
        kwargs = kwargs or {}
        noted = Operation(func, *(_each(Taped, lambda each: each.node, given) for given in (args, kwargs)))
        out = plainly(func, args, kwargs)
        if noted.writes:
            if isinstance(args[0], Taped):
                args[0].node = Node(noted)
            return out
        if isinstance(out, tuple | list):
            return type(out)(_taped(each, Node(noted, place)) for place, each in enumerate(out))
        return _taped(out, Node(noted))


def plain(value: Any) -> Any:
    """The value with no tensor in it on a tape."""
    return _each(Taped, lambda each: each.as_subclass(Tensor), value)


def _taped(value: Any, node: Node) -> Any:
    return Taped.of(value, node) if type(value) is Tensor else value


def _each(kind: type, function: Callable[[Any], Any], value: Any) -> Any:
    """The value with `function` of every instance of a kind in it, in tuples, lists and dicts too."""
    if isinstance(value, kind):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(_each(kind, function, entry) for entry in value)
    if type(value) is dict:
        return {key: _each(kind, function, entry) for key, entry in value.items()}
    return value
