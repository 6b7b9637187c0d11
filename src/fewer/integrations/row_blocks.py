"""The blocks column of a plan in a pipeline's call, on the networks that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fewer.blocks.actions import BlockActions, bound
from fewer.blocks.playing import Played, playing
from fewer.errors import InputError
from fewer.integrations.calls import Arguments, tensor
from fewer.integrations.run import Run
from fewer.models.model import Model
from fewer.models.schedules import Flow


@dataclass
class RowBlocks:
    """Blocks of the networks that a run calls, until `close`. Each row of each call of a turn has branches of its own."""

    run: Run | None = None
    number: int = -1
    calls: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    networks: dict[nn.Module, tuple[Played, list[BlockActions]]] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    def begin(self, run: Run, n: int) -> None:
        """Begin row n of a run, and forget the branches that were used in the last one for the last time."""
        if run is not self.run:
            self.close()
            self.run = run
        for played, actions in self.networks.values():
            for name, action in actions[self.number - run.first].items():
                for j in action.done:
                    played.branches[j].pop(name, None)
        self.number, self.calls = n, 0

    def close(self) -> None:
        """Take the networks' blocks from the plan's control."""
        self.stack.close()
        self.networks, self.sizes = {}, {}

    def next_call(self, size: int) -> int:
        """The number of the next call of the row, which has `size` rows. Raises InputError where it had others before."""
        if self.run is None or not any(row.blocks for row in self.run.rows):
            return 0
        number, self.calls = self.calls, self.calls + 1
        if self.sizes.setdefault(number, size) != size:
            raise InputError(
                f"the pipeline calls its network on {size} rows in row {self.number} of the plan and on {self.sizes[number]} "
                "before: blocks cannot be reused from there"
            )
        return number

    @contextmanager
    def playing(self, network: nn.Module, given: Arguments, call: int, rows: range) -> Iterator[None]:
        """The row's blocks in a call of a network on these of its rows."""
        run = self.run
        if run is None or self.number < run.first or not any(row.blocks for row in run.rows):
            yield
            return
        played = self._played(network, given)
        n = self.number - run.first
        played.at(n, 1)
        # that more is to come is said always: branches are forgotten when the next row begins
        played.conditions, played.left = tuple(f"{call}.{row}" for row in rows), ("more",)
        played.call += 1
        played.now = n
        try:
            yield
        finally:
            played.now = -1

    def _played(self, network: nn.Module, given: Arguments) -> Played:
        if network not in self.networks:
            rows = () if self.run is None else self.run.rows
            model = _as_model(network, given.rows(0, 1))
            actions = bound(model, rows)
            played = self.stack.enter_context(playing(model, rows, actions))
            assert played is not None  # since rows name blocks
            self.networks[network] = played, actions
        return self.networks[network][0]


class _Replay:
    """A network that answers every call as it did to these arguments."""

    def __init__(self, module: nn.Module, given: Arguments) -> None:
        self.module, self.given = module, given

    def __call__(self, x: Tensor, t: Any, labels: Tensor | None) -> Tensor:
        return tensor(self.module(*self.given.args, **self.given.kwargs), self.module)


def _as_model(network: nn.Module, given: Arguments) -> Model:
    """A model in which blocks can be found, by one call on these arguments of one sample."""
    name, x = type(network).__name__, given.x
    return Model(_Replay(network, given), Flow(), "flow", tuple(x.shape[1:]), name=name, device=x.device, dtype=x.dtype)
