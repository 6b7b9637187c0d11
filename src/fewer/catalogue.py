"""The methods as their source files declare them: read without running a line, so that listing them takes no torch.

The register (`fewer.registry`) is what runs; this is the same list for people in a hurry. Parts of other packages have no
files that could be read so, and come from the register.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fewer import registry
from fewer.registry import PACKAGES, ROOMS, Part, room_of

ROOT = Path(__file__).parent
IDENTIFIERS = {
    re.compile(r"arXiv:(\d{4}\.\d{4,5})"): "https://arxiv.org/abs/{}",
    re.compile(r"doi:(10\.\d{4,}/[^\s,;]*[^\s,;.])"): "https://doi.org/{}",
    re.compile(r"(https?://[^\s,;]*[^\s,;.])"): "{}",
}
MEANING = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")


@dataclass(frozen=True)
class Setting:
    """A field of a method's class, or a parameter of its function, that has a default or needs a value.

    default  as Python writes it; "" where there is none
    meaning  from the docstring; "" where that says nothing of it
    """

    name: str
    type: str
    default: str
    meaning: str = ""


@dataclass(frozen=True)
class Method:
    """A part of the register as it is declared: `doc` is its docstring, with the formula."""

    room: str
    name: str
    title: str
    source: str
    papers: tuple[int, ...]
    module: str
    doc: str
    settings: tuple[Setting, ...]

    @property
    def links(self) -> list[str]:
        """Addresses of the papers and programs that the source names."""
        return [form.format(each) for sort, form in IDENTIFIERS.items() for each in sort.findall(self.source)]


def methods(name: str | None = None) -> list[Method]:
    """All methods, fewer's own and those of installed packages, by room and name; with `name` those that are called so."""
    own = [method for names in PACKAGES.values() for package in names for method in _declared_in(package, name or "")]
    registry.read_entry_points()
    others = [part for part in registry.registered() if not part.make.__module__.startswith("fewer.")]
    found = {(each.room, each.name): each for each in [*own, *map(_of_part, others)]}
    chosen = [each for each in found.values() if name in (None, each.name)]
    return sorted(chosen, key=lambda each: (ROOMS.index(each.room), each.name))


def _declared_in(package: str, word: str) -> list[Method]:
    """The methods in those files of a package or module that have the word in them; parsing the others takes half a second."""
    return [method for file, text in _declaring(package).items() if word in text for method in _read(file)]


@cache
def _declaring(package: str) -> dict[Path, str]:
    """The files of a package or module that declare methods, with their texts."""
    path = ROOT.joinpath(*package.split(".")[1:])
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    texts = {file: file.read_text() for file in files}
    return {file: text for file, text in texts.items() if re.search(r"\b(part|variant)\(", text)}


def _read(file: Path) -> list[Method]:
    """The methods of a file: decorated classes and functions, and variants of classes."""
    words = [ROOT.name, *file.relative_to(ROOT).with_suffix("").parts]
    module = ".".join(words[:-1] if words[-1] == "__init__" else words)
    found = []
    for name, node in _names(module).items():
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            calls = [call for call in node.decorator_list if _called(call) == "part"]
            found += [_declared(module, name, _arguments(module, call)) for call in calls if isinstance(call, ast.Call)]
        elif isinstance(node, ast.Call) and _called(node) == "variant":
            found.append(_variant(module, node))
    return found


def _declared(module: str, name: str, given: dict[str, Any]) -> Method:
    """A class or function with the arguments of its `part`."""
    node = _names(module)[name]
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    doc = ast.get_docstring(node) or ""
    settings = _fields(module, node) if isinstance(node, ast.ClassDef) else _parameters(node, doc)
    room = given.get("room") or room_of(module) or ""
    return Method(room, given["0"], given["title"], given["source"], given.get("papers", ()), module, doc, settings)


def _variant(module: str, call: ast.Call) -> Method:
    """A class with other defaults; source and papers are those of the class unless given."""
    assert isinstance(call.args[0], ast.Name)
    where, node = _found(module, call.args[0].id)
    assert isinstance(node, ast.ClassDef)
    given = _arguments(module, call)
    decorators = [each for each in node.decorator_list if isinstance(each, ast.Call) and _called(each) == "part"]
    base = _arguments(where, decorators[0]) if decorators else {}
    changed = {each.arg: ast.unparse(each.value) for each in call.keywords}
    settings = tuple(
        Setting(each.name, each.type, changed.get(each.name, each.default), each.meaning)
        for each in _fields(where, node)
    )
    doc = f"{given['3']}\n\nOf {base['0']}: {ast.get_docstring(node)}" if base else given["3"]
    own = {"source": "", "papers": (), **base, **given}
    return Method(room_of(module) or "", given["1"], given["2"], own["source"], own["papers"], module, doc, settings)


