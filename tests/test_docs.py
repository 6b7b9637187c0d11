"""The pages of docs/: what is made from the code is up to date, and what is shown runs."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from types import ModuleType

import pytest
import typer

sys.path.append(str(Path(__file__).parents[1]))  # the scripts are no installed package

import fewer.registry
from fewer.claims import claims, recorded
from fewer.cli import commands  # noqa: F401  (its functions are the commands)
from fewer.cli.main import app, run
from fewer.compression.asked import default_allocator
from fewer.registry import ROOMS, find, parts
from scripts import pages as script
from scripts.docstrings import escaped, headline, markdown, signature
from scripts.formulas import tex
from scripts.rooms import families, plots

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = (
    "tutorial",
    "own-model",
    "drop-in",
    "prompts",
    "transfer",
    "judge",
    "adding-a-part",
    "faq",
    "inverse",
    "forecasts",
    "large",
    "editing",
)
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


def test_every_method_is_in_the_table_of_all_and_its_link_leads_to_its_heading(made: dict[str, str]) -> None:
    rows = re.findall(r"^\| \[`([^`]+)`\]\(([^)#]+)(?:#([^)]+))?\) \|", made["methods.md"], re.MULTILINE)
    assert [name for name, _, _ in rows] == [part.name for room in ROOMS for part in parts(room)]
    for name, page, anchor in rows:
        assert f"\n### `{name}`\n" in made[page]
        assert anchor in ("", slug(name))


def test_every_command_is_under_a_task_with_an_example(made: dict[str, str]) -> None:
    group = typer.main.get_command(app)
    assert {words[0] for words in commands_on("commands")} == set(group.commands)
    assert "Further commands" not in made["commands.md"]


@pytest.mark.parametrize(
    ("module", "page"),
    [
        ("forecasts", "forecasts"),
        ("large", "large"),
        ("noise_map", "noise"),
        ("posteriors_page", "inverse"),
        ("search_cost", "search-cost"),
    ],
)
def test_what_a_page_says_stands_in_the_benchmark_that_makes_it(module: str, page: str) -> None:
    """So that the next measurement does not undo what was written into the page by hand."""
    text, at = (DOCS / f"{page}.md").read_text(), 0
    for piece, *_ in Formatter().parse(importlib.import_module(f"benchmarks.{module}").PAGE):
        found = text.find(piece, at)
        assert found >= 0, f"docs/{page}.md lacks, or has in another place: {piece}"
        at = found + len(piece)


@pytest.mark.parametrize("name", ["compress", "quantise"])
def test_a_page_is_the_one_that_its_benchmark_makes_of_the_stored_figures(name: str) -> None:
    stored = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    assert importlib.import_module(f"benchmarks.{name}").page(stored) == (DOCS / f"{name}.md").read_text()


def test_scores_of_units_are_shown_with_numbers_by_the_allocator_that_they_have_by_default() -> None:
    stored = json.loads((ROOT / "benchmarks/results/compress.json").read_text())
    for line in (line for lines in stored["models"].values() for line in lines):
        usual = default_allocator(find("compress", line["score"]).make())
        assert line.get("allocator", "knapsack") == usual  # lines from before there was another do not say so


def test_the_front_shows_what_is_on_record(made: dict[str, str]) -> None:
    """Figure and interval are those of the results file, on the first page and in the README."""
    row = json.loads((ROOT / "benchmarks/results/against_diffusers-digits.json").read_text())["rows"][0]
    told = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**row["typical"])
    assert told in made["index.md"]
    assert told in made["../README.md"]


@pytest.mark.parametrize(
    ("plain", "typeset"),
    [
        ("x' = (sigma'/sigma) x", r"x'=({\sigma}'/{\sigma})\,x"),
        ("sqrt(1 - tau) eps", r"\sqrt{1-{\tau}}\,{\varepsilon}"),
        ("sum_{j < n} c_j", r"\sum_{{j}<{n}}\,{c}_{j}"),
        ("e^(r - h) dr", r"{e}^{({r}-{h})}\,{\,dr}"),
        ("y^ + x~_1", r"\hat{{y}}+\tilde{{x}}_{1}"),
        ("each row of K with sum 1", r"\text{each}"),
    ],
)
def test_formulas_are_typeset(plain: str, typeset: str) -> None:
    assert typeset.replace("{", "").replace("}", "") in tex(plain).replace("{", "").replace("}", "")


def test_every_formula_of_a_docstring_is_tex_that_katex_reads(made: dict[str, str]) -> None:
    """By the KaTeX that the site has, where Node is installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node is installed, by which KaTeX could be run")
    formulas = [
        found for text in made.values() for found in re.findall(r"^\$\$\n(.*?)\n\$\$$", text, re.DOTALL | re.MULTILINE)
    ]
    assert len(formulas) > 20
    katex = json.dumps(str(DOCS / "assets/katex/katex.min.js"))
    script = f"const katex = require({katex}); {json.dumps(formulas)}.forEach(f => katex.renderToString(f))"
    subprocess.run([node], input=script, text=True, check=True)


def test_every_family_of_solvers_has_its_plots() -> None:
    folder = DOCS / "rooms" / "solvers"
    asked = {file for name in families() for file, _ in plots(name)}
    assert asked == {path.name for path in folder.glob("*.svg")}, "run make docs-plots"
    for path in folder.glob("*.svg"):
        text = path.read_text()
        assert len(text) < 40_000
        assert "<dc:date>" not in text
        assert not re.search(r'(?:href|src)="https?:', text)  # nothing is fetched


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page in ("adding-a-part", "tutorial", "inverse")))
        for page in WRITTEN
    ],
)
@pytest.mark.usefixtures("few_standards")
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


@pytest.mark.parametrize("page", ["../README", "index", "commands", *WRITTEN])
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

            x' = a + b

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
        "$$\n\\begin{array}{l}\n{x}'={a}+{b}\n\\end{array}\n$$",
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
