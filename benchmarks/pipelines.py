"""Every pipeline class of diffusers with one loop over its scheduler, tiny and random: does fewer load, tune, apply and restore it?

    python -m benchmarks.pipelines [NAME ..] [--limit 60] [--checks loads,applies,restored,tunes]

Each class runs in a process of its own, with a limit on its time. Writes benchmarks/results/pipelines.json, class by class, and
docs/pipelines.md from it. A run goes on where an earlier one ended; --again begins anew. About 40 minutes of one core.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import multiprocessing
import resource
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import diffusers
import torch

from benchmarks.fleet.checks import CHECKS, Outcome, examine
from benchmarks.fleet.classes import qualifying, scope
from benchmarks.fleet.page import page

MODES = ("plain", "guided")
ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/pipelines.json", ROOT / "docs/pipelines.md"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="classes to run; by default all")
    parser.add_argument("--limit", type=int, default=120, help="seconds of processor time of a class")
    parser.add_argument("--checks", default=",".join(CHECKS))
    parser.add_argument("--again", action="store_true", help="run classes that the results have, too")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    quiet()
    known = read(arguments.results)
    checks = tuple(arguments.checks.split(","))
    for name in arguments.names or qualifying():
        keys = [f"{name} {mode}" for mode in MODES]
        if not arguments.again and all(key in known and _tried(known[key], checks) for key in keys):
            continue
        with suppress(ImportError):  # which the class's own process meets, too
            getattr(diffusers, name).__init__  # noqa: B018  # read here, once for what the classes share
        for key, outcome in zip(keys, limited(name, checks, arguments.limit), strict=True):
            print(key, outcome.built or outcome.found, file=sys.stderr, flush=True)
            known = add(arguments.results, key, outcome)
    arguments.page.write_text(page(known, scope(), diffusers.__version__))


def read(results: Path) -> dict[str, Any]:
    """The outcomes so far, by class and mode."""
    return json.loads(results.read_text()) if results.exists() else {}


def add(results: Path, key: str, outcome: Outcome) -> dict[str, Any]:
    """Write an outcome beside the others, also those of runs at the same time. Checks that it has not tried stay."""
    with results.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read(results)
        earlier = {} if outcome.built else known.get(key, {"found": {}})["found"]
        known[key] = outcome.content() | {"found": earlier | outcome.found}
        written = results.with_suffix(".new")
        written.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        written.replace(results)
    return known


def _tried(outcome: dict[str, Any], checks: tuple[str, ...]) -> bool:
    """Whether an outcome has all that is to be checked, as far as there is a pipeline."""
    return bool(outcome["built"]) or outcome["found"].keys() >= set(checks)


def quiet() -> None:
    """No warnings and bars: what pipelines say is checked."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)


def limited(name: str, checks: tuple[str, ...], limit: int) -> list[Outcome]:
    """The outcomes of a class without and with guidance, from a process of its own that has `limit` seconds of processor time.

    It has ten times as long on the clock, after which it counts as hung.
    """
    forks = multiprocessing.get_context("fork")
    ours, theirs = forks.Pipe(duplex=False)
    process = forks.Process(target=_send, args=(theirs, name, checks, limit))
    process.start()
    theirs.close()
    found, end = [], monotonic() + 10 * limit
    for guided in (False, True):
        try:
            came = ours.poll(max(0.0, end - monotonic()))
            found.append(ours.recv() if came else Outcome(name, guided, "hangs"))
        except EOFError:
            found.append(Outcome(name, guided, f"takes over {limit} s"))
    process.kill()
    process.join()
    return found


def _send(pipe: Any, name: str, checks: tuple[str, ...], limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    for guided in (False, True):
        pipe.send(examine(name, guided, checks))


if __name__ == "__main__":
    main()
