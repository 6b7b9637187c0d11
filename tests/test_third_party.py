"""Another package's parts, installed beside fewer with an entry point: the suites, the command line, and faults told."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fewer.registry
from fewer.registry import find
from fewer.testing import grids, guidance, measures, solvers, strategies

HERE = Path(__file__).parent / "third_party"
NAMES = {
    ("solvers", "their-ab2"), ("grids", "their-cosine"), ("guidance", "their-damped"), ("search", "their-powers"),
    ("evaluate", "their-medians"),
}  # fmt: skip
MODEL = """
import fewer
from fewer.models.schedules import Flow

def tiny():
    return fewer.Model.from_mixture(fewer.GaussianMixture.random((1, 1, 2), components=3, seed=4), Flow(), name="tiny")
"""


def install(site: Path, project: Path = HERE) -> Path:
    """What `pip install --no-deps --target SITE` leaves of a project of modules, without a network or a build."""
    told = tomllib.loads((project / "pyproject.toml").read_text())
    for module in told["tool"]["setuptools"]["py-modules"]:
        shutil.copy(project / f"{module}.py", site)
    entries = told["project"]["entry-points"]["fewer.parts"]
    folder = site / f"{told['project']['name'].replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told['project']['name']}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[fewer.parts]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    return site


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, where what is installed in `site` is found first."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments], cwd=site, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package installed, and a model small enough to tune in a second."""
    folder = install(tmp_path_factory.mktemp("site"))
    (folder / "their_model.py").write_text(MODEL)
    return folder


@pytest.mark.slow
def test_a_search_by_its_strategy(site):
    options = ("--nfe", "3", "--out", "out", "--trials", "5", "--seed", "1")
    done = run(site, "-m", "fewer", "tune", "their_model:tiny", "--strategy", "their-powers", *options)
    assert done.returncode == 0, done.stderr
    assert b"their-powers" in (site / "out" / "study.db").read_bytes()
    plan = ("--plan", "out/plan.json", "--json", "-", "-n", "32")
    compared = run(site, "-m", "fewer", "compare", "their_model:tiny", "--nfe", "3", *plan)
    assert compared.returncode in (0, 1), compared.stderr  # 1: the plan does not hold
    assert json.loads(compared.stdout)


@pytest.mark.slow
def test_its_rule_comes_back_from_a_file_where_it_is_installed(site, tmp_path):
    write = """
import fewer
from fewer.guidance import guide
from fewer.testing.models import transformer
from third_party_parts import TheirDamped
guide(fewer.standard("their-ab2", transformer(), nfe=3, steps="their-cosine"), TheirDamped(2.0)).save("guided.json")
"""
    read = "import fewer; print(fewer.Plan.load('guided.json').rows[0].guidance)"
    done = [run(site, "-c", write), run(site, "-c", read)]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    assert "TheirDamped(scale=2.0)" in done[1].stdout
    shutil.copy(site / "guided.json", tmp_path)
    alone = run(tmp_path, "-m", "fewer", "sample", "mixture16", "--plan", "guided.json")
    assert alone.returncode == 2
    assert "'their-damped' is no method of guidance; there are: adaptive-guidance" in alone.stderr
    assert len(alone.stderr.splitlines()) == 1


def test_its_parts_pass_the_suites(monkeypatch):
    monkeypatch.setattr(fewer.registry, "_register", dict(fewer.registry._register))  # forgotten after the test
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.delitem(sys.modules, "third_party_parts", raising=False)
    importlib.import_module("third_party_parts")
    solvers.check(find("solvers", "their-ab2").make())
    grids.check(find("grids", "their-cosine").make)
    guidance.check(find("guidance", "their-damped").make(2.0))
    strategies.check(find("search", "their-powers").make())
    measures.check(find("evaluate", "their-medians").make)


def test_its_parts_are_listed_and_a_broken_package_is_told_in_one_line(searches, site, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "broken-parts"\n[project.entry-points."fewer.parts"]\nx = "broken_parts"\n'
        '[tool.setuptools]\npy-modules = ["broken_parts"]\n'
    )
    (tmp_path / "broken_parts.py").write_text("raise RuntimeError('no luck\\ntoday')\n")
    both = tmp_path / "both"
    shutil.copytree(site, both)
    install(both, tmp_path)
    done = searches.run(both, "methods --json methods.json")
    assert done.status == 0, done
    found = json.loads((both / "methods.json").read_text())
    assert {(entry["room"], entry["name"]) for entry in found} >= NAMES
    (line,) = done.said.splitlines()
    assert line == "parts of broken-parts are left out: entry point 'x' fails: RuntimeError: no luck"
