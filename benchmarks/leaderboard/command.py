"""Every sampler of diffusers and k_diffusion and every plan of this package, from the same noises, ranked.

    python -m benchmarks.leaderboard --quick                   about 20 minutes on two cores
    python -m benchmarks.leaderboard                           all settings on 512 noises, every budget tuned: hours
    python -m benchmarks.leaderboard.environment ../k-diffusion-env       makes the environment of k_diffusion, once; then
    python -m benchmarks.leaderboard --quick --k-diffusion ../k-diffusion-env

Writes a file a model in benchmarks/results/leaderboard after every row, then the tables and the plot. Models are
measured side by side, one thread each. Ctrl-C loses the rows under way; a rerun goes on where it stopped and measures
again only what was measured otherwise.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.leaderboard.board import Board, Request, score, seconds_of_a_call
from benchmarks.leaderboard.k_diffusion_run import usable
from benchmarks.leaderboard.models import MODELS, build
from benchmarks.leaderboard.render import render
from fewer.models.model import Model

HERE = Path(__file__).parents[2]
BUDGETS = "4,5,6,8,10,20"
QUICK = Request(noises=256, screen=32, keep=5, evaluations=300_000)
TUNED_QUICKLY = (5, 10)  # of a network; of exact models, which are cheap, every budget
LONGEST = tuple(MODELS)[::-1]  # first: the networks, then the images, then the small mixtures
SMALL = 16  # values in a sample, up to which one says little and costs little: more noises, searches to their end


def numbers(text: str) -> tuple[int, ...]:
    """`4,5` as numbers of calls."""
    return tuple(sorted({int(word) for word in text.split(",") if word}))


def roughly(call: float, nfe: int, request: Request) -> float:
    """Seconds of a row, by guess, until rows are measured: some 130 settings here, and 500 plans in a search.

    call  seconds of a network call on 64 samples, to which the samplers' own arithmetic adds a millisecond
    """
    batches = (130 * request.screen + 10 * request.noises) / 64
    played = nfe * (call + 0.001) * batches
    most = min(500 * nfe, (request.evaluations or math.inf) / 64)
    searched = 5 + most * (call + 0.001) if nfe in request.tuned else 0
    return 2 + played + searched


class Clock:
    """Says on stderr what runs and, from a model's rows done so far, how long its rest takes."""

    def __init__(self, weights: dict[int, float]) -> None:
        self.left, self.began, self.done = dict(weights), time.monotonic(), 0.0

    def row(self, nfe: int, *, measured: bool) -> None:
        """A row is there; one that was read counts for nothing."""
        weight = self.left.pop(nfe)
        self.done += weight if measured else 0.0

    def say(self, what: str) -> None:
        """One line."""
        passed = time.monotonic() - self.began
        rest = f", {passed / self.done * sum(self.left.values()) / 60:.0f} min left" if self.done else ""
        print(f"[{passed / 60:5.1f} min{rest}, {len(self.left)} rows to go] {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="half the noises, and on them the best 5 of a screening")
    parser.add_argument("--models", default=",".join(MODELS), help=f"some of {', '.join(MODELS)}")
    parser.add_argument("--nfe", default=BUDGETS)
    parser.add_argument("--tune", help="budgets that fewer.tune searches for (all; with --quick and a network 5,10)")
    parser.add_argument(
        "--evaluations", type=int, help="at most so many for each search, in place of the customary number"
    )
    parser.add_argument("--k-diffusion", type=Path, help="the environment of k_diffusion")
    parser.add_argument("--results", type=Path, default=HERE / "benchmarks/results/leaderboard")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="models measured at once")
    parser.add_argument("--out", type=Path, default=HERE / "docs/leaderboard.md")
    given = parser.parse_args()
    names = given.models.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        parser.error(f"--models {','.join(unknown)}: expected some of {', '.join(MODELS)}")
    why = usable(given.k_diffusion)
    if why is not None:
        print(f"without k_diffusion: {why}", file=sys.stderr)
        given.k_diffusion = None
    jobs = [name for name in LONGEST if name in names]
    if min(given.jobs, len(jobs)) <= 1:
        for name in jobs:
            measure(name, given)
    else:
        with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
            for done in as_completed([pool.submit(measure, name, given) for name in jobs]):
                done.result()
    found = Board(given.results).models
    render({name: found[name] for name in MODELS if name in found}, given.out)
    print(f"written: {given.out}", file=sys.stderr)


def measure(name: str, given: argparse.Namespace) -> None:
    """All rows of one model that are missing, in a process of its own."""
    torch.set_num_threads(1)
    budgets, model, board = numbers(given.nfe), build(name), Board(given.results)
    request = ask(model, given, budgets)
    call = seconds_of_a_call(model)
    clock = Clock({nfe: roughly(call, nfe, request) for nfe in budgets})
    before = set(board.rows(name, model))
    for nfe in score(board, name, MODELS[name][0], model, budgets, request, clock.say):
        clock.row(nfe, measured=str(nfe) not in before)


def ask(model: Model, given: argparse.Namespace, budgets: tuple[int, ...]) -> Request:
    """What the rows of a model are to hold."""
    request = QUICK if given.quick else Request()
    tuned = TUNED_QUICKLY if given.quick and model.exact is None else budgets
    if math.prod(model.shape) <= SMALL:
        request = replace(request, noises=4 * request.noises, screen=4 * request.screen, evaluations=None)
    if given.evaluations is not None:
        request = replace(request, evaluations=given.evaluations)
    return replace(request, tuned=tuned if given.tune is None else numbers(given.tune), environment=given.k_diffusion)
