"""Claims can fail, are of parts that exist, and fail when their method is broken."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewer.claims import claim as register
from fewer.claims import claims, of_part, recorded
from fewer.claims.claim import Claim, Measured, registered
from fewer.claims.region import MANY, Region
from fewer.claims.repeated import geometric_mean, mean, share
from fewer.claims.results import chosen
from fewer.cli.main import run
from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.registry import bibliography, find, parts

CLAIMS = claims()
CHEAP = ["cfg/class-probability", "ancestral/order"]


def never(seed: int, sabotage: bool) -> Measured:
    raise AssertionError


@given(st.floats(-9, 9), st.floats(0, 5), st.floats(0, 5), st.floats(-9, 9))
def test_a_claim_holds_only_where_its_whole_interval_does(value: float, down: float, up: float, end: float) -> None:
    figure = Interval(value, value - down, value + up, 9)
    below = Claim("x", (), (), "", "", -math.inf, end, "quick", never).status(figure)
    above = Claim("x", (), (), "", "", end, math.inf, "quick", never).status(figure)
    assert below == ("holds" if figure.high <= end else "not confirmed" if figure.low > end else "cannot tell")
    assert above == ("holds" if figure.low >= end else "not confirmed" if figure.high < end else "cannot tell")


def test_every_part_has_a_claim_and_every_claim_a_part() -> None:
    of = {part for claim in CLAIMS.values() for part in claim.of}
    assert {(part.room, part.name) for part in parts()} == of
    for claim in CLAIMS.values():
        assert set(claim.papers) <= set(bibliography())
        assert claim.of
        for room, name in claim.of:
            assert set(find(room, name).papers) <= {
                n for c in CLAIMS.values() if (room, name) in c.of for n in c.papers
            }


def test_a_claim_is_of_the_part_that_its_name_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fewer.claims.claim"], "_register", {})
    register("cads/x", statement="", baseline="", below=1.0)(never)
    made = registered()["cads/x"]
    assert made.of == (("guidance", "cads"),)
    assert made.papers == find("guidance", "cads").papers != ()
    with pytest.raises(ValueError, match="two claims"):
        register("cads/x", statement="", baseline="", below=1.0)(never)
    with pytest.raises(ValueError, match="no part"):
        register("nothing/x", statement="", baseline="", below=1.0)(never)
    with pytest.raises(ValueError, match="no region"):
        register("cads/y", statement="", baseline="")


def test_the_record_is_of_the_claims_that_there_are() -> None:
    assert {name for name, claim in CLAIMS.items() if claim.tier == "quick"} <= set(recorded()) <= set(CLAIMS)
    for name, result in recorded().items():
        assert {"papers", "statement", "baseline", "measured", "status", "command", "versions"} <= set(result.to_dict())
        assert CLAIMS[name].status(result.measured) == result.status


def test_what_cannot_be_told_says_what_would_decide_it() -> None:
    for name, result in recorded().items():
        assert bool(result.undecided) == (result.status == "cannot tell"), name
        assert result.condition in ("", CLAIMS[name].condition), name
        if result.status == "cannot tell" and not Region.read(result.region).by_samples(result.measured):
            assert result.condition, f"{name}: no number of samples decides it, and it names no condition that would"


def test_a_part_is_no_better_than_its_worst_claim() -> None:
    for part in parts():
        found = of_part(part.room, part.name)
        own = [r.status for r in recorded().values() if (part.room, part.name) in r.of]
        assert found["status"] == (
            "not confirmed" if "not confirmed" in own else max(own, key="holds cannot tell".find)
        )
        assert all(
            key.split("/")[0] in found["figure"] for key, r in recorded().items() if (part.room, part.name) in r.of
        )


@pytest.mark.parametrize("name", CHEAP)
def test_a_claim_of_a_broken_method_does_not_hold(name: str) -> None:
    claim = CLAIMS[name]
    assert claim.status(claim.check(7, False).figure) == "holds"
    assert claim.status(claim.check(7, True).figure) != "holds"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in CHEAP])
def test_no_claim_holds_of_a_broken_method(name: str) -> None:
    claim = CLAIMS[name]
    assert claim.status(claim.check(7, True).figure) != "holds"


def test_names() -> None:
    assert {claim.name for claim in chosen(["ipndm"])} == {name for name in CLAIMS if name.startswith("ipndm/")}
    assert chosen(["ddim/order"]) == [CLAIMS["ddim/order"]]
    assert all(claim.tier == "quick" for claim in chosen([]))
    with pytest.raises(InputError, match="no claim is called 'ipn'"):
        chosen(["ipn"])


@pytest.mark.slow
def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    assert run(["claims", "ddim/order", "--json", str(file)]) == 0
    assert run(["claims", "ancestral/order", "--json", str(file)]) == 0
    assert set(json.loads(file.read_text())) == {"ddim/order", "ancestral/order"}
    assert run(["claims", "ddim/order", "--sabotage"]) == 0
    capfd.readouterr()
    assert run(["claims", "ddim/order", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["ddim/order"]["status"] == "holds"
    file.write_text("[1]")
    assert run(["claims", "ddim/order", "--json", str(file)]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert file.read_text() == "[1]"


@given(st.integers(0, 40), st.integers(1, 40))
def test_a_share_of_none_or_all_has_an_open_end(hits: int, of: int) -> None:
    found = share(min(hits, of), of)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.low > 0) == (hits > 0)


def test_repetitions() -> None:
    assert mean([1.0, 2.0, 3.0]).high == pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6)  # Student's t, 2 degrees
    assert geometric_mean([0.5, 2.0]).value == pytest.approx(1)


ENDS = st.one_of(st.none(), st.floats(-9, 9).map(lambda end: float(f"{end:g}")))


@given(ENDS, ENDS)
def test_a_region_is_read_back_from_its_text(above: float | None, below: float | None) -> None:
    region = Region(-math.inf if above is None else above, math.inf if below is None else below)
    assert Region.read(str(region)) == region


@given(st.floats(-5, 5), st.floats(0.01, 3), st.floats(-5, 5), st.booleans(), st.integers(4, 10**6))
def test_what_is_said_to_decide_a_claim_is_where_its_interval_meets_the_end(
    value: float, reach: float, end: float, ratio: bool, n: int
) -> None:
    """An interval narrower by sqrt(n / enough), on the scale on which it was made, ends where the region does."""
    scale = math.exp if ratio else float
    figure = Interval(scale(value), scale(value - reach), scale(value + reach), n)
    for region in (Region(below=scale(end)), Region(above=scale(end))):
        enough = region.enough(figure)
        if region.status(figure) != "cannot tell":
            assert enough == n
            assert region.undecided(figure) == ""
        elif abs(value - end) < 0.03 * reach:
            assert enough > MANY * n
            assert "no number" in region.undecided(figure)
            assert region.undecided(figure, "Elsewhere.").endswith(" Elsewhere.")
        else:
            narrow = reach * math.sqrt(n / enough)
            assert narrow == pytest.approx(abs(value - end), rel=1e-6)
            assert region.by_samples(figure) == (enough <= MANY * n)
            assert (f"{n:,}" in region.undecided(figure)) == region.by_samples(figure)


def test_a_figure_at_the_end_is_never_decided() -> None:
    assert "no number" in Region(below=1.0).undecided(Interval(1.0, 0.8, 1.25, 99))
    both = Interval(0.0, -2.0, 2.0, 100)
    assert Region(-1.0, 0.5).enough(both) == pytest.approx(1600)  # the nearer end takes the more
