"""The method of a plan: what it plays is what its file plays, of every method and of any of its settings."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewer.errors import InputError
from fewer.plan import Plan, Row, Start
from fewer.plan.difference import differences
from fewer.plan.method import Method
from fewer.registry import Part, parts
from fewer.tasks.inverse.methods.pigdm import WEIGHTINGS
from fewer.tasks.inverse.named import sampler_of
from fewer.tasks.series.tsdiff import TSDiff

METHODS = [each for each in parts("tasks") if each.role == "posterior sampler"]
WORDS = {"weighting": WEIGHTINGS, "guidance": ("quantile", "square")}
PLAIN = Plan(Start(1.0, 1.0), (Row(1.0, {0: -1.0}),))


@st.composite
def methods(draw: Any) -> Method:
    """Any method with some of its settings, as they are given in Python: floats, whole numbers in their place, and numpy's."""
    part: Part = draw(st.sampled_from(METHODS))
    settings = {}
    for each in draw(st.sets(st.sampled_from(fields(part.make)))) if fields(part.make) else ():
        if isinstance(each.default, str):
            settings[each.name] = draw(st.sampled_from(WORDS[each.name]))
        elif isinstance(each.default, int):
            settings[each.name] = draw(st.integers(1, 9))
        else:
            settings[each.name] = draw(
                st.floats(0.01, 50) | st.integers(1, 9) | st.builds(np.float64, st.floats(0.01, 50))
            )
    return Method(part.name, settings, draw(st.none() | st.just("denoise")), draw(st.none() | st.just(0.1)))


@given(methods())
def test_a_method_plays_what_its_file_plays(method: Method) -> None:
    """Twice: what was read is written again."""
    plan = replace(PLAIN, method=method)
    with TemporaryDirectory() as folder:
        once = Plan.load(plan.save(Path(folder) / "plan.json"))
        twice = Plan.load(once.save(Path(folder) / "again.json"))
    for found in (once, twice):
        assert found.method is not None
        assert sampler_of(found.method) == sampler_of(method)
        assert (found.method.name, found.method.task, found.method.noise) == (method.name, method.task, method.noise)
    assert not differences(once, twice)


@pytest.mark.parametrize("part", METHODS, ids=lambda part: part.name)
def test_a_file_holds_all_settings_so_that_later_defaults_do_not_change_it(part: Part, tmp_path: Path) -> None:
    content = json.loads(replace(PLAIN, method=Method(part.name)).save(tmp_path / "plan.json").read_text())
    assert content["method"].get("settings", {}) == {each.name: each.default for each in fields(part.make)}


def test_a_method_that_is_not_known_here_is_kept_as_it_is(tmp_path: Path) -> None:
    theirs = Method("of-another-package", {"a": 1.5, "b": "word", "c": True})
    assert Plan.load(replace(PLAIN, method=theirs).save(tmp_path / "plan.json")).method == theirs


@pytest.mark.parametrize("value", [[1.0], None, float("nan"), float("inf"), np.ones(2), TSDiff(), "x" * 501])
def test_what_could_not_be_read_again_is_not_written(value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="strength"):
        replace(PLAIN, method=Method("mmps", {"strength": value})).save(tmp_path / "plan.json")
    assert not list(tmp_path.iterdir())
