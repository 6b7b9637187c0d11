"""A pipeline's call under a plan: what a scheduler alone cannot play is done where the pipeline calls its network.

`apply` gives the pipeline object a class of its own, derived from its class, whose call begins a `Play` and ends it, whatever
ends the call; nothing else is put anywhere. While the call lasts, the pipeline's attributes for its networks are stand-ins,
which share everything with the networks but are not they: other pipelines and threads never meet one. A stand-in asks the play
that is under way in its thread for the row, runs those of the passes that the row needs, and notes on a tape what the
pipeline makes of their outputs. The scheduler's `step` plays that tape again from each pass alone, and so has the row's passes
in the layout of its samples, in pipelines that make them in one call or one after another. What the tape shows to be anything
else than one pass, or one with the prompt and one without, is refused.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from fewer.integrations.beginnings import is_plain
from fewer.integrations.calls import Arguments, Call
from fewer.integrations.handing_on import check_left
from fewer.integrations.row_blocks import RowBlocks
from fewer.integrations.run import Run, in_use
from fewer.integrations.scheduler import FewerScheduler
from fewer.integrations.tape import plain
from fewer.integrations.turn import Turn
from fewer.models.pipelines.network_files import NETWORKS
from fewer.plan import Plan

SCALES = ("true_cfg_scale", "guidance_scale")

_here = threading.local()
_busy: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # pipelines whose call is under way, and its thread
_lock = threading.RLock()
_derived: dict[type, type] = {}  # classes made here, and what they derive from
_networks: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()  # those that stand-ins stand for


class Play:
    """One call of a pipeline: the run of its FewerScheduler, which begins after `before`, and the row in play.

    guidance  the guidance scales of the call by their names
    """

    def __init__(self, pipe: Any, guidance: dict[str, Any]) -> None:
        self.pipe, self.guidance = pipe, guidance
        self.before: Run = pipe.scheduler.run
        self.run: Run | None = None
        self.number = -1
        self.scales = False
        self.blocks = RowBlocks()

    def called(self, network: nn.Module, given: Arguments) -> Any:
        """The answer to a call of one of the pipeline's networks."""
        scheduler = self.pipe.scheduler
        if not isinstance(scheduler, FewerScheduler) or scheduler.run is self.before:
            return network(*given.args, **given.kwargs)
        run, n = scheduler.located(scheduler.time_of(given.time))
        if n >= len(scheduler.plan.rows):
            return network(*given.args, **given.kwargs)
        if run is not self.run or n != self.number:
            self._begin(scheduler, run, n)
        if self.scales and n == 0 and not run.scales_input:  # the pipeline may have it scaled after a call of its own
            given = given.with_x(scheduler.first_input(given.x))
        number = self.blocks.next_call(len(given.x))

        def some(these: Arguments, rows: range) -> Any:
            with self.blocks.playing(network, these, number, rows):
                return network(*these.args, **these.kwargs)

        if run.turn is None:
            return some(given, range(len(given.x)))
        return run.turn.called(Call(network, given, some))

    def _begin(self, scheduler: FewerScheduler, run: Run, n: int) -> None:
        """Begin a row."""
        if run is not self.run:
            self.scales = not run.noised and run.scaled is None and not scheduler.starts_plainly()
        self.run, self.number, run.played = run, n, n
        self.blocks.begin(run, n)
        if guides(scheduler.plan):
            plan, kind = scheduler.plan, type(self.pipe).__name__
            run.turn = Turn(plan.name, kind, self.guidance, n, plan.rows[n].conditions).following(run.turn)

    def end(self) -> None:
        """Leave nothing behind."""
        self.blocks.close()
        if self.run is not None:
            self.run.turn = None


