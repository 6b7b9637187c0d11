"""Workers of a Ray cluster, as an executor of Ray's tasks. Ray itself makes again what a worker that dies had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from fewer.errors import InputError, first_line
from fewer.workers.extras import missing

RETRIES = 10  # of a task whose worker dies


class Tasks(Executor):
    """Ray's tasks, each on one GPU of the cluster or else on one core."""

    def __init__(self, ray: Any, gpu: bool) -> None:
        self._remote = ray.remote(num_cpus=0 if gpu else 1, num_gpus=1 if gpu else 0, max_retries=RETRIES)
        self._tasks: dict[Callable[..., Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future of fn(*args), which a worker finds by the name of its module."""
        if fn not in self._tasks:
            self._tasks[fn] = self._remote(fn)
        future: Future[Any] = self._tasks[fn].remote(*args, **kwargs).future()
        return future


@contextmanager
def ray_executor(address: str, gpu: bool) -> Iterator[tuple[Executor, int]]:
    """The executor of the cluster at ray://host:port, or for `ray` of the one that this machine is in, which is started where
    there is none; and how many tasks it has room for.

    Raises InputError without Ray, and where no cluster answers or it has no room.
    """
    try:
        import ray
    except ImportError as error:
        raise missing(address) from error
    try:
        ray.init(None if address == "ray" else address, log_to_driver=False, logging_level="error")
    except Exception as error:  # of many types: of sockets, of gRPC, and Ray's own
        raise InputError(f"no Ray cluster is reached at {address}: {first_line(error)}") from error
    try:
        kind = "GPU" if gpu else "CPU"
        count = int(ray.cluster_resources().get(kind, 0))
        if not count:
            raise InputError(f"the Ray cluster at {address} has no {kind}: start a node with one by ray start")
        yield Tasks(ray, gpu), count
    finally:
        ray.shutdown()
