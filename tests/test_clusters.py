"""Workers of Dask and Ray, for real: each cluster is started here, by the test, and ended with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fewer
from fewer.errors import InputError
from fewer.noise import unit_noise
from fewer.search.objective import Objective
from fewer.workers.team import Team, team_of

MODEL = """
import time, fewer
from fewer.models.schedules import Flow

def asleep():
    "One that waits for a twentieth of a second a call."
    exact = fewer.Model.from_mixture(fewer.GaussianMixture.random((1, 4, 4), components=3, seed=0), Flow())
    def network(x, t, labels):
        time.sleep(0.05)
        return exact.network(x, t, labels)
    return fewer.Model.from_denoiser(network, exact.schedule, exact.shape, name="asleep", hash="asleep")
"""
LONGEST = 240.0  # seconds that a cluster may take to start on a busy machine


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fewer.Model:
    """One that workers find, too."""
    (tmp_path / "models_for_clusters.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return fewer.load("models_for_clusters:asleep")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, which is ended with all that it has started."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def reached(workers: str, model: fewer.Model, count: int) -> Any:
    """The team of a cluster, as soon as it has so many workers."""
    limit = time.monotonic() + LONGEST
    while True:
        entered = team_of(workers, model)
        try:
            team = entered.__enter__()
            if team is not None and team.count >= count:
                return entered, team
            entered.__exit__(None, None, None)
        except InputError:
            if time.monotonic() > limit:
                raise
        time.sleep(1)


@contextmanager
def team_at(workers: str, model: fewer.Model, count: int = 1) -> Iterator[Team]:
    entered, team = reached(workers, model, count)
    try:
        yield team
    finally:
        entered.__exit__(None, None, None)


def same_bits(team: Team, model: fewer.Model, kill: Callable[[], object] = lambda: None) -> bool:
    """Whether rollouts and a Jacobian are those of one process, with a kill in the middle."""
    plan = fewer.standard("dpmpp-2m", model, nfe=5)
    moved = [
        (replace(plan, rows=(*plan.rows[:n], replace(row, offset=0.1), *plan.rows[n + 1 :])), 0.1)
        for n, row in enumerate(plan.rows)
    ]
    one = Objective(model, unit_noise(0, range(24), model.shape), batch=4)
    two = replace(one, workers=team).apart()
    timer = threading.Timer(1.0, kill)
    timer.start()
    pairs = []
    for noises in (one, two):
        here = noises.rollout(plan)
        pairs.append((here.samples, noises.jacobian(here, moved).changes, noises.samples(plan)))
    timer.join()
    assert two.evaluations > 0
    return all(map(torch.equal, *pairs))


@pytest.mark.slow
def test_workers_of_dask(model: fewer.Model) -> None:
    """One of them is killed meanwhile."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'fewer[dask]'")
    port = free_port()
    address, quiet = f"tcp://127.0.0.1:{port}", ("--no-dashboard",)
    worker = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", *quiet)
    scheduler = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), *quiet)
    with (
        started(*scheduler),
        started(*worker) as one,
        started(*worker),
        team_at(f"dask://127.0.0.1:{port}", model, 2) as team,
    ):
        assert same_bits(team, model, one.kill)


@pytest.mark.slow
def test_a_dask_cluster_without_workers_and_one_that_is_not_there(
    model: fewer.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'fewer[dask]'")
    monkeypatch.setattr("fewer.workers.on_dask.REACHED", 1.0)
    with (
        pytest.raises(InputError, match="no Dask scheduler is reached"),
        team_of(f"dask://127.0.0.1:{free_port()}", model),
    ):
        pass


@pytest.mark.slow
def test_workers_of_ray(model: fewer.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By `ray` and by ray://, of which one is killed meanwhile."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'fewer[ray]'")
    pytest.importorskip("grpc", reason="Ray's client is not installed: pip install 'fewer[ray]'")
    head, client = free_port(), free_port()
    start = (
        "ray.scripts.scripts", "start", "--head", "--block", "--port", str(head), "--ray-client-server-port", str(client),
        "--num-cpus", "2", "--include-dashboard", "false", "--disable-usage-stats",
    )  # fmt: skip
    with started(*start):
        with team_at(f"ray://127.0.0.1:{client}", model, 2) as team:
            assert same_bits(team, model)
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{head}")
        with team_at("ray", model, 2) as team:
            assert same_bits(team, model, lambda: kill_one_task(str(tmp_path).encode()))


def kill_one_task(folder: bytes) -> None:
    """Kill a process that has one of Ray's tasks, of the cluster that has this folder on its path."""
    for entry in Path("/proc").iterdir():
        task = entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::answer")
        if task and folder in (entry / "environ").read_bytes():
            os.kill(int(entry.name), signal.SIGKILL)
            return


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there(model: fewer.Model) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'fewer[ray]'")
    with pytest.raises(InputError, match="no Ray cluster is reached"), team_of(f"ray://127.0.0.1:{free_port()}", model):
        pass


@pytest.mark.parametrize(
    ("workers", "module", "extra"),
    [("dask://here:8786", "distributed", "dask"), ("ray", "ray", "ray"), ("ray://here:1", "ray", "ray")],
)
def test_a_cluster_without_its_extra(
    model: fewer.Model, monkeypatch: pytest.MonkeyPatch, workers: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'fewer\[{extra}\]'"), team_of(workers, model):
        pass
