"""Where workers are: processes of this machine, or a cluster by its address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import torch

from fewer.errors import InputError
from fewer.workers.extras import check_installed
from fewer.workers.on_dask import dask_executor
from fewer.workers.on_ray import ray_executor
from fewer.workers.processes import Processes

Given = int | str
MOST = 1024  # processes
CLUSTER = re.compile(r"(dask|ray)://[^/\s:]+:\d{1,5}|ray")


def check_workers(given: Given) -> Given:
    """A number of processes, or the address of a cluster. Raises InputError for anything else, and without the package that the
    cluster needs.
    """
    if isinstance(given, int | str) and not isinstance(given, bool):
        text = str(given).strip()
        if re.fullmatch(r"\d{1,9}", text) and 1 <= int(text) <= MOST:
            return int(text)
        if CLUSTER.fullmatch(text):
            check_installed(text)
            return text
    raise InputError(
        f"workers is {given!r:.80}; expected a number of processes from 1 to {MOST}, dask://host:port, ray://host:port, or ray"
    )


@contextmanager
def executor_of(where: Given, device: torch.device) -> Iterator[tuple[Executor, int]]:
    """An executor and how many workers it has, until the end of the block.

    Raises InputError where a cluster is not reached.
    """
    if isinstance(where, str):
        ray = where.startswith("ray")
        with ray_executor(where, device.type == "cuda") if ray else dask_executor(where) as found:
            yield found
        return
    executor = Processes(where, str(device))
    try:
        yield executor, where
    finally:
        executor.shutdown()
