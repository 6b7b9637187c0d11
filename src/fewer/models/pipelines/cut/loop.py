"""A pipeline's loop, cut where it calls its scheduler: asked for the network's output at any state and time.

The pipeline is called as its owner calls it, in a thread of its own, on a shallow copy that has a stand-in for the scheduler:
the pipeline itself is not touched. One call answers many questions. Its first turn is lost, since its state is the pipeline's
own noise.
"""

from __future__ import annotations

import copy
import inspect
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from fewer.errors import InputError
from fewer.models.pipelines.cut.changed import Changed
from fewer.models.pipelines.cut.exchange import Ask, Ended, Exchange, Handed, LetGo
from fewer.models.pipelines.cut.known import Known
from fewer.models.pipelines.cut.stand_in import StandIn

ROOM = 1000  # turns of a call


class Cut:
    """output = cut(x, t), x a whole state (rows, ..) of the pipeline's loop and t a time of its scheduler.

    scheduler  the pipeline's own, at first: that of a plan may be in its place later
    noise      the first state of the first call, without the data that it may be noised from
    given      the arguments of its scheduler's `set_timesteps`, and `whole` whether the loop has all of the times so set
    data       what the first state is noised data of, in its shape, and `begins` the number of the step that it is at; None for
               pure noise

    Raises InputError for a pipeline that does not call its scheduler's `step`, and what the call raises. The thread ends with
    the object, with an error or Ctrl-C, and by `close`; the next question starts a call again.
    """

    def __init__(self, pipe: Any, call: dict[str, Any]) -> None:
        self.pipe, self.scheduler, self.call = pipe, pipe.scheduler, call
        self._lock = threading.Lock()
        self._turns: _Call | None = None
        self._places: Tensor | None = None  # where known data are put back
        self._turns = self._begun({})
        self.noise = self._turns.first.sample.clone()
        loop = self._turns.scheduler
        self.given, self.whole = loop.given, loop.length == len(loop.timesteps) - loop.ends
        self.begins, self.data = loop.begins, None if loop.begins is None else self._noised()
        if self.data is None:
            self.begins = None
        self._packed = None if self.data is None else Known(self.data, self.noise)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """The network's output, as the loop hands it to `step`."""
        with self._lock:
            if self._open_knows and self._places is None:
                self._find_places()
            loop = self._open().scheduler
            loop.places, loop.packed = self._places, self._packed
            answer = self._open().ask(Ask(x, t, modes=tuple(_get_current_dispatch_mode_stack()))).output
            self._places = loop.places
            return answer

    def finished(self, x: Tensor, **changes: Any) -> Any:
        """The pipeline's result from this state after its last step, under a call that has these changes."""
        with self._lock:
            self._end()
            return self._begun(changes).finish(x)

    def close(self) -> None:
        """End the call that is under way, and its thread."""
        with self._lock:
            self._end()

    @property
    def _open_knows(self) -> bool:
        """Whether the call under way has known data, of which it may put some back into its states."""
        return self._open().scheduler.known is not None

    def _find_places(self) -> None:
        """See where known data are put back, by a turn that begins with a state which has them nowhere."""
        turns = self._open()
        turns.scheduler.packed = self._packed
        turns.ask(Ask(self.noise + 1, turns.scheduler.top / 2))
        found = turns.scheduler.places
        self._places = torch.zeros_like(self.noise, dtype=torch.bool) if found is None else found

    def _noised(self) -> Tensor | None:
        """What the first state is noised data of: that of a call which is given the data in its place; None where it is not."""
        call = _Call(self.pipe, self.scheduler, _own(self.pipe, self.call), shown=True)
        data = call.first.sample.clone()
        call.end()
        return None if torch.equal(data, self.noise) else data

    def _open(self) -> _Call:
        """The call under way, or another where it has no room left."""
        if self._turns is None or not self._turns.open:
            self._end()
            self._turns = self._begun(_roomy(self.pipe, self.call))
        return self._turns

    def _begun(self, changes: dict[str, Any]) -> _Call:
        return _Call(self.pipe, self.scheduler, _own(self.pipe, self.call | changes))

    def _end(self) -> None:
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.end()


