"""Plays shared out to processes of this machine: the same bits as in one process, whatever happens to the processes."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from searches import Searches
from test_crash_safety import kept

import fewer
from fewer.cli.dry_run import beside_workers
from fewer.engine import History
from fewer.errors import InputError, NotFinite, out_of_memory
from fewer.evaluate.cost.pace import Forecast
from fewer.evaluate.evaluator import Evaluator
from fewer.noise import unit_noise
from fewer.plan.file import digest
from fewer.search.objective import Objective, until_change
from fewer.workers.message import packed, unpacked
from fewer.workers.play import Deterministic, Play, Sampled, made_here
from fewer.workers.processes import Processes
from fewer.workers.reference import Reference
from fewer.workers.team import Team, team_of
from fewer.workers.where import check_workers

MODELS = """
import time, fewer, torch
from fewer.models.schedules import Flow

def small():
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=3, seed=0, classes=3)
    return fewer.Model.from_mixture(mixture, Flow(), name="small", hash="small", conditional=True)

def asleep():
    "One that waits for a hundredth of a second a call."
    exact = small()
    def network(x, t, labels):
        time.sleep(0.01)
        return exact.network(x, t, labels)
    return fewer.Model.from_denoiser(network, exact.schedule, exact.shape, labels=3, empty_label=3, name="asleep", hash="asleep")

def nan():
    return fewer.Model.from_denoiser(lambda x, t, y: x * float("nan"), Flow(), (1, 4, 4), name="nan", hash="nan")

def starved():
    return fewer.Model.from_denoiser(lambda x, t, y: x.new_empty(2**50), Flow(), (1, 4, 4), name="starved", hash="starved")

def deadly():
    import os
    return fewer.Model.from_denoiser(lambda x, t, y: os._exit(9), Flow(), (1, 4, 4), name="deadly", hash="deadly")
