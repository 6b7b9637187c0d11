"""One model's rows: a budget each, every library on the same noises against the same reference."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fewer
from benchmarks.against_diffusers import TEST_SEED
from benchmarks.leaderboard.field import Endpoints, Standing, diffusers_field, plan_field, run
from benchmarks.leaderboard.k_diffusion_run import Side
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.held_out import held_out_noise
from fewer.evaluate.modes import Modes
from fewer.evaluate.reference import Doubling, Reference, reference_plan
from fewer.evaluate.statistics.paired import squared_errors
from fewer.files import write_atomically
from fewer.models.model import Model
from fewer.samplers import standard_plans
from fewer.search.results import versions

LIBRARIES = ("diffusers", "k-diffusion", "standard", "tuned")
MOST_CALLS = 20  # that the reference is good for, whatever the budgets, so that rows of several runs agree
TUNED_SHARE = 0.3  # of the best standard plan's error that a tuned plan may have
BASELINES = ("unipc logsnr", "unipc-3 logsnr", "ipndm quadratic", "ipndm uniform", "dpmpp-2m karras")


@dataclass(frozen=True)
class Request:
    """What a row is to hold.

    noises     n of the test, which nothing was searched on
    screen     of them, on which every setting is played first; `keep` of each library go on to all noises
    tuned      budgets that `fewer.tune` searches a plan for, each with at most `evaluations` of the network (None: to its
               end); not with a limit in seconds, under which a busy machine gives other plans
    """

    noises: int = 512
    screen: int = 512
    keep: int = 8
    tuned: tuple[int, ...] = ()
    evaluations: int | None = None
    environment: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """What rows of one table have in common."""
        return {
            "noises": self.noises, "screened": self.screen, "kept": self.keep, "evaluations": self.evaluations,
            "by": "typical error",
        }  # fmt: skip

    def holds(self, row: dict[str, Any], nfe: int) -> bool:
        """Whether a row of this kind, written before, holds all of the request."""
        missing = (self.environment and "k-diffusion" not in row) or (nfe in self.tuned and "tuned" not in row)
        return not missing


def by_rmse_alone(row: dict[str, Any]) -> bool:
    """Whether a row was measured when settings were judged by RMSE, and has no other figure."""
    return "by" not in row["asked"]


class Board:
    """A folder with one JSON file a model, each read at once and written whole after every row.

    Several processes may fill it, each with models of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: dict[str, Any] = {
            path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))
        }

    def rows(self, name: str, model: Model) -> dict[str, Any]:
        """The rows that there are of this model; none where its content has changed since."""
        entry = self.models.get(name, {})
        return entry.get("rows", {}) if entry.get("model", {}).get("hash") == model.hash else {}

    def put(self, name: str, entry: dict[str, Any]) -> None:
        """Set a model's entry and write its file."""
        self.models[name] = entry
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{name}.json", (json.dumps(entry, indent=1) + "\n").encode())


