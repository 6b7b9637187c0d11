"""The pages of docs/: what is made from the code is up to date, and what is shown runs."""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

sys.path.append(str(Path(__file__).parents[1]))  # the scripts are no installed package

import fewer.registry
from fewer.claims import claims, recorded
from fewer.cli import commands  # noqa: F401  (its functions are the commands)
from fewer.cli.main import app, run
from fewer.registry import parts
from scripts import pages as script
from scripts.docstrings import escaped, headline, markdown, signature
from scripts.rooms import families, plots

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = ("tutorial", "own-model", "drop-in", "prompts", "transfer", "adding-a-part", "faq")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return script.pages()


@pytest.fixture
def own_register() -> Iterator[None]:
    """What a page registers is forgotten after it, and nothing else: all parts and claims are read before."""
    assert parts()
    assert claims()
    registers = (fewer.registry._register, sys.modules["fewer.claims.claim"]._register)
    before = [dict(register) for register in registers]
    yield
    for register, entries in zip(registers, before, strict=True):
        register.clear()
        register.update(entries)


def test_pages_are_up_to_date(made: dict[str, str]) -> None:
    old = [name for name, text in made.items() if not (DOCS / name).is_file() or (DOCS / name).read_text() != text]
    assert not old, "run make docs-tables"
    assert not script.stale(made), "run make docs-tables"


def test_every_part_and_every_recorded_claim_has_its_place(made: dict[str, str]) -> None:
    rooms = "".join(text for name, text in made.items() if name.startswith("rooms/"))
    assert [part.name for part in parts() if f"\n### `{part.name}`\n" not in rooms] == []
    untold = [name for name, result in recorded().items() if result.of and f"** `{name}`: " not in rooms]
    assert untold == []


def test_every_family_of_solvers_has_its_plots() -> None:
    folder = DOCS / "rooms" / "solvers"
    asked = {file for name in families() for file, _ in plots(name)}
    assert asked == {path.name for path in folder.glob("*.svg")}, "run make docs-plots"
    for path in folder.glob("*.svg"):
        text = path.read_text()
        assert len(text) < 40_000
        assert "<dc:date>" not in text
        assert not re.search(r'(?:href|src)="https?:', text)  # nothing is fetched


@pytest.mark.parametrize("page", WRITTEN)
def test_python_on_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_register: None) -> None:
    """In order, in one namespace; a block that the page puts into a file of the package has that file's module name."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text()
    module = ModuleType("page")
    end = 0
    for block in FENCE.finditer(text):
        if block[1] == "python":
            home = re.findall(r"`src/(fewer/\w+/\w+)\.py`:", text[end : block.start()])
            module.__dict__["__name__"] = home[-1].replace("/", ".") if home else "page"
            line = text[: block.start()].count("\n") + 1
            code = compile("\n" * line + block[2], str(DOCS / f"{page}.md"), "exec", dont_inherit=True)
            exec(code, module.__dict__)
        end = block.end()


@pytest.mark.parametrize("page", ["../README", "index", *WRITTEN])
def test_commands_on_a_page_are_commands(page: str) -> None:
    """Every option that is shown exists and takes what it is given; nothing is run."""
    group = typer.main.get_command(app)
    for command, *words in commands_on(page):
        group.commands[command].make_context(command, words)


def commands_on(page: str) -> list[list[str]]:
    """The words after `fewer` of each command that a page shows."""
    blocks = FENCE.finditer((DOCS / f"{page}.md").read_text())
    lines = [line for block in blocks if block[1] == "sh" for line in block[2].splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True))[:1] == ["fewer"]]


@pytest.mark.slow
def test_the_tutorials_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, one after another; the last says that the plan holds."""
    monkeypatch.chdir(tmp_path)
    assert [run(words) for words in commands_on("tutorial")] == [0, 0, 0, 0]
    assert (tmp_path / "tutorial" / "report.html").exists()
    assert len(list((tmp_path / "tutorial" / "samples").glob("0*.png"))) == 16


@pytest.mark.parametrize("path", [*sorted(DOCS.rglob("*.md"))], ids=lambda path: str(path.relative_to(DOCS)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        assert "://" in target or not file or (path.parent / file).exists(), target
        if anchor and "://" not in target:
            there = (path.parent / file if file else path).read_text()
            assert anchor in {slug(line) for line in re.findall(r"^#+ (.*)$", there, re.MULTILINE)}, target


def slug(heading: str) -> str:
    """A heading's anchor, as mkdocs and GitHub both make it of plain words."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower())


def test_the_site_builds(tmp_path: Path) -> None:
    build = pytest.importorskip("mkdocs.commands.build")
    config = importlib.import_module("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path))
    build.build(config)
    for page in tmp_path.rglob("*.html"):
        fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?(https?:[^">\s]+)', page.read_text())
        assert fetched == [], page


def test_docstrings_keep_formulas_and_columns() -> None:
    shown = markdown(
        """First line, with a_i * b_i and <v, z> of `raw_*`.

            x' = a *x* + b

        and words
        below it.

        name      what it is,
                  and more
        long_name second
        Source: Somebody 1999.
        """
    )
    assert shown.split("\n\n") == [
        "First line, with a_i \\* b_i and &lt;v, z> of `raw_*`.",
        "$$\n\\begin{array}{l}\nx'=a\\cdot x\\cdot +b\n\\end{array}\n$$",
        "and words below it.",
        "- `name`: what it is, and more\n- `long_name`: second",
        "Source: Somebody 1999.",
    ]


def test_headline_ends_at_the_first_colon_or_full_stop() -> None:
    assert headline("Heun's method: an Euler step, then more.") == "Heun's method"
    assert headline("Methods on the flow, dx = u dtau.\n\nMore: text.") == "Methods on the flow, dx = u dtau"
    assert escaped("in [0, 1) of [@FILE](x)") == "in [0, 1) of [@FILE\\](x)"


def test_signatures_are_the_same_in_every_run() -> None:
    def call(x: int, *rest: str, key: object = max, made: object = object()) -> None: ...

    assert signature(call, "f") == "f(x: int, *rest: str, key: object = max, made: object = ...) -> None"
