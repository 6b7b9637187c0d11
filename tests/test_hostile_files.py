"""Plan, tensor and study files are hostile until checked: whatever they hold, one line is said and nothing else happens."""

from __future__ import annotations

import json
import random
import sqlite3
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewer.errors import InputError
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.cfg import ClassifierFree
from fewer.plan import Plan, Row, Shortcut, Start
from fewer.search.strategy import Candidate
from fewer.search.study import Study

FEW, MANY = 300, 10_000
MEMORY = 64 * 2**20  # bytes that reading a small file may take

hostile = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([2**63, -1, 10**400, 0, 1]),
    st.floats(), st.sampled_from([1e308, -0.0, 5e-324]), st.text(max_size=8),
    st.sampled_from(["../x", "/etc/passwd", "x.safetensors", "cfg", "\x00", "a" * 300, "1e5", "nan"]),
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.text(max_size=4), st.floats(), max_size=2),
    st.dictionaries(st.sampled_from(["tensor", "0", "-1", "99999999999999999999"]), st.sampled_from(["c0", 1.0, None])),
)  # fmt: skip


def a_plan() -> Plan:
    """A plan with every field that a file has."""
    w = torch.ones(1, 2, 2)
    rows = (
        Row(0.9, {0: w}, None, 0.0, ClassifierFree(3.0), t=900.0),
        Row(0.5, {0: 0.1, 1: -0.3}, {0: 0.5, 1: 0.5}, 0.1, ProjectedGuidance(2.0), blocks={"mid": Shortcut({0: 1.0})}, t=500.0),
        Row(0.1, {2: -0.1}, t=100.0),
    )  # fmt: skip
    return Plan(Start(0.9, w, offset=w), rows, 0.0, "a plan", {"name": "m", "hash": "ab"}, {"quality": {"rmse": 0.1}})


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inside for place in places(one, (*at, key)))]


def changed(content: Any, at: tuple[Any, ...], how: str, value: Any) -> Any:
    """The content with the value at a path replaced, taken out, doubled under another key, or wrapped."""
    if not at:
        return value
    content = json.loads(json.dumps(content))
    *path, last = at
    inside = content
    for key in path:
        inside = inside[key]
    if how == "out":
        del inside[last]
    elif how == "wrap":
        inside[last] = [inside[last]]
    elif how == "twice" and isinstance(inside, dict):
        inside[str(value)[:50]] = inside[last]
    else:
        inside[last] = value
    return content


def read_or_refused(path: Path) -> None:
    """A plan that is read can be checked and written; what cannot be read is told in one line."""
    said = ""
    try:
        Plan.load(path).check().save(path.with_name("again.json"))
    except InputError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plan and, beside it, a file that no plan may touch."""
    a_plan().save(tmp_path / "in" / "plan.json")
    (tmp_path / "kept").write_text("kept")
    return tmp_path


def untouched(folder: Path) -> None:
    """Nothing was written outside the plan's own folder."""
    assert sorted(path.name for path in folder.iterdir()) == ["in", "kept"]
    assert (folder / "kept").read_text() == "kept"


