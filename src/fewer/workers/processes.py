"""Worker processes of this machine, as an executor.

Each has a thread here that hands it one request after another. Where a process dies, by a signal or for lack of memory, its
request alone is made again, by a new process; the others do not notice.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from fewer.errors import InputError
from fewer.workers.answer import answer
from fewer.workers.process import read, write

DEATHS = 3  # of processes at the same request, at which it is given up
STARTS = 20  # in a row that come to nothing


class Processes(Executor):
    """`count` processes, which start at once; `submit` takes `answer` and a request alone."""

    def __init__(self, count: int, device: str = "cpu") -> None:
        self._tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self.lanes = [_Lane(environment) for environment in _environments(count, device)]
        self._threads = [threading.Thread(target=self._serve, args=(lane,), daemon=True) for lane in self.lanes]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future answer to a request."""
        assert fn is answer  # all that the processes do
        (request,) = args
        future: Future[Any] = Future()
        self._tasks.put((future, request))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes at once: they hold nothing that is not here."""
        for lane in self.lanes:
            lane.end()
            self._tasks.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _serve(self, lane: _Lane) -> None:
        with suppress(InputError):  # which the first request meets again
            lane.ready()
        while (task := self._tasks.get()) is not None:
            future, request = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(lane.ask(request))
                except Exception as error:
                    future.set_exception(error)
        lane.bury()


@dataclass
class _Lane:
    """A process and its successors.

    environment  variables that it has besides those of this process
    """

    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    ended: bool = False
    _how: str = ""
    _said: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: bytes) -> bytes:
        """The answer to a request. Raises InputError where process after process has died of it, or none starts."""
        for _ in range(DEATHS):
            process = self.ready()
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(OSError):  # it died while it was written to
                write(process.stdin, request)
                if (found := read(process.stdout)) is not None:
                    return found
            self.bury()
        raise InputError(
            f"{DEATHS} worker processes have ended at the same work ({self._how}): give fewer workers, or a smaller batch"
        )

    def ready(self) -> subprocess.Popen[bytes]:
        """The process, or a new one that has said that it is ready."""
        for _ in range(STARTS):
            if self.process is not None:
                return self.process
            process = self._started()
            assert process.stdout is not None
            if read(process.stdout) is not None:
                return process
            self.bury()
        raise InputError(f"worker processes end as soon as they start ({self._how})")

    def end(self) -> None:
        """Kill the process; no other is started."""
        with self._lock:
            self.ended = True
            if self.process is not None:
                self.process.kill()

    def bury(self) -> None:
        """Close what a process has left, and keep how it ended."""
        with self._lock:
            process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        status = process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):  # what it was not given any more
                assert stream is not None
                stream.close()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().splitlines()[-1:]
        self._how = ": ".join([f"status {status}", *last])

    def _started(self) -> subprocess.Popen[bytes]:
        """A new process, in a session of its own: an interrupt is the search's to handle."""
        with self._lock:
            if self.ended:
                raise InputError("the workers have been ended")
            self._said.seek(0)
            self._said.truncate()
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fewer.workers.process"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **self.environment},
            )  # fmt: skip
            return self.process


def _environments(count: int, device: str) -> list[dict[str, str]]:
    """For `cuda` without a number one GPU for each process, in turn; any other device is all processes'."""
    if device != "cuda":
        return [{}] * count
    import torch  # whose import takes long

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
    return [{"CUDA_VISIBLE_DEVICES": visible[n % len(visible)]} for n in range(count)]
