"""Hook on a pipeline's network, for what a scheduler alone cannot play: starts, guidance per row, shortcuts of blocks.

Pipelines that guide call their network on two passes at once and combine the halves themselves,
F(empty) + scale (F(label) - F(empty)). The hook returns the row's guided output in both halves, so that any such
formula is the identity. Of a row that makes one pass, only that half is run.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fewer.blocks.actions import bound
from fewer.blocks.playing import Played, playing
from fewer.engine import output
from fewer.errors import InputError
from fewer.integrations.scheduler import FewerScheduler, Run, in_play
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.plan import Plan

INPUTS = ("hidden_states", "sample", "x")  # by which networks call what they denoise
PER_FRAME = "encoder_hidden_states"  # which video networks take once a frame
UNBATCHED = ("image_rotary_emb", "img_ids", "txt_ids")
TAKEN = (
    "another run began meanwhile to play a plan that leaves out blocks of this network: give each thread a network of its "
    "own, or put a lock around the pipeline's call"
)
_lock = threading.Lock()  # of putting hooks on networks and taking them off


@dataclass
class Hook:
    """Hook on the network of pipelines; inert while no FewerScheduler is being played in the thread.

    label_first  the order of the pipelines' two passes: most have the unconditional one first
    pipelines    the number of those that share the network, and this hook
    """

    network: nn.Module
    label_first: bool = False
    pipelines: int = 0
    handles: list[Any] = field(default_factory=list)
    blocks: ExitStack = field(default_factory=ExitStack)
    played: Played | None = None
    run: Run | None = None

    @classmethod
    def attached(cls, network: nn.Module, label_first: bool = False) -> Hook:
        """The hook on a network for one pipeline more: the one that is there already, or else a new one."""
        with _lock:
            there = (getattr(each, "__self__", None) for each in network._forward_pre_hooks.values())
            hook = next((each for each in there if isinstance(each, cls)), None) or cls(network, label_first)
            if not hook.handles:
                hook.handles = [
                    network.register_forward_pre_hook(hook.before, with_kwargs=True),
                    network.register_forward_hook(hook.after, with_kwargs=True),
                ]
            hook.pipelines += 1
            return hook

    def remove(self) -> None:
        """Take it off for one pipeline; after the last one the network is as it was."""
        with _lock:
            self.pipelines -= 1
            if self.pipelines:
                return
            for handle in self.handles:
                handle.remove()
            self.handles = []
            self.blocks.close()
            self.played = self.run = None

    def before(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Arguments of the network's call: the plan's start for unit noise, and only the passes that the row makes."""
        scheduler = in_play()
        if scheduler is None:
            self._rest()
            return None
        (run, n), x = scheduler.located(), given(args, kwargs)
        if n == 0 and not run.noised and run.scaled is None and not scheduler.starts_plainly():
            args, kwargs = with_input(args, kwargs, scheduler.first_input(x))
        conditions = self._conditions(scheduler.plan, n)
        samples = len(x)
        if guides(scheduler.plan):
            samples = self._samples(scheduler.plan, run, x)
            if len(conditions) == 1:
                at = samples * self._order().index(conditions[0])
                args, kwargs = part(args, len(x), at, at + samples), part(kwargs, len(x), at, at + samples)
        self._play_blocks(run, n, samples, conditions, args, kwargs)
        return args, kwargs

    def after(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """Output of the network's call: the row's guided output in both halves of the batch."""
        self._rest()
        scheduler = in_play()
        if scheduler is None:
            return None
        run, n = scheduler.located()
        if any(row.blocks for row in run.rows) and self.run is not run:
            raise InputError(TAKEN)
        run.played = n
        if not guides(scheduler.plan):
            return None
        conditions = self._conditions(scheduler.plan, n)
        whole = out if isinstance(out, Tensor) else out[0]
        x = given(args, kwargs)[: len(whole) // len(conditions)]
        channels = min(x.shape[1], whole.shape[1])  # the rest are learned variances, or an inpainting network's mask
        passes = dict(zip(conditions, whole[:, :channels].to(torch.float32).chunk(len(conditions)), strict=True))
        f = guided(scheduler, run, n, x[:, :channels], passes).to(whole.dtype)
        rest = whole[:, channels:] if len(conditions) == 2 else torch.cat([whole[:, channels:]] * 2)
        both = torch.cat([torch.cat([f, f]), rest], 1)
        if isinstance(out, Tensor):
            return both
        return (both, *out[1:]) if isinstance(out, tuple) else type(out)(both)

    def _order(self) -> tuple[str, str]:
        return ("label", "empty") if self.label_first else ("empty", "label")

    def _conditions(self, plan: Plan, n: int) -> tuple[str, ...]:
        """Conditions of the passes of row n, in the pipeline's order."""
        row = plan.rows[n]
        return self._order() if len(row.conditions) == 2 else row.conditions

    def _samples(self, plan: Plan, run: Run, x: Tensor) -> int:
        """Number of samples in a call of two passes."""
        half = len(x) // 2
        if run.batch is None:
            if len(x) % 2 or not torch.equal(x[:half], x[half:]):
                raise InputError(
                    f"plan {plan.name!r} guides, but the pipeline does not call its network on two passes at "
                    "once; call it with a guidance_scale above 1, or play a plan without guidance"
                )
            # DiT's pipeline keeps two copies of its samples, too
            run.batch = len(x) if self.label_first else half
        return half

    def _play_blocks(self, run: Run, n: int, samples: int, conditions: tuple[str, ...], args: Any, kwargs: Any) -> None:
        """Set the row in play for the blocks, which a run's first call finds and puts under the plan's control."""
        if not any(row.blocks for row in run.rows):
            return
        if self.run is not run:
            if run.played is not None:
                raise InputError(TAKEN)
            self.blocks.close()
            x = given(args, kwargs)
            model = _as_model(self.network, part(args, len(x), 0, 1), part(kwargs, len(x), 0, 1), x)
            self.played = self.blocks.enter_context(playing(model, run.rows, bound(model, run.rows)))
            self.run = run
        if self.played is not None and n >= run.first:
            self.played.at(n - run.first, samples)
            self.played.conditions, self.played.left = conditions, ()
            self.played.call += 1
            self.played.now = n - run.first

    def _rest(self) -> None:
        """Let all blocks run, as outside of a plan's calls; but not in the middle of another thread's call."""
        if self.played is not None and self.run is not None and self.run.thread in (None, threading.get_ident()):
            self.played.now = -1


def guides(plan: Plan) -> bool:
    """Whether any row of the plan guides; the other rows then make the conditional pass alone."""
    return any(row.guidance is not None for row in plan.rows)


def needs_hook(scheduler: FewerScheduler) -> bool:
    """Whether the plan is more than a scheduler can play alone."""
    plan = scheduler.plan
    return guides(plan) or any(row.blocks for row in plan.rows) or not scheduler.starts_plainly()


def guided(scheduler: FewerScheduler, run: Run, n: int, x: Tensor, passes: Mapping[str, Tensor]) -> Tensor:
    """Row n's guided network output F = (u - p x~) / q, float32, from those of its passes at input x = c x~."""
    step = run.steps[n]
    if step is None or step.row.guidance is None:
        return passes["label"]
    state = x.to(torch.float32) / step.c_in

    def call(x_in: Tensor, t: Any, labels: Tensor | None) -> Tensor:
        given = torch.zeros(len(x_in), dtype=torch.int64) if labels is None else labels
        return torch.cat([passes["empty" if label else "label"] for label in given[:: len(x)]])

    labels = torch.zeros(len(x), dtype=torch.int64)
    bare = Model(scheduler.frame.network, scheduler.frame.schedule, scheduler.frame.predicts, (1,), 1, 1)
    past = run.past if any(row.guidance is not None and row.guidance.remembers for row in run.rows) else None
    u = output(replace(step, model=bare), state, labels, call, n - run.first, past)
    return (u - step.p * state) / step.q


def given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """The argument that the network denoises."""
    return args[0] if args else next(kwargs[name] for name in INPUTS if name in kwargs)


def with_input(args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with another sample."""
    if args:
        return (x, *args[1:]), kwargs
    name = next(name for name in INPUTS if name in kwargs)
    return args, kwargs | {name: x}


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


class _Replay:
    """A network that answers every call as it did to these arguments."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.module, self.args, self.kwargs = module, args, kwargs

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        out = self.module.forward(*self.args, **self.kwargs)  # without its hooks, of which this is one
        return out if isinstance(out, Tensor) else out[0]


def _as_model(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> Model:
    """A model in which blocks can be found, by one call on these arguments of one sample."""
    name = type(network).__name__
    return Model(
        _Replay(network, args, kwargs), Flow(), "flow", tuple(x.shape[1:]), name=name, device=x.device, dtype=x.dtype
    )