@contextmanager
def played(pipe: Any, guidance: dict[str, Any]) -> Iterator[None]:
    """A call of a pipeline under its scheduler: until its end the pipeline's networks are stand-ins, where its plans need them."""
    if not needs_hook(pipe.scheduler):
        yield
        return
    with _lock:
        here = threading.get_ident()
        if _busy.get(pipe, here) != here:
            raise in_use(type(pipe).__name__)
        outer = pipe in _busy
        _busy[pipe] = here
    parts = vars(pipe)
    own = {} if outer else {name: part for name, part in parts.items() if _is_network(name, part)}
    plays = vars(_here).setdefault("plays", [])
    plays.append(Play(pipe, guidance))
    stand_ins = {name: _stand_in(network) for name, network in own.items()}
    try:
        parts.update(stand_ins)
        yield
    finally:
        parts.update({name: network for name, network in own.items() if parts[name] is stand_ins[name]})
        plays.pop().end()
        if not outer:
            with _lock:
                del _busy[pipe]


def watch(pipe: Any) -> None:
    """Have the pipeline's calls played, until `unwatch`."""
    unwatch(pipe)
    pipe.__class__ = _played_class(type(pipe))  # type: ignore[arg-type]


def unwatch(pipe: Any) -> None:
    """Give the pipeline its own class back."""
    if type(pipe) in _derived:
        pipe.__class__ = _derived[type(pipe)]


@cache
def _played_class(kind: type) -> type:
    """The class of a pipeline whose calls are played; it makes pipelines of the class that it derives from."""

    signature = inspect.signature(kind.__call__)

    @wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self.scheduler, FewerScheduler):
            return kind.__call__(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        before, told = self.scheduler.run, given.arguments
        with played(self, {name: told[name] for name in SCALES if name in told}):
            found = kind.__call__(self, *args, **kwargs)
        if isinstance(self.scheduler, FewerScheduler):
            check_left(self.scheduler, before, told.get("denoising_end"))
        return found

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        return kind(*args, **kwargs)

    def reduced(self: Any, protocol: Any) -> Any:  # copies are played as well
        return _again, (kind,), vars(self)

    return _made(kind, {"__call__": call, "__new__": new, "__reduce_ex__": reduced})


def _again(kind: type) -> Any:
    return object.__new__(_played_class(kind))


@cache
def _stand_in_class(kind: type) -> type:
    """The class of stand-ins for networks of a kind."""

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        network, plays = _networks[self], vars(_here).get("plays")
        if not plays:
            return network(*args, **kwargs)
        return plays[-1].called(network, Arguments(plain(args), plain(kwargs)))

    return _made(kind, {"__call__": call})


def _stand_in(network: nn.Module) -> nn.Module:
    """Something that shares all that the network has and is, but for its calls."""
    made: nn.Module = object.__new__(_stand_in_class(type(network)))  # type: ignore[arg-type]
    made.__dict__ = network.__dict__
    _networks[made] = network
    return made


def _made(kind: type, more: dict[str, Any]) -> type:
    made = type(kind)(
        kind.__name__, (kind,), {**more, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    )
    _derived[made] = kind
    return made


def networks(pipe: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline's loop by the names of its attributes, without the wrapper of torch.compile."""
    parts = vars(pipe).items() if hasattr(pipe, "__dict__") else ()
    return {name: vars(part)["_modules"].get("_orig_mod", part) for name, part in parts if _is_network(name, part)}


def _is_network(name: str, part: Any) -> bool:
    return isinstance(part, nn.Module) and name.startswith(NETWORKS) and type(part) not in _derived


def guides(plan: Plan) -> bool:
    """Whether any row of the plan guides; the other rows then make the conditional pass alone."""
    return any(row.guidance is not None for row in plan.rows)


def needs_hook(scheduler: FewerScheduler) -> bool:
    """Whether a plan of the scheduler is more than it can play alone."""
    return any(
        guides(each.plan) or any(row.blocks for row in each.plan.rows) or not is_plain(each.plan, each.scales.first)
        for each in scheduler.choices.values()
    )
