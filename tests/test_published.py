"""What PyPI and pip show of the package: metadata that agrees with the code, links that work outside the repository."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from fewer.workers.extras import MODULES, missing

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
SOURCES = [
    path
    for folder in ("src", "docs", "scripts", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".md") and path != Path(__file__)
]


@pytest.mark.parametrize("link", LINKS)
def test_a_link_of_the_readme_works_outside_the_repository_and_leads_to_a_file(link: str) -> None:
    repository = PROJECT["project"]["urls"]["Repository"]
    found = re.fullmatch(rf"{re.escape(repository)}/(?:blob|raw)/main/([^#]+)(?:#.*)?", link)
    assert found or link.startswith("https://"), "a relative link leads nowhere on PyPI"
    assert found is None or (ROOT / found[1]).is_file()


def test_the_readme_has_links_and_a_picture() -> None:
    assert len(LINKS) > 3
    assert re.search(r"!\[[^\]]+\]\(https://", README)


def test_every_extra_that_a_text_names_is_one() -> None:
    """`pip install 'fewer[name]'`, in errors and in pages."""
    extras = PROJECT["project"]["optional-dependencies"]
    named = {
        (str(path.relative_to(ROOT)), extra)
        for path in [*SOURCES, ROOT / "README.md"]
        for group in re.findall(r"\bfewer\[([\w, -]+)\]", path.read_text())
        for extra in group.split(",")
    }
    assert named
    assert [(path, extra) for path, extra in named if extra.strip() not in extras] == []


def test_every_error_about_a_missing_package_says_how_to_install_it() -> None:
    """Where an import that fails becomes an error of the user's, the line has the command; of clusters `missing` writes it."""
    command = r"pip install 'fewer\[\w+\]'"
    for kind in MODULES:
        assert re.search(command, str(missing(f"{kind}://host:1")))
    for path in (ROOT / "src").rglob("*.py"):
        for handler in re.findall(
            r"except (?:ImportError|ModuleNotFoundError)[^\n]*\n(.*?from error)", path.read_text(), re.DOTALL
        ):
            assert "raise missing(" in handler or re.search(command, handler), path


def test_the_versions_of_python_agree() -> None:
    project = PROJECT["project"]
    named = sorted(int(found[1]) for each in project["classifiers"] if (found := re.fullmatch(r".* :: 3\.(\d+)", each)))
    assert f">=3.{named[0]}" == project["requires-python"]
    assert named == list(range(named[0], named[-1] + 1))


def test_what_a_reader_looks_for_is_there() -> None:
    project = PROJECT["project"]
    assert all(project[key] for key in ("authors", "keywords", "classifiers", "license", "readme", "description"))
    assert {"Homepage", "Repository", "Documentation", "Changelog", "Issues"} <= set(project["urls"])
    assert all(url.startswith(project["urls"]["Repository"]) for url in project["urls"].values())


def test_every_file_of_the_package_is_installed() -> None:
    """Templates, styles and scripts beside the code are package data."""
    package = ROOT / "src" / "fewer"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["fewer"]
    others = [
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert [name for name in others if not any(fnmatch(name, pattern.replace("**/", "")) for pattern in patterns)] == []
