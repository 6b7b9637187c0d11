"""Files come whole or not at all, are refused in one line, and results.json is what its types write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.files import Record, checked, read_as, read_json, read_safetensors, write_json, write_safetensors
from fewer.results import Baseline, Results
from tests.test_report import contents


class Pair(Record):
    """What these tests keep in files."""

    first: int
    second: Interval | None = None


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "1" * 10_000, '"\\ud800"', "\xff"])
def test_what_is_no_json_object_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"^pair .*file\.json is not") as told:
        read_as(Pair, path, "pair")
    assert "\n" not in str(told.value)


def test_size_and_place_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(InputError, match=r"^cannot read pair .*file\.json"):
        read_json(path, "pair")
    write_json(path, {"first": "x"})
    with pytest.raises(InputError, match="is larger than 0 MiB"):
        read_json(path, largest=3)
    with pytest.raises(InputError, match=r"file\.json: first: "):
        read_as(Pair, path)
    with pytest.raises(InputError, match="it: content: "):
        checked(Pair, 3, "it")


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"first": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"first": math.inf})
    with pytest.raises(InputError, match="cannot write"):
        write_json(path / "below.json", {})
    assert read_as(Pair, path) == Pair(first=1)
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]


def test_tensors_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_safetensors(path, {"x": torch.arange(3.0)}, {"made": "here"})
    assert torch.equal(read_safetensors(path, 2**20)["x"], torch.arange(3.0))


def test_a_record_writes_the_keys_that_were_given() -> None:
    assert Pair(first=1).to_dict() == {"first": 1}
    infinite = Pair(first=1, second=Interval(math.inf, 2.0, math.inf, 3))
    assert infinite.to_dict() == {"first": 1, "second": {"value": None, "low": 2.0, "high": None, "n": 3}}
    assert checked(Pair, infinite.to_dict(), "pair") == infinite
    with pytest.raises(ValidationError):
        infinite.first = 2  # type: ignore[misc]


@pytest.mark.parametrize("entry", [[], "x", {"value": "x"}, {"value": 1, "low": 2, "high": 3}, {"value": 10**400}])
def test_what_is_no_interval_is_told_where_it_is(entry: Any) -> None:
    with pytest.raises(InputError, match=r"pair: second: .*interval"):
        checked(Pair, {"first": 1, "second": entry}, "pair")


def test_results_are_written_as_they_were_read() -> None:
    content = json.loads(json.dumps(contents((4, 6))))
    del content["cost"]["ms"]["low"], content["cost"]["ms"]["high"]
    found = checked(Results, content, "results")
    bare = {"value": 3.6, "low": None, "high": None, "n": 0}
    written = found.to_dict()
    assert written.pop("cost") == content.pop("cost") | {"ms": bare | {"value": found.cost.ms.value}}  # type: ignore[union-attr]
    for entry in (*content["front"], *content["baselines"]):
        entry["cost"]["ms"]["n"] = 0  # which older files lack
    assert written == content


def test_a_figure_that_has_blown_up_counts_as_not_measured() -> None:
    quality = {"a": {"value": 1e31, "low": 1.0, "high": 1e32, "n": 9}, "b": {"value": None, "n": 9}, "c": None}
    found = Baseline.model_validate({"name": "x", "nfe": 3, "cost": {"nfe": 3, "macs": 1e400}, "quality": quality})
    assert found.quality == {"a": None, "b": None, "c": None}
    assert found.cost.macs is None
