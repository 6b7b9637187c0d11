"""The register of parts: roles are found, names are one's own, objects do what names do, and bad parts are told."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass

import numpy as np
import pytest

import fewer
from fewer import registry
from fewer.grids import Levels, Range
from fewer.grids.in_sigma import karras
from fewer.registry import PROCEDURE, ROLES, ROOMS, find, name_of, part, parts, resolve
from fewer.solvers.ode.ddim import DDIM

IDENTIFIER = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/|https://doi\.org/10\.")
SOFTWARE = ("diffusers", "k-diffusion", "ComfyUI", "ParaAttention", "this package")


@dataclass(frozen=True)
class Halfway:
    """A solver of the user's own: DDIM under another name."""

    order: typing.ClassVar[int] = 1

    def steps(self, calls: int) -> int:
        return calls

    def run(self, trace, levels, calls):
        return DDIM().run(trace, levels, calls)


def cubic(span: Range, n: int) -> Levels:
    """Levels whose cube roots are regular."""
    return np.linspace((span.start) ** (1 / 3), span.schedule.tau_min ** (1 / 3), n) ** 3


@pytest.fixture(autouse=True)
def unregistered(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_register", dict(registry._register))


@pytest.fixture(scope="module")
def model():
    return fewer.load("mixture16")


OWN = [entry for entry in parts() if entry.make.__module__.startswith("fewer.")]


@pytest.mark.parametrize("entry", OWN, ids=lambda entry: f"{entry.room}/{entry.name}")
def test_every_part_says_what_it_is(entry):
    assert entry.room in ROOMS
    assert entry.role in (*ROLES, PROCEDURE)
    assert entry.title.strip()
    assert entry.source.strip()
    assert entry.name == "-".join(entry.name.split()) != ""
    first = (entry.make.__doc__ or "").strip()
    assert first
    assert not first.startswith(entry.make.__name__ + "(")  # what a dataclass without a docstring has


@pytest.mark.parametrize("entry", OWN, ids=lambda entry: f"{entry.room}/{entry.name}")
def test_a_source_since_2011_has_an_arxiv_id_or_a_doi(entry):
    years = [int(year) for year in re.findall(r"\b(?:19|20)\d\d\b", IDENTIFIER.sub("", entry.source))]
    recent = max(years, default=0) >= 2011 and not any(name in entry.source for name in SOFTWARE)
    assert not recent or IDENTIFIER.search(entry.source)


def test_members_of_a_role_are_those_of_its_protocol():
    assert ROLES["solver"].missing(object()) == "order, steps, run"
    assert ROLES["grid"].missing(object()) == "a call with (span, n)"
    assert ROLES["plan policy"].missing(cubic) == "a call with (plan) that returns Plan"
    assert ROLES["shares"].missing(cubic) == "a call with (x, y) that returns tuple of Interval"


def test_a_class_of_the_users_own_is_a_part(model):
    part("halfway", title="DDIM again", source="us")(Halfway)
    assert find("solvers", "halfway").make is Halfway
    assert "halfway" in [p.name for p in parts("solvers")]
    plan, same = (fewer.standard(name, model, nfe=3) for name in ("halfway", "ddim"))
    assert plan.rows == same.rows
    assert plan.name == "halfway karras"


def test_objects_do_what_names_do(model):
    assert fewer.standard(Halfway(), model, nfe=3, steps=karras).rows == fewer.standard("ddim", model, nfe=3).rows
    own = fewer.standard(Halfway(), model, nfe=3, steps=cubic)
    assert own.name == "Halfway cubic"
    assert [float(row.tau) for row in own.rows] == list(cubic(Range(model.schedule, model.start), 3))
    assert fewer.standard("ddim", model, nfe=3, steps=cubic, start=0.5).start.tau == pytest.approx(0.5)


def test_names_are_those_of_the_register():
    assert name_of("solvers", DDIM()) == "ddim"
    assert name_of("grids", karras) == "karras"
    assert name_of("grids", cubic) == "cubic"
    assert resolve("search", "gauss-newton-consistent").candidates > 0


@pytest.mark.parametrize(
    ("room", "given", "says"),
    [
        ("solvers", "nobody", "'nobody' is no method of solvers; there are: ancestral, consistency"),
        ("solvers", Halfway, "Halfway is a class; expected an object"),
        ("solvers", 7, "got an object of int (a solver needs order, steps, run)"),
        ("grids", lambda a, b: [], r"a grid needs a call with (span, n)"),
        ("guidance", "cfg", "settings without a default"),
    ],
)  # fmt: skip
def test_what_plays_no_role_is_told(room, given, says):
    with pytest.raises(fewer.InputError) as caught:
        resolve(room, given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_parts_of_one_name_are_told_by_their_modules():
    with pytest.raises(
        ValueError, match=r"called 'ddim': those of fewer.solvers.ode.ddim and tests.test_registry|test_registry"
    ):
        part("ddim", title="another", source="us")(Halfway)
    part("halfway", title="DDIM again", source="us")(Halfway)
    part("halfway", title="a cell that runs again", source="us")(Halfway)
    assert find("solvers", "halfway").title == "a cell that runs again"


def test_a_part_without_a_role_is_refused():
    class Nothing:
        """Neither."""

    with pytest.raises(ValueError, match="plays no role: a solver needs order, steps, run; "):
        part("nothing", title="x", source="x")(Nothing)
    with pytest.raises(
        ValueError,
        match=r"no role: a strategy needs from_plans, prepares, by_objective, renoises, unpaired, begins_with, name, [\w, ]*$",
    ):
        part("nothing", title="x", source="x", room="search")(Nothing)
    with pytest.raises(ValueError, match="rooms are grids, solvers"):
        part("nothing", title="x", source="x", room="attic", role=PROCEDURE)(Nothing)
