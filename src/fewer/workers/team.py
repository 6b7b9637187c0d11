"""A team: a model, and the workers that play plans of it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import cast

from fewer.errors import InputError, reason
from fewer.models.model import Model
from fewer.workers.answer import answer, request, result
from fewer.workers.play import Count, Made, Play
from fewer.workers.reference import Reference
from fewer.workers.where import Given, check_workers, executor_of

AHEAD = 2  # requests that are sent out for each worker, so that none waits for the next


@dataclass(frozen=True)
class Team:
    """Workers of an executor.

    count      how many there are
    where      what they are called in errors
    reference  of the model, as JSON
    """

    model: Model
    executor: Executor
    count: int
    where: str
    reference: str

    def made(self, plays: Iterable[Play], count: Count) -> Iterator[Made]:
        """The results of plays in their order, to the bit as `fewer.workers.play.made_here` has them.

        `count` is called for each before its result is handed out, however many have been made by then. Raises InputError
        where the workers are lost.
        """
        sent: deque[tuple[Play, Future[bytes]]] = deque()
        rest = iter(plays)
        try:
            while True:
                while len(sent) < AHEAD * self.count and (play := next(rest, None)) is not None:
                    sent.append((play, self._sent(play)))
                if not sent:
                    return
                play, future = sent.popleft()
                count(play.evaluations)
                yield cast(Made, self._received(future))
        finally:
            for _, future in sent:
                future.cancel()

    def check(self) -> None:
        """Have a worker load the model. Raises InputError where it cannot, or would compute something else."""
        self._received(self._sent(None))

    def _sent(self, play: Play | None) -> Future[bytes]:
        with self._reached():
            return self.executor.submit(answer, request(self.reference, play))

    def _received(self, future: Future[bytes]) -> object:
        with self._reached():
            message = future.result()
        return result(message, self.model.device)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raise what an executor raises, a cluster that has gone, as InputError."""
        try:
            yield
        except InputError:
            raise
        except (Exception, CancelledError) as error:
            raise InputError(
                f"workers ({self.where}) are of no use any more: {reason(error)}; what was finished is kept, resume goes on"
            ) from error


@contextmanager
def team_of(workers: Given, model: Model) -> Iterator[Team | None]:
    """The workers that were asked for, for this model; None for 1, which is this process.

    Raises InputError where there are none of these, or they cannot load the model.
    """
    if (where := check_workers(workers)) == 1:
        yield None
        return
    reference = json.dumps(asdict(Reference.of(model)))
    with executor_of(where, model.device) as (executor, count):
        team = Team(model, executor, count, f"{where} processes" if isinstance(where, int) else where, reference)
        team.check()
        yield team