"""
BRIEF: dict[str, Any] = {"nfe": 3, "noises": 16, "fresh": 16, "batch": 8, "trials": 5, "seed": 0}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path with a module of models."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "models_for_workers.py").write_text(MODELS)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def processes(here: Path) -> Iterator[Processes]:
    """Two, for all tests that do them no harm."""
    with Processes(2) as made:
        yield made


def team(name: str, processes: Processes) -> Team:
    """These processes with a model of the module."""
    model = fewer.load(f"models_for_workers:{name}")
    return Team(model, processes, 2, "2 processes", json.dumps(asdict(Reference.of(model))))


@pytest.fixture
def shared(processes: Processes, monkeypatch: pytest.MonkeyPatch, few_standards: None) -> None:
    """Searches with workers have these processes, which need not start."""

    def of(workers: int, model: fewer.Model) -> Any:
        made = None if workers == 1 else Team(model, processes, 2, "", json.dumps(asdict(Reference.of(model))))
        return nullcontext(made)

    monkeypatch.setattr(
        importlib.import_module("fewer.search.tune"), "team_of", of
    )  # the package has a function of this name


# messages

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)
LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=4)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.integers(0, 9), inner),
)


@given(VALUES)
def test_a_message_gives_back_what_went_in(value: Any) -> None:
    assert repr(unpacked(packed(value))) == repr(value)


@given(arrays.array_shapes(min_dims=0, max_dims=4, max_side=3), st.sampled_from(DTYPES), st.randoms())
def test_a_message_keeps_the_bits_and_the_layout_of_tensors(
    shape: Any, dtype: torch.dtype, draws: random.Random
) -> None:
    order = draws.sample(range(len(shape)), len(shape))
    tensor = torch.randint(-9, 9, shape).to(dtype).permute(order)
    back = unpacked(packed({"it": tensor, "again": tensor}))["it"]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(back, tensor)
    long = [axis for axis, size in enumerate(tensor.shape) if size > 1]
    assert sorted(long, key=back.stride().__getitem__) == sorted(long, key=tensor.stride().__getitem__)


# plays


def plays_of(model: fewer.Model) -> dict[str, list[Play]]:
    """Plays of every kind, each from its own noises."""
    noise = [unit_noise(0, range(at, at + 5), model.shape) for at in (0, 5, 10)]
    labels = model.labels(5)
    plain = fewer.standard("dpmpp-2m", model, nfe=4)
    guided = fewer.standard("unipc", model, nfe=8, guidance=2.0)
    plans = {
        "plain": plain,
        "guided": guided,
        "remembering": replace(guided, rows=tuple(replace(row, guidance=rule("apg")) for row in guided.rows)),
        "tensors": replace(plain, start=replace(plain.start, offset=torch.full(model.shape, 0.1))),
        "not finite": replace(plain, end=0.0, start=replace(plain.start, scale=float("inf"))),
    }
    made: dict[str, list[Play]] = {
        f"{name}{', kept' * keep}": [Deterministic(plan, z, labels, keep=keep) for z in noise]
        for name, plan in plans.items()
        for keep in (False, True)
    }
    made["sampled"] = [
        Sampled(fewer.standard("ancestral", model, nfe=4), z, labels, 3, 5 * n) for n, z in enumerate(noise)
    ]
    middle = plain.from_level(0.5)
    made["from data"] = [Sampled(middle, z, labels, init=torch.ones_like(z)) for z in noise]
    for name in ("plain", "guided", "remembering"):
        for row in (0, 2):
            plan = plans[name]
            moved = replace(plan, rows=(*plan.rows[:row], replace(plan.rows[row], offset=0.1), *plan.rows[row + 1 :]))
            made[f"{name}, on from row {row}"] = [
                Deterministic(moved, z, labels, known(model, plan, moved, z)) for z in noise
            ]
    return made


def rule(name: str) -> Any:
    return fewer.registry.find("guidance", name).make(scale=2.0)


def known(model: fewer.Model, plan: fewer.Plan, moved: fewer.Plan, noise: torch.Tensor) -> History:
    """What the plan made, as far as the moved one makes it, too."""
    _, history = Deterministic(plan, noise, model.labels(len(noise)), keep=True).made(model)
    assert history is not None
    return until_change(history, plan, moved)


def bits(made: Any) -> bytes:
    """All of a result."""
    return packed(made)


def test_plays_of_every_kind_have_the_same_bits_anywhere(processes: Processes) -> None:
    two = team("small", processes)
    for name, plays in plays_of(two.model).items():
        counts: list[list[int]] = [[], []]
        here = [bits(made) for made in made_here(two.model, copied(plays), counts[0].append)]
        there = [bits(made) for made in two.made(copied(plays), counts[1].append)]
        assert here == there, name
        assert counts[0] == counts[1] == [play.evaluations for play in plays]


def copied(plays: list[Play]) -> list[Play]:
    """The same, since a play adds to its history."""
    return [unpacked(packed(play)) for play in plays]


def test_results_come_in_order_and_no_more_are_made_than_are_asked_for(processes: Processes) -> None:
    two = team("asleep", processes)
    plan = fewer.standard("ddim", two.model, nfe=1)
    asked = itertools.count()
    plays = (
        Deterministic(plan, torch.full((1, *two.model.shape), float(n)), torch.zeros(1, dtype=torch.int64))
        for n in iter(lambda: next(asked), -1)
    )
    counted: list[int] = []
    got = [samples for samples, _ in itertools.islice(two.made(plays, counted.append), 10)]
    there = [
        Deterministic(plan, torch.full((1, *two.model.shape), float(n)), torch.zeros(1, dtype=torch.int64))
        for n in range(10)
    ]
    assert all(torch.equal(a, play.made(two.model)[0]) for a, play in zip(got, there, strict=True))
    assert counted == [1] * 10
    assert next(asked) <= 10 + 4


def test_what_ends_a_count_ends_the_plays(processes: Processes) -> None:
    """As a bound on evaluations or time does: at the same play as in one process."""
    two = team("small", processes)
    noises = Evaluator(two.model, unit_noise(0, range(12), two.model.shape), two.model.labels(12), batch=2)
    plan = fewer.standard("ddim", two.model, nfe=3)
    ends = []
    for workers in (None, two):
        some = replace(noises, workers=workers).apart()

        def stop(counter: Any = some.counter) -> None:
            if counter.evaluations >= 18:
                raise StopIteration

        some.counter.stop = stop
        with pytest.raises((StopIteration, RuntimeError)):
            some.unchecked(plan)
        ends.append(some.evaluations)
    assert ends == [18, 18]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nan", NotFinite, "first in row 0"),
        pytest.param("deadly", InputError, "worker processes have ended at the same work", marks=pytest.mark.slow),
    ],
)
def test_errors_of_a_play_are_those_of_one_process(
    processes: Processes, name: str, error: type[Exception], said: str
) -> None:
    two = team(name, processes)
    play = Sampled(fewer.standard("ddim", two.model, nfe=1), torch.ones(1, *two.model.shape), None)
    with pytest.raises(error, match=said):
        list(two.made([play], lambda n: None))
    assert list(team("small", processes).made([], lambda n: None)) == []


def test_too_little_memory_is_known_as_such(processes: Processes) -> None:
    two = team("starved", processes)
    play = Deterministic(fewer.standard("ddim", two.model, nfe=1), torch.ones(1, *two.model.shape), None)
    with pytest.raises(MemoryError) as raised:
        list(two.made([play], lambda n: None))
    assert out_of_memory(raised.value)


# searches


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"evaluations": 3000, "trials": None, "noises": None, "fresh": None},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                {"strategy": "gauss-newton", "trials": 3},
                {"strategy": "rows-by-regression"},
                {"guidance": 2.0, "nfe": 6},
                {"start_from": ["ays"], "trials": 2},
                {"objective": "energy", "trials": 2},
            )
        ),
    ],
    ids=str,
)
def test_one_worker_and_two_find_the_same_plan(here: Path, options: dict[str, Any]) -> None:
    model = fewer.load("models_for_workers:small")
    one, two = (fewer.tune(model, workers=n, **{**BRIEF, **options}) for n in (1, 2))
    assert found(one) == found(two)


def found(result: Any) -> Any:
    """All of a result but the clock's readings."""
    clocks = ("seconds", "created", "command", "front", "cost")
    figures = {key: value for key, value in result.results.items() if key not in clocks}
    return digest(result.plan), [digest(outcome.plan) for outcome in result.front], figures