class _Call:
    """One call of the pipeline, up to its first step, and its thread."""

    def __init__(self, pipe: Any, scheduler: Any, call: dict[str, Any], shown: bool = False) -> None:
        self.kind, self.exchange = type(pipe).__name__, Exchange()
        self.scheduler = StandIn(scheduler, self.exchange, shown)
        mine = copy.copy(pipe)
        vars(mine)["scheduler"] = self.scheduler
        mine.set_progress_bar_config(disable=True)
        self.thread = threading.Thread(
            target=_run, args=(mine, call, self.exchange), name=f"fewer {self.kind}", daemon=True
        )
        self.end = weakref.finalize(self, _end, self.exchange, self.thread)
        self.changed = Changed(pipe)
        try:
            with self._ended_by_errors(), _seeded(pipe):
                self.thread.start()
                self.first = self._answer()
        finally:
            self.changed.begin()

    @property
    def open(self) -> bool:
        """Whether the loop has a turn left that is not its last one."""
        needed = 2 if self.scheduler.joint is None else 4
        return self.end.alive and self.scheduler.steps + needed < self.scheduler.length

    def ask(self, ask: Ask) -> Handed:
        """The turn's answer. Raises what the pipeline raised, and InputError where its loop ended."""
        with self.changed.inside(), self._ended_by_errors():
            self.exchange.asks.put(ask)
            return self._answer()

    def finish(self, x: Tensor) -> Any:
        """The pipeline's result, from this state after the last step."""
        with self.changed.inside(), self._ended_by_errors():
            self.exchange.asks.put(Ask(x, last=True))
            answer = self._next()
            if isinstance(answer, Handed):
                raise InputError(f"{self.kind} goes on after its last step")
        if not self.scheduler.over:
            raise InputError(f"{self.kind} ended its loop before it had its last state: give it more steps")
        self.end()
        return answer.result

    def _answer(self) -> Handed:
        answer = self._next()
        if isinstance(answer, Handed):
            return answer
        if not self.scheduler.steps:
            raise InputError(f"{self.kind} makes no call of its scheduler's step: it has a loop of its own, or none")
        raise InputError(f"{self.kind} ended its loop by itself, as after a callback that interrupts it")

    def _next(self) -> Handed | Ended:
        """What the pipeline's thread hands over, or how it ended; what the pipeline raised is raised here."""
        answer = self.exchange.answers.get()
        if isinstance(answer, Ended) and answer.error is not None:
            raise answer.error
        return answer

    @contextmanager
    def _ended_by_errors(self) -> Iterator[None]:
        """Within it an error, or Ctrl-C, ends the call."""
        try:
            yield
        except BaseException:
            self.end()
            raise


def _run(pipe: Any, call: dict[str, Any], exchange: Exchange) -> None:
    """The thread of a call."""
    try:
        ended = Ended(pipe(**call))
    except LetGo:
        return
    except BaseException as error:  # is raised in the thread that asked
        ended = Ended(error=error)
    finally:
        pipe.scheduler.modes.close()
    exchange.answers.put(ended)


def _end(exchange: Exchange, thread: threading.Thread) -> None:
    """Ask the call to end, which it does at its next step, and wait for it."""
    exchange.asks.put(None)
    if thread.is_alive() and thread is not threading.current_thread():
        thread.join()


@contextmanager
def _seeded(pipe: Any) -> Iterator[None]:
    """Within it torch's own generators are at seed 0: some pipelines sample conditions by them, whatever generator is given."""
    device = torch.device(pipe.device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def _own(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """The call with generators of its own, in the state in which the owner's are: every call of the pipeline draws the same."""
    given = call.get("generator")
    if given is None:
        return call | ({"generator": torch.Generator().manual_seed(0)} if takes(pipe, "generator") else {})
    several = isinstance(given, list | tuple)
    copies = [torch.Generator(each.device).set_state(each.get_state()) for each in (given if several else [given])]
    return call | {"generator": copies if several else copies[0]}


def _roomy(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Changes of the call by which its loop has room for many turns."""
    own = {name: None for name in ("timesteps", "sigmas") if call.get(name) is not None}
    return own | ({"num_inference_steps": ROOM} if takes(pipe, "num_inference_steps") else {})


def takes(pipe: Any, name: str) -> bool:
    """Whether the pipeline's call has an argument of this name."""
    return name in inspect.signature(type(pipe).__call__).parameters
