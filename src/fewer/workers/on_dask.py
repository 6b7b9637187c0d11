"""Workers of a Dask cluster, by its scheduler's address. Dask itself hands out again what a worker that dies had."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from fewer.errors import InputError, first_line
from fewer.workers.extras import missing

REACHED = 10.0  # seconds in which the scheduler must answer


@contextmanager
def dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    """The executor of the cluster at dask://host:port, and how many worker processes it has.

    Raises InputError without Dask, and where no scheduler answers or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise missing(address) from error
    try:
        client = Client(address.replace("dask://", "tcp://"), timeout=REACHED, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler is reached at {address}: {first_line(error)}") from error
    with client:
        count = len(client.nthreads())
        if not count:
            raise InputError(f"the Dask scheduler at {address} has no workers: start some with dask worker")
        yield client.get_executor(pure=False), count
