"""Pages of the rooms: what the docstrings say, and what came of the claims. In the solvers' room a page per family.

A family is a file. Its page has the file's own words, then every method with its source, and order plots.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from types import ModuleType

from fewer.claims import recorded
from fewer.claims.results import Outcome
from fewer.claims.solvers.orders import compiled
from fewer.evaluate.statistics.interval import Interval
from fewer.registry import PACKAGES, ROOMS, Part, bibliography, parts
from scripts.docstrings import cell, code, escaped, headline, markdown, signature
from scripts.families import place, title

MADE = "<!-- Made by `make docs-tables` from the docstrings and src/fewer/claims/results.json. -->"

HOW = """The plots show the root mean square error at the last of n + 1 levels from tau = 0.85 to 0.15, over 64 trajectories in two
dimensions, against the mean step in log s. Filled: the first six states and outputs are the exact ones, so that
every step has the method's full history; the slope of these lines is the order. Dashed: the method starts by itself; multistep
methods then begin with steps of lower order, which can be all that is left to see. The exact models are those of the claims:
one Gaussian, whose flow is closed, and a mixture of three, whose flow is integrated by small Runge-Kutta steps. Of methods that
add noise the error is that of the variance along one direction of a Gaussian, which is carried through the rows exactly.
Numbers in the legends are the slopes over the last doubling of the steps: exact history, own start, and the order that the
method declares."""


def pages() -> dict[str, str]:
    """Path below docs/ -> text."""
    made = {"rooms/solvers/index.md": solvers()}
    made |= {f"rooms/solvers/{page(name)}.md": family(name) for name in families()}
    made |= {f"rooms/{room}.md": room_page(room) for room in ROOMS if room != "solvers"}
    return made


def families() -> dict[str, list[Part]]:
    """The files of the solvers' room that hold methods."""
    return by_file("solvers")


@cache
def by_file(room: str) -> dict[str, list[Part]]:
    """File below src/fewer, without its ending -> the room's parts in it, in the order in which they stand there."""
    found: dict[str, list[Part]] = {}
    for part in parts(room):
        found.setdefault(part.make.__module__.removeprefix("fewer.").replace(".", "/"), []).append(part)
    for name, held in found.items():
        places = {id(value): n for n, value in enumerate(vars(file(name)).values())}
        held.sort(key=lambda part: places.get(id(part.make), 0))
    return dict(sorted(found.items()))


def file(name: str) -> ModuleType:
    """The module of a file."""
    return importlib.import_module(f"fewer.{name.replace('/', '.')}")


def page(name: str) -> str:
    """A family's page and plots are called as its file, whichever folder that is in."""
    return name.rsplit("/", 1)[-1]


def deterministic(part: Part) -> bool:
    """Whether a solver's plan adds no noise."""
    return not compiled(part.make(), [0.9, 0.5]).stochastic


def plots(name: str) -> list[tuple[str, str]]:
    """File name and description of a family's order plots."""
    found = []
    measured = [part for part in families()[name] if part.make().order > 0]
    if any(deterministic(part) for part in measured):
        found += [(f"{page(name)}-gaussian.svg", "on a Gaussian"), (f"{page(name)}-mixture.svg", "on a mixture")]
    if not all(deterministic(part) for part in measured):
        found.append((f"{page(name)}-variance.svg", "of the variance"))
    return found


def room_page(room: str) -> str:
    """A room with all its files."""
    package = importlib.import_module(PACKAGES[room][0])
    blocks = [f"# {title(room)}", MADE, _words(package), _index(parts(room))]
    for name, held in by_file(room).items():
        module = file(name)
        blocks += [f"## {headline(module.__doc__ or name)} (`{name}.py`)", _words(module)]
        blocks += [section(part) for part in held]
    return _joined(blocks)


def family(name: str) -> str:
    """A file of the solvers' room."""
    module = file(name)
    held = families()[name]
    blocks = [f"# {headline(module.__doc__ or name)}", MADE, _words(module), f"File: `src/fewer/{name}.py`"]
    blocks += [section(part) for part in held]
    if not plots(name):  # samplers of distilled models, which have no order
        return _joined(blocks)
    blocks += ["## Order of convergence", "[How to read the plots](index.md#how-orders-are-measured)"]
    blocks.append("\n".join(f"![Error against step size {where}: {page(name)}]({file})" for file, where in plots(name)))
    return _joined(blocks)


def solvers() -> str:
    """The room's first page: all families, with their orders."""
    package = importlib.import_module("fewer.solvers")
    rows = ["| family | method | what it is | declared order | measured | own start |", "|---|---|---|--:|--:|--:|"]
    for name, held in families().items():
        link = f"[{page(name)}]({page(name)}.md)"
        for part in held:
            result = recorded().get(f"{part.name}/order")
            measured, own = ("", "") if result is None else (_figure(result), _own_start(result))
            rows.append(f"| {link} | `{part.name}` | {cell(part.title)} | {part.make().order} | {measured} | {own} |")
            link = ""
    blocks = ["# Solvers", MADE, _words(package), "\n".join(rows), "## How orders are measured", " ".join(HOW.split())]
    return _joined(blocks)


def section(part: Part) -> str:
    """One method: name, title, call, docstring, source, claims."""
    blocks = [f"### `{part.name}`", f"*{escaped(part.title)}*", code(signature(part.make), "python")]
    blocks += [markdown(part.make.__doc__ or ""), f"Source: {escaped(part.source)}." + _papers(part.papers)]
    told = [claimed(name, result) for name, result in recorded().items() if (part.room, part.name) in result.of]
    blocks.append("\n".join(told))
    return _joined(blocks).rstrip()


def claimed(name: str, result: Outcome) -> str:
    """A claim and what came out of it, as an item of a list."""
    asked = f"{_figure(result)}, expected {result.region}"
    told, against = (escaped(text).rstrip(".") for text in (result.statement, result.baseline))
    more = f" {escaped(result.undecided)}".rstrip()
    return f"- **{result.status}** `{name}`: {told}. Against {against}. Measured {asked}.{more}"


def _joined(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def _words(module: ModuleType) -> str:
    """The module's docstring, less a first sentence that is its heading."""
    told = markdown(module.__doc__ or "")
    first, _, rest = told.partition("\n\n")
    return rest if first.rstrip(".") == headline(module.__doc__ or "") else told


def _index(held: Iterable[Part]) -> str:
    rows = [f"| {_link(part)} | {cell(part.title)} |" for part in held]
    return "\n".join(["| method | what it is |", "|---|---|", *rows])


def _link(part: Part) -> str:
    """To the method's heading, where that has an anchor."""
    anchor = place(part)[1]
    return f"[`{part.name}`]({anchor})" if anchor else f"`{part.name}`"


def _papers(numbers: tuple[int, ...]) -> str:
    return "".join(f" Paper {number}: {escaped(bibliography()[number].title)}." for number in numbers)


def _figure(result: Outcome) -> str:
    return escaped(str(result.measured))


def _own_start(result: Outcome) -> str:
    """The lower of the two models' orders with the solver's own start."""
    found = [
        value.value
        for name, value in result.beside.items()
        if name.endswith("own start") and isinstance(value, Interval)
    ]
    return f"{min(found):.2f}" if found else ""