def reference(model: Model, noise: Tensor, labels: Tensor | None, most: int) -> Reference:
    """The reference solution; its calls are doubled until they change less than 5 % of what a tuned plan of `most` calls has.

    Its `error` is that of all noises, not of the 64 by which the number of calls is found: the RMSE to half the calls.
    """
    few = slice(0, 64)
    own = None if labels is None else labels[few]
    plans = [plan for plan in standard_plans(model, most) if plan.name in BASELINES] or standard_plans(model, most)[:1]
    there = [fewer.sample(model, plan, noise=noise[few], labels=own) for plan in plans]
    fine = Evaluator(model, noise, labels).with_reference(there, doubling=Doubling(improved=TUNED_SHARE)).reference
    assert fine is not None  # it was just made
    coarse = fewer.sample(model, reference_plan(model, fine.calls // 2), noise=noise, labels=labels)
    return replace(fine, error=float(squared_errors(fine.samples, coarse).mean().sqrt()))


def score(
    board: Board, name: str, about: str, model: Model, budgets: tuple[int, ...], request: Request,
    progress: Callable[[str], Any],
) -> Iterator[int]:  # fmt: skip
    """Measures and writes the rows that are missing, and yields each budget that is done.

    Rows of other noises or screenings leave the file with the first new row: a table holds one kind. Rows by RMSE alone stay
    until they are measured again, and the page marks them.
    """
    known = board.rows(name, model)
    done = {nfe: row for nfe, row in known.items() if row["asked"] == request.to_dict()}
    by_rmse = {nfe: row for nfe, row in known.items() if by_rmse_alone(row)}
    left = [nfe for nfe in budgets if str(nfe) not in done or not request.holds(done[str(nfe)], nfe)]
    yield from (nfe for nfe in budgets if nfe not in left)  # before any work
    if not left:
        return
    noise = held_out_noise(model, request.noises, TEST_SEED)
    labels = model.labels(request.noises)
    progress(f"{name}: reference")
    fine = reference(model, noise, labels, max(MOST_CALLS, *budgets))
    facts = {"calls": fine.nfe, "error": fine.error, "rms of its samples": float(fine.samples.square().mean().sqrt())}
    entry = {
        "about": about, "model": model.describe(), "versions": versions(),
        "rows": by_rmse | done,
    }  # fmt: skip
    side: Side | nullcontext[None] = nullcontext()
    if request.environment is not None:
        side = Side(request.environment, name, left, noise, labels, fine.samples, request.screen, request.keep)
    with side as beside:
        for nfe in left:
            kept = done.get(str(nfe), {})
            row = _row(
                model, nfe, noise, labels, fine.samples, request, lambda what: progress(f"{name}, {what}"), beside
            )
            row["reference"] = facts
            # parts that were measured before and not asked for now stay
            row = {**{key: kept[key] for key in LIBRARIES if key in kept}, **row}
            done[str(nfe)] = row
            entry["rows"] = dict(sorted((by_rmse | done).items(), key=lambda item: int(item[0])))
            board.put(name, entry)
            yield nfe


def _row(
    model: Model, nfe: int, noise: Tensor, labels: Tensor | None, target: Tensor, request: Request,
    progress: Callable[[str], Any], side: Side | None,
) -> dict[str, Any]:  # fmt: skip
    """All libraries with `nfe` network calls."""
    row: dict[str, Any] = {"asked": request.to_dict()}
    fields = {
        "diffusers": diffusers_field(model, nfe),
        "standard": plan_field(model, standard_plans(model, nfe)),
    }
    standings: dict[str, Standing] = {}
    modes = Modes.of(model)
    for library, field in fields.items():
        progress(f"{nfe} calls: {library}, {len(field)} settings")
        standings[library] = run(field, noise, labels, target, request.screen, request.keep, modes)
    tuned, facts = None, {}
    if nfe in request.tuned:
        progress(f"{nfe} calls: tuning")
        tuned, facts = _tuned(model, nfe, noise, labels, target, request.evaluations)
    if side is not None:
        progress(f"{nfe} calls: k-diffusion")
        standings["k-diffusion"] = side.standing(nfe)
    for library, standing in standings.items():
        row[library] = standing.to_dict() | _compared(library, standing.ends[standing.best], standings)
    if tuned is not None:
        row["tuned"] = facts | tuned.figures() | _compared("tuned", tuned, standings)
    return row


def _compared(library: str, ends: Endpoints, standings: dict[str, Standing]) -> dict[str, Any]:
    """Decisions against the best setting of each of the other two packages, with their figures."""
    found = {}
    for other in ("diffusers", "k-diffusion"):
        if other in standings and other != library:
            best = standings[other]
            found[f"against {other}"] = ends.against(best.ends[best.best])
    return found


def _tuned(
    model: Model, nfe: int, noise: Tensor, labels: Tensor | None, target: Tensor, evaluations: int | None
) -> tuple[Endpoints, dict[str, Any]]:
    """What the plan that `fewer.tune` returns scores, and how it came about. Seed 0: other noises."""
    began = time.process_time()
    result = fewer.tune(model, nfe=nfe, evaluations=evaluations)
    took = time.process_time() - began
    made = fewer.sample(model, result.plan, noise=noise, labels=labels)
    return Endpoints.of(made, target, Modes.of(model)), {
        "best": result.plan.name, "recommended": result.verdict["recommended"], "decision": result.verdict["decision"],
        "network evaluations of the search": result.results["evaluations"], "processor seconds": took,
    }  # fmt: skip


def seconds_of_a_call(model: Model, n: int = 64) -> float:
    """Time of one network call on n samples, the second of two."""
    x, labels, took = torch.zeros(n, *model.shape), model.labels(n), 0.0
    for _ in range(2):
        began = time.perf_counter()
        with torch.inference_mode():
            model(x, float(model.schedule.time(0.5)), labels)
        took = time.perf_counter() - began
    return took