@cache
def _names(module: str) -> dict[str, ast.AST]:
    """What the names of a module stand for: classes, functions, values, and imports from fewer."""
    path = ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: dict[str, ast.AST] = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= _assigned(node.targets[0], node.value)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == ROOT.name:
            found |= {alias.asname or alias.name: node for alias in node.names}
    return found


def _assigned(target: ast.expr, value: ast.expr) -> dict[str, ast.AST]:
    """The names of `NAME = value` and `A, B = a, b`, with their values."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=True)
        return {name: each for pair in pairs for name, each in _assigned(*pair).items()}
    return {target.id: value} if isinstance(target, ast.Name) else {}


def _found(module: str, name: str) -> tuple[str, ast.AST | None]:
    """Where a name of a module is defined, and what it stands for; None for what is not fewer's."""
    node = _names(module).get(name)
    if not isinstance(node, ast.ImportFrom):
        return module, node
    original = next(alias.name for alias in node.names if name in (alias.asname, alias.name))
    return _found(node.module or "", original)


def _called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _arguments(module: str, call: ast.Call) -> dict[str, Any]:
    """The values of a call's arguments, those without a name under their places; None for what is no constant."""
    given = [*((str(n), value) for n, value in enumerate(call.args)), *((k.arg or "", k.value) for k in call.keywords)]
    return {name: _value(module, value) for name, value in given}


def _value(module: str, node: ast.AST | None) -> Any:
    """A constant, a tuple of constants, a text with constants in it, or what a name stands for that is one of these."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=elements):
            return tuple(_value(module, each) for each in elements)
        case ast.JoinedStr(values=pieces):
            return "".join(str(_value(module, each)) for each in pieces)
        case ast.FormattedValue(value=inner):
            return _value(module, inner)
        case ast.Name(id=name):
            return _value(*_found(module, name))
    return None


def _fields(module: str, node: ast.ClassDef) -> tuple[Setting, ...]:
    """The fields of a dataclass, after those of its bases."""
    found: dict[str, Setting] = {}
    for base in reversed(node.bases):
        where, of = _found(module, base.id) if isinstance(base, ast.Name) else (module, None)
        if isinstance(of, ast.ClassDef):
            found |= {each.name: each for each in _fields(where, of)}
    if not any("dataclass" in ast.unparse(each) for each in node.decorator_list):
        return tuple(found.values())
    described = meanings(ast.get_docstring(node) or "")
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            name, kind = line.target.id, ast.unparse(line.annotation)
            before = found.get(name)
            if not kind.startswith("ClassVar"):
                found[name] = Setting(
                    name, kind, _default(line.value), described.get(name) or (before.meaning if before else "")
                )
    return tuple(found.values())


def _default(value: ast.expr | None) -> str:
    """What a field is without a value given, as Python writes it; "" where it needs one, `field(kw_only=True)` too."""
    if isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] == "field":
        given = {word.arg: word.value for word in value.keywords}
        if "default_factory" in given:
            return f"{ast.unparse(given['default_factory'])}()"
        return _default(given.get("default"))
    return "" if value is None else ast.unparse(value)


def _parameters(node: ast.FunctionDef, doc: str) -> tuple[Setting, ...]:
    """The parameters of a function that have defaults."""
    described, of = meanings(doc), node.args
    places = [*zip([*of.posonlyargs, *of.args][::-1], of.defaults[::-1], strict=False)][::-1]
    named = [*places, *zip(of.kwonlyargs, of.kw_defaults, strict=True)]
    return tuple(
        Setting(
            arg.arg,
            ast.unparse(arg.annotation) if arg.annotation else "",
            ast.unparse(value),
            described.get(arg.arg, ""),
        )
        for arg, value in named
        if value is not None
    )


def meanings(doc: str) -> dict[str, str]:
    """Name -> meaning from the lines `name  what it is` of a docstring, with the lines that go on from them."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in doc.splitlines():
        if entry := MEANING.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.startswith(" " * 6) and line.strip() and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found


def _of_part(part: Part) -> Method:
    """A part of another package, as the register has it."""
    thing: Any = part.make
    doc = inspect.getdoc(thing) or ""
    described = meanings(doc)
    if is_dataclass(thing):
        known = [(each.name, each.type, each.default) for each in fields(thing)]
        absent: Any = MISSING
    else:
        known = [(each.name, each.annotation, each.default) for each in inspect.signature(thing).parameters.values()]
        absent = inspect.Parameter.empty
        known = [each for each in known if each[2] is not absent]
    settings = tuple(
        Setting(name, str(kind), "" if default is absent else repr(default), described.get(name, ""))
        for name, kind, default in known
    )
    return Method(part.room, part.name, part.title, part.source, part.papers, thing.__module__, doc, settings)