# deaths


@contextmanager
def killing(executor: Processes, kills: int, seed: int) -> Iterator[list[int]]:
    """Meanwhile processes of the executor are killed at random moments; those that were."""
    killed: list[int] = []
    draws, over = random.Random(seed), threading.Event()

    def kill() -> None:
        while len(killed) < kills and not over.wait(draws.uniform(0, 0.5)):
            alive = [lane.process for lane in executor.lanes if lane.process is not None]
            if alive and (victim := draws.choice(alive)).pid not in killed:
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    over.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "seed"), [(3, 0), (20, 1)])
def test_workers_that_are_killed_change_nothing(here: Path, kills: int, seed: int) -> None:
    """Each loses the play that it was at, which is made again."""
    model = fewer.load("models_for_workers:asleep")
    plan = fewer.standard("dpmpp-2m", model, nfe=10)
    noises = Objective(model, unit_noise(0, range(64), model.shape), model.labels(64), batch=2)
    whole = noises.unchecked(plan)
    with Processes(2) as own:
        two = replace(noises, workers=replace(team("asleep", own))).apart()
        with killing(own, kills, seed) as killed:
            rounds = 0
            while len(killed) < kills:
                assert torch.equal(two.unchecked(plan), whole)
                rounds += 1
    assert two.evaluations == rounds * 64 * 10


@pytest.fixture(scope="module")
def searches(here: Path) -> Iterator[Searches]:
    made = Searches()
    yield made
    made.close()


