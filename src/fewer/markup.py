"""Tables as HTML for notebooks: self-contained, in the reader's own colours, with every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> Markup:
    """A table whose first `left` columns hold words, and the others figures, which stand on the right."""
    sides = ["left" if n < left else "right" for n in range(len(columns))]
    head = _cells("th", columns, sides)
    body = Markup("").join(Markup("<tr>{}</tr>").format(_cells("td", row, sides)) for row in rows)
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body)


def paragraph(text: object) -> Markup:
    """Text, or markup that is one already, as a paragraph."""
    return Markup("<p>{}</p>").format(text)


def joined(parts: Iterable[str]) -> str:
    """One block of HTML; parts that are no `Markup` are escaped."""
    return str(Markup("<div>{}</div>").format(Markup("").join(escape(part) for part in parts)))


def _cells(tag: str, values: Sequence[object], sides: Sequence[str]) -> Markup:
    cell = Markup("<{0} style='text-align:{1}'>{2}</{0}>")
    return Markup("").join(cell.format(Markup(tag), side, value) for value, side in zip(values, sides, strict=True))
