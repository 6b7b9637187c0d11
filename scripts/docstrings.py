"""Docstrings as Markdown: formulas are typeset, columns of fields become lists, prose is escaped."""

from __future__ import annotations

import inspect
import re
from typing import Any

from scripts.formulas import display

NAMES = r"[\w.:@*-]+(?:, [\w.:@*-]+)*"
FIELD = re.compile(rf"({NAMES})( +)(\S.*)")
FIRST = re.compile(rf"{NAMES} {{2,}}(?=\S)")
MARKUP = re.compile(r"[*\\]|(?<!\w)_|_(?!\w)|~(?=\w)|<(?=[A-Za-z/!])|\](?=[(:])")
MEANT = {"*": "\\*", "\\": "\\\\", "_": "\\_", "~": "\\~", "<": "&lt;", "]": "\\]"}
SOURCE = re.compile(r"(?=^Sources?: )", re.MULTILINE)


def headline(text: str) -> str:
    """What a module's docstring says before its first colon or full stop."""
    return escaped(re.split(r":\s|\.\s|\.$", text.strip(), maxsplit=1)[0].replace("\n", " "))


def markdown(text: str) -> str:
    """A docstring as Markdown.

    Paragraphs that are indented are formulas (see `scripts.formulas`); those whose first line is a name, two spaces and words
    become a list of fields; a last line `Source: ...` stands alone; the rest is prose on one line.
    """
    return "\n\n".join(_block(paragraph) for paragraph in _paragraphs(inspect.cleandoc(text)))


def escaped(prose: str) -> str:
    """Prose in which nothing is taken for markup but what stands in backticks; `_` within words is none."""
    pieces = re.split(r"(`[^`]+`)", prose)
    return "".join(
        piece if n % 2 else MARKUP.sub(lambda found: MEANT[found[0]], piece) for n, piece in enumerate(pieces)
    )


def cell(prose: str) -> str:
    """Prose in a table."""
    return escaped(prose).replace("|", "\\|")


def signature(thing: Any, name: str = "") -> str:
    """How it is called, with defaults; one argument a line where one line is too long."""
    called = inspect.signature(thing)
    parts, star = [], False
    for field in called.parameters.values():
        if field.kind is field.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or field.kind is field.VAR_POSITIONAL
        parts.append(_argument(field))
    result = called.return_annotation
    end = "" if result is called.empty or inspect.isclass(thing) else f" -> {_type(result)}"
    name = name or thing.__name__
    line = f"{name}({', '.join(parts)}){end}"
    return line if len(line) <= 88 else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def code(text: str, language: str = "text") -> str:
    """A fenced block."""
    return f"```{language}\n{text}\n```"


def _paragraphs(text: str) -> list[str]:
    """Runs of lines between empty ones; a formula directly below prose, or prose below it, is one of its own."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", SOURCE.sub("\n\n", text)):
        lines = block.rstrip().split("\n")
        kept: list[str] = [lines[0]]
        if FIRST.match(lines[0]) or lines[0].startswith("- "):
            found.append("\n".join(lines))
            continue
        for line in lines[1:]:
            if line.startswith("    ") == kept[-1].startswith("    "):
                kept.append(line)
            else:
                found.append("\n".join(kept))
                kept = [line]
        found.append("\n".join(kept))
    return [block for block in found if block.strip()]


def _block(paragraph: str) -> str:
    if paragraph.startswith("    "):
        return display(inspect.cleandoc("\n" + paragraph))
    lines = paragraph.split("\n")
    if FIRST.match(lines[0]):
        return _fields(lines)
    if lines[0].startswith("- "):
        return "\n".join(("- " + escaped(line[2:])) if line.startswith("- ") else escaped(line) for line in lines)
    return escaped(" ".join(line.strip() for line in lines))


def _fields(lines: list[str]) -> str:
    """`name  what it is`, with continuations indented, as a list; prose that follows closes it."""
    column = len(FIRST.match(lines[0])[0])  # type: ignore[index]
    items: list[str] = []
    for n, line in enumerate(lines):
        field = FIELD.fullmatch(line)
        if field and (len(field[2]) > 1 or len(field[1]) == column - 1):
            items.append(f"- `{field[1]}`: {escaped(field[3])}")
        elif line.startswith(" "):
            items[-1] += " " + escaped(line.strip())
        else:
            return "\n".join(items) + "\n\n" + escaped(" ".join(line.strip() for line in lines[n:]))
    return "\n".join(items)


def _argument(field: inspect.Parameter) -> str:
    name = {field.VAR_POSITIONAL: "*", field.VAR_KEYWORD: "**"}.get(field.kind, "") + field.name
    kind = "" if field.annotation is field.empty else f": {_type(field.annotation)}"
    if field.default is field.empty:
        return name + kind
    value = _value(field.default)
    return f"{name}{kind} = {value}" if kind else f"{name}={value}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _value(default: Any) -> str:
    """A default; functions by name and made values as dots, since what Python prints of them changes from run to run."""
    text = getattr(default, "__name__", None) or repr(default)
    return "..." if " at 0x" in text or text.startswith("<") else text
