"""What workers bring: evaluations a second of two processes against one, what kills cost, and how many one search can keep busy.

    python -m benchmarks.workers [--rounds 15] [--call 0.03]
    python -m benchmarks.workers --simulated

The network waits for `--call` seconds a call and computes nothing, so that the cores are free: what is measured is the sharing
out, of one Gauss-Newton iteration on 64 noises in micro-batches of 8 (a rollout that keeps its history, and a Jacobian of 8
neighbours). One and two take turns; ratios are medians over rounds with 95 % intervals by order statistics.

Of more workers than this machine has cores for, simulated ones do nothing but sleep for the time of a play and answer with
what was computed before, while requests and answers are packed and unpacked as ever: the share of the workers' time that is
used then falls by what the search itself takes. Of a thousand, more than one search can keep busy, that share says how many it
can. Writes benchmarks/results/workers.json, of which `--simulated` leaves the figures of processes as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fewer
from fewer.evaluate.cost.clock import clock_ratio
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.search.objective import Objective
from fewer.versions import versions
from fewer.workers.answer import request, result
from fewer.workers.message import packed
from fewer.workers.play import Deterministic
from fewer.workers.processes import Processes
from fewer.workers.team import Team, team_of

CALL = "FEWER_BENCHMARK_CALL"  # seconds of a call, for the processes too
KILLS = 20
COUNTS = (1, 8, 100, 1000)  # of simulated workers
SIZES = {"16x16 images, 64 at a time": (64, 1, 16, 16), "latents of 1024x1024, 4 at a time": (4, 4, 128, 128)}
PLAY = 2.0  # seconds of a play of 5 calls, as 4 samples of a network of 0.1 s each take


def asleep() -> Model:
    """A model whose network waits."""
    seconds = float(os.environ[CALL])

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        time.sleep(seconds)
        return x * 0.5

    return fewer.Model.from_denoiser(network, Flow(), (1, 16, 16), name="asleep", hash="asleep")


def iteration(noises: Objective, plan: Plan) -> tuple[Tensor, Tensor]:
    """A rollout and a Jacobian; what they give."""
    here = noises.rollout(plan)
    rows = [replace(row, offset=1e-3) for row in plan.rows]
    moved = [replace(plan, rows=(*plan.rows[:n], rows[n], *plan.rows[n + 1 :])) for n in (*range(len(rows)), 0, 1, 2)]
    return here.samples, noises.jacobian(here, [(each, 1e-3) for each in moved]).changes


def of_two(rounds: int) -> dict[str, Any]:
    """Evaluations a second of two processes over those of one."""
    model = fewer.load("benchmarks.workers:asleep")
    plan = fewer.standard("dpmpp-2m", model, 5)
    one = Objective(model, unit_noise(0, range(64), model.shape), batch=8)
    with team_of(2, model) as team:
        assert team is not None
        two = replace(one, workers=team)
        same = all(map(torch.equal, iteration(one, plan), iteration(two, plan)))
        ratio = clock_ratio(lambda: iteration(one, plan), lambda: iteration(two, plan), repeats=rounds)
        assert isinstance(team.executor, Processes)
        return {
            "evaluations a second, 2 / 1": ratio.to_dict(),
            "same bits": same,
            f"{KILLS} kills": killed(team.executor, lambda: iteration(two, plan), iteration(one, plan)),
        }


def killed(processes: Processes, work: Callable[[], Any], right: Any) -> dict[str, Any]:
    """Work done again and again while workers are killed at random moments, until so many have been."""
    rounds, equal = 0, True
    with killing(processes) as pids:
        while len(pids) < KILLS:
            rounds, equal = rounds + 1, equal and all(map(torch.equal, work(), right))
    return {"iterations meanwhile": rounds, "same bits": equal}


@contextmanager
def killing(processes: Processes) -> Iterator[list[int]]:
    """Meanwhile processes are killed; those that were."""
    pids: list[int] = []
    draws, over = random.Random(0), threading.Event()

    def kill() -> None:
        while len(pids) < KILLS and not over.wait(draws.uniform(0, 4)):
            alive = [lane.process.pid for lane in processes.lanes if lane.process is not None]
            if alive and (pid := draws.choice(alive)) not in pids:
                os.kill(pid, signal.SIGKILL)
                pids.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    yield pids
    over.set()
    thread.join()


class Sleepers(Executor):
    """Workers that wait and give one answer to all requests."""

    def __init__(self, count: int, seconds: float, given: bytes) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._seconds, self._given = seconds, given

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The answer, after the time of a play."""
        return self._threads.submit(self._answer)

    def _answer(self) -> bytes:
        time.sleep(self._seconds)
        return self._given


def busy(size: tuple[int, ...], count: int, rounds: int) -> dict[str, Any]:
    """The share of simulated workers' time that is used, at rollouts whose histories come back."""
    reference, noise = "", torch.zeros(size)
    model = Model.from_denoiser(lambda x, t, y: x, Flow(), size[1:], name="none", hash="none")
    plan = fewer.standard("dpmpp-2m", model, 5)
    play = Deterministic(plan, noise, None, keep=True)
    given = packed_answer(model, play)
    shares = []
    for _ in range(rounds):
        executor = Sleepers(count, PLAY, given)
        team, plays = Team(model, executor, count, "", reference), 3 * count
        began = time.perf_counter()
        for _ in team.made((play for _ in range(plays)), lambda n: None):
            pass
        shares.append(plays * PLAY / count / (time.perf_counter() - began))
        executor.shutdown()
    shares.sort()
    return {"median": shares[len(shares) // 2], "least": shares[0], "most": shares[-1]}


def packed_answer(model: Model, play: Deterministic) -> bytes:
    """The answer to a play."""
    return packed(play.made(model))


def cost(size: tuple[int, ...]) -> float:
    """Milliseconds that one play with its history costs the search: packing its request and unpacking its answer."""
    model = Model.from_denoiser(lambda x, t, y: x, Flow(), size[1:], name="none", hash="none")
    play = Deterministic(fewer.standard("dpmpp-2m", model, 5), torch.zeros(size), None, keep=True)
    given, seconds = packed_answer(model, play), []
    for _ in range(21):
        began = time.process_time()
        request("", play)
        result(given)
        seconds.append(time.process_time() - began)
    return 1e3 * sorted(seconds)[10]


def simulated() -> dict[str, Any]:
    """What a play costs the search itself, and how many workers it keeps busy."""
    return {
        "milliseconds of the search a play": {name: round(cost(size), 2) for name, size in SIZES.items()},
        "share of simulated workers' time": {
            name: {str(count): busy(size, count, 3) for count in COUNTS} for name, size in SIZES.items()
        },
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--call", type=float, default=0.03)
    parser.add_argument("--simulated", action="store_true", help="the simulated workers alone")
    arguments = parser.parse_args()
    os.environ[CALL] = str(arguments.call)
    torch.set_num_threads(1)
    where = Path(__file__).parent / "results" / "workers.json"
    if arguments.simulated:
        found = json.loads(where.read_text())
    else:
        found = {"seconds a call": arguments.call, "two processes": of_two(arguments.rounds)}
    found |= simulated() | {"versions": versions()}
    print(json.dumps(found, indent=1))
    where.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