def examples(most: int) -> settings:
    """So many of them, in one folder, as long as they take."""
    return settings(
        max_examples=most, deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def values_changed(folder: Path, data: Any) -> None:
    good = json.loads((folder / "in" / "plan.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(places(good)))
        good = changed(good, at, data.draw(st.sampled_from(["set", "set", "out", "wrap", "twice"])), data.draw(hostile))
        if not isinstance(good, dict | list):
            break
    path = folder / "in" / "hostile.json"
    path.write_text(json.dumps(good))
    read_or_refused(path)
    untouched(folder)


@pytest.mark.parametrize("key", ["\n", "\u2028", "\x1b[31m", "k" * 100_000])
def test_keys_that_do_not_print_or_end(folder: Path, key: str) -> None:
    """They are named on one line, of a length that can be read."""
    path = folder / "in" / "hostile.json"
    path.write_text(json.dumps({**json.loads((folder / "in" / "plan.json").read_text()), key: 1}))
    with pytest.raises(InputError, match="Extra inputs are not permitted") as told:
        Plan.load(path)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 1000


@examples(FEW)
@given(data=st.data())
def test_plans_with_changed_values(folder: Path, data: Any) -> None:
    values_changed(folder, data)


@pytest.mark.slow
@examples(MANY)
@given(data=st.data())
def test_ten_thousand_plans_with_changed_values(folder: Path, data: Any) -> None:
    values_changed(folder, data)


def damaged(content: bytes, draws: random.Random) -> bytes:
    """Bytes overwritten, taken out, doubled or cut off."""
    made = bytearray(content)
    for _ in range(draws.randint(1, 4)):
        at, long = draws.randrange(len(made)), draws.randint(1, 8)
        kind = draws.randrange(4)
        if kind == 0:
            made[at : at + long] = draws.randbytes(long)
        elif kind == 1:
            del made[at : at + long]
        elif kind == 2:
            made[at:at] = made[at : at + long]
        else:
            del made[at:]
        if not made:
            break
    return bytes(made)


@pytest.mark.parametrize("times", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["plan.json", "plan.safetensors"])
def test_damaged_bytes(folder: Path, name: str, times: int) -> None:
    """Of the header's bytes most of all, where a safetensors file says sizes and offsets."""
    path, draws = folder / "in" / name, random.Random(0)
    good = path.read_bytes()
    for _ in range(times):
        path.write_bytes(damaged(good, draws))
        read_or_refused(folder / "in" / "plan.json")
    untouched(folder)


@pytest.mark.parametrize(
    "shape", [[2**62], [2**40, 2**40], [-1], [1] * 10_000, [0], [1, 2, 2, 1], "4", None], ids=str
)  # fmt: skip
def test_absurd_sizes_take_no_memory(folder: Path, shape: Any) -> None:
    path = folder / "in" / "plan.safetensors"
    body = path.read_bytes()
    long = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + long])
    next(iter(header.values()))["shape"] = shape
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + body[8 + long :])
    tracemalloc.start()
    read_or_refused(folder / "in" / "plan.json")
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 100_000, '"' + "a" * 1_000_000 + '"', "\ufeff{}"]
)
def test_deep_and_long_json(folder: Path, text: str) -> None:
    path = folder / "in" / "plan.json"
    path.write_text(text)
    read_or_refused(path)


@pytest.mark.parametrize("times", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_studies_with_changed_values(tmp_path: Path, times: int) -> None:
    """Whatever a study's rows hold, candidates come back whole or one line is said."""
    path = tmp_path / "study.db"
    study = Study("nfe-3", path, {"seed": 0})
    for n in range(3):
        study.add(Candidate(a_plan(), 0.1 * n, "gauss-newton", {"walks": [n]}))
    good, draws = path.read_bytes(), random.Random(0)
    with sqlite3.connect(path) as opened:  # rows of candidates
        held = [
            (row, column, value)
            for column in ("plan", "state", "tensors")
            for row, value in opened.execute(f"select rowid, {column} from fewer_candidates").fetchall()
        ]
    for _ in range(times):
        path.write_bytes(good)
        row, column, value = draws.choice(held)
        content = json.loads(value)
        at = draws.choice(places(content))
        broken = changed(
            content, at, draws.choice(["set", "out", "wrap"]), draws.choice([None, -1, "x", 1e308, [], {}, True])
        )
        with sqlite3.connect(path) as opened:
            opened.execute(f"update fewer_candidates set {column} = ? where rowid = ?", (json.dumps(broken), row))
        opened.close()
        said = ""
        try:
            for candidate in Study("nfe-3", path, {"seed": 0}, resume=True).candidates("gauss-newton"):
                candidate.plan.check()
        except InputError as error:
            said = str(error)
        assert "\n" not in said
