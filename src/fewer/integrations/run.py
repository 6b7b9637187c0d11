"""A scheduler's run: the rows of its plan in play, in one thread, from one `set_timesteps` to the next."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from fewer.engine import Step, advance, bind, output
from fewer.errors import InputError
from fewer.guidance.passes import Past
from fewer.integrations.turn import Turn
from fewer.models.model import Model
from fewer.plan import Plan, Row


@dataclass
class Run:
    """State of a scheduler's run.

    thread              of `set_timesteps`, which alone plays the run; None before one
    ahead               steps that the pipeline has before the plan's rows, and leaves out
    begin, at           the row to begin with, where the pipeline has set it; the row in play, None before the first
    first, rows, steps  the rows that are played, from row `first` on, and their numbers; None for rows before it
    state               before the row in play, as the last step left it
    states, outputs     those that later rows name, counted from `first`
    scaled              the network's input, as the pipeline's sample was last scaled
    scales_input        whether the pipeline has its sample scaled
    noised              whether the run began with noised data, and `noised_at` the row to whose level, where it is one
    played, turn        of `apply`: the last row of which it saw the network's calls, and the passes of one of a plan that guides
    past                passes of guided rows, for rules that remember them
    """

    thread: int | None = None
    begin: int | None = None
    ahead: int = 0
    at: int | None = None
    first: int = 0
    rows: tuple[Row, ...] = ()
    steps: list[Step | None] = field(default_factory=list)
    state: Tensor | None = None
    states: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    scaled: Tensor | None = None
    scales_input: bool = False
    noised: bool = False
    noised_at: int | None = None
    played: int | None = None
    turn: Turn | None = None
    past: dict[int, Past] = field(default_factory=dict)

    def start(self, plan: Plan, model: Model, first: int) -> None:
        """Begin with a row; rows whose earlier outputs were never made take the oldest one that was."""
        rest = plan if first == 0 else plan.from_row(first)
        self.first = len(plan.rows) - len(rest.rows)
        self.rows = rest.rows
        rows = tuple(replace(row, blocks={}) for row in rest.rows)  # blocks are played around the network
        self.steps = [*[None] * self.first, *bind(model, replace(rest, rows=rows))]
        self.at = first

    def own(self, name: str) -> Run:
        """The run itself, of this thread, whose it becomes where it is nobody's. Raises InputError where it is another's."""
        here = threading.get_ident()
        if self.thread is None:
            self.thread = here
        if self.thread != here:
            raise in_use(f"scheduler of plan {name!r}")
        return self

    def advance(self, n: int, x: Tensor, f: Tensor, generator: Any) -> tuple[Tensor, Tensor]:
        """The state after row n, and the row's data prediction, from the network's output f at state x, float32."""
        step = self.steps[n]
        if step is None:
            return x, x
        k = n - self.first
        u = self._output(k, step, x, f)

        def draw(_: int) -> Tensor:
            return randn_tensor(x.shape, generator=generator, device=x.device, dtype=torch.float32)

        self.states[k], self.outputs[k] = x, u
        after = advance(k, step, self.states, self.outputs, draw)
        step.forget(self.states, self.outputs)
        return after, x - float(step.tau) * u

    def _output(self, k: int, step: Step, x: Tensor, f: Tensor) -> Tensor:
        """u of the k-th row of the run at its state x, guided where the row guides."""
        outputs = {"label": f} if self.turn is None else self.turn.passes(f)
        passes = {condition: out.to(torch.float32) for condition, out in outputs.items()}
        if step.row.guidance is None:
            return output(step, x, None, lambda x_in, t, labels: passes["label"])

        def call(x_in: Tensor, t: Any, labels: Tensor | None) -> Tensor:
            asked = labels[:: len(x)].tolist() if labels is not None else [0]
            return torch.cat([passes["empty" if label else "label"] for label in asked])

        labels = torch.zeros(len(x), dtype=torch.int64)
        past = self.past if any(row.guidance is not None and row.guidance.remembers for row in self.rows) else None
        return output(step, x, labels, call, k, past)

    def keep(self, places: list[int]) -> None:
        """Go on with these samples of the batch, in this order."""
        index = torch.tensor(places)
        for held in (self.states, self.outputs):
            held.update({j: tensor[index.to(tensor.device)] for j, tensor in held.items()})
        if self.state is not None:
            self.state = self.state[index.to(self.state.device)]


def in_use(what: str) -> InputError:
    """That a scheduler or a pipeline plays in another thread."""
    return InputError(
        f"this {what} is in use in another thread: give each thread a pipeline with a scheduler of its own (the recipe for servers "
        "in docs/drop-in.md), or put a lock around the pipeline's call"
    )