TUNE = "tune models_for_workers:small --nfe 2 --trials 3 --batch 16 --out made"


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "seed"), [(1, 0), (20, 1)])
def test_searches_that_are_killed_and_resumed_lose_nothing(
    searches: Searches, tmp_path: Path, kills: int, seed: int
) -> None:
    """At random moments, first one of a search's workers and then the search, until so many of each were. A search that is
    through before it is killed has the plan, too; no worker outlives its search.
    """
    (tmp_path / "models_for_workers.py").write_text(MODELS)
    out, alone, draws = tmp_path / "made", tmp_path / "alone", random.Random(seed)
    began = time.monotonic()
    assert searches.run(tmp_path, f"{TUNE} --workers 2").status == 0
    seconds, plan = time.monotonic() - began, (out / "plan.json").read_bytes()
    out.rename(alone)
    killed, line, before = {"workers": 0, "searches": 0}, TUNE, list[Any]()
    while min(killed.values()) < kills:
        pid = searches.start(tmp_path, f"{line} --workers 2")
        time.sleep(draws.uniform(0, seconds))
        workers = children(pid)
        with suppress(IndexError, ProcessLookupError):  # before they begin and after they end there are none
            os.kill(draws.choice(workers), signal.SIGKILL)
            killed["workers"] += 1
        time.sleep(draws.uniform(0, seconds / 2))
        workers, ended = [*workers, *children(pid)], searches.end(pid, signal.SIGKILL)
        until(lambda left=workers: not any(map(alive, left)))
        now = kept(out)
        assert now[: len(before)] == before
        if ended.status == 0:
            assert (out / "plan.json").read_bytes() == plan
            shutil.rmtree(out)
            line, before = TUNE, []
            continue
        assert ended.status == -signal.SIGKILL
        killed["searches"] += 1
        line, before = f"{TUNE} --resume", now
    assert searches.run(tmp_path, f"{line} --workers 2").status == 0
    assert (out / "plan.json").read_bytes() == plan
    assert kept(out) == kept(alone)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in found for word in path.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may stay listed until it is waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(seen: Any, longest: float = 300.0) -> None:
    """Wait until something is seen; it is a fault where it is not."""
    limit = time.monotonic() + longest
    while not seen():
        assert time.monotonic() < limit
        time.sleep(0.01)


# bad input


@pytest.mark.parametrize("given", [0, -1, True, 2.0, None, "0", "two", "", "http://here:80", "2 ", 10**6])
def test_what_is_no_number_of_workers_is_refused(given: Any) -> None:
    if given == "2 ":
        assert check_workers(given) == 2
        return
    with pytest.raises(InputError, match="workers is"):
        check_workers(given)


def test_a_model_that_workers_cannot_load_is_refused(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fewer.workers.team.executor_of", lambda *_: nullcontext((processes, 2))
    )  # which need not start
    loaded = fewer.load("models_for_workers:small")
    changed = replace(loaded, clip=fewer.models.denoiser.Clip(2.0))
    for model, said in ((replace(loaded, loaded=None), "made in this process"), (changed, "another clip")):
        with pytest.raises(InputError, match=said), team_of(2, model):
            pass


@pytest.mark.slow
def test_a_file_that_has_changed_is_refused(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where workers find another file of the model's function, or none."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "models_of_one_test.py"
    file.write_text(MODELS)
    model = fewer.load("models_of_one_test:small")
    reference = json.dumps(asdict(Reference.of(model)))
    file.write_text(MODELS + "# changed\n")
    with Processes(1) as own, pytest.raises(InputError, match="another one"):
        Team(model, own, 1, "", reference).check()


@pytest.mark.parametrize("package", ["fewer", "torch"])
def test_a_worker_with_other_versions_is_refused(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    versions = fewer.workers.reference.versions() | {package: "0.0.1"}
    monkeypatch.setattr("fewer.workers.answer.versions", lambda: versions)
    with pytest.raises(InputError, match=rf"has {package} .*, the search has 0\.0\.1"):
        team("small", processes).check()


@pytest.mark.parametrize(("given", "module", "extra"), [("dask://h:1", "distributed", "dask"), ("ray", "ray", "ray")])
def test_a_cluster_whose_package_is_missing_is_refused_before_a_model_is_loaded(
    given: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'fewer\[{extra}\]'"):
        check_workers(given)


@pytest.mark.parametrize(("workers", "said"), [(1, ()), (2, ("2 workers",)), ("ray", ("the workers of ray",))])
def test_a_dry_run_says_that_its_time_is_that_of_one_process(workers: int | str, said: tuple[str, ...]) -> None:
    notes = beside_workers(Forecast({"search": 1}, notes=("before",)), workers).notes
    assert notes[0] == "before"
    assert len(notes) == 1 + len(said)
    assert all(word in notes[-1] for word in (*said, *(("this process alone",) if said else ())))
