"""Formulas of docstrings as TeX: in the code they are plain text, `x' = x + sqrt(s_i^2 - s^2) z`, which `help()` shows as it is.

A line is read word by word: Greek letters by their names, `_` and `^` as in TeX, `sqrt(..)`, functions, and letters that stand
for themselves; two spaces and more part two formulas. What reads as a sentence becomes text.
"""

from __future__ import annotations

import re

GREEK = (
    *(
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "eps",
        "eta",
        "theta",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
        "sigma",
    ),
    *(
        "tau",
        "phi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Sigma",
        "Phi",
        "Psi",
        "Omega",
        "Xi",
        "Pi",
    ),
)
FUNCTIONS = {"log": r"\log ", "exp": r"\exp ", "min": r"\min ", "max": r"\max ", "argmax": r"\operatorname{argmax}",
             "tr": r"\operatorname{tr}", "div": r"\operatorname{div}", "diag": r"\operatorname{diag}",
             "sum": r"\sum", "int": r"\int", "grad": r"\nabla "}  # fmt: skip
SIGNS = {"<-": r"\leftarrow ", "->": r"\to ", "<=": r"\le ", ">=": r"\ge ", "!=": r"\ne ", "...": r"\ldots ", "..": r"\ldots ",
         "||": r"\Vert ", "|": r"\vert ", "~": r"\sim ", "*": r"\cdot ", "%": r"\%", "#": r"\#", "&": r"\&",
         "$": r"\$"}  # fmt: skip
PROSE = ("in", "some", "of", "over", "since", "then", "each", "with", "for", "and", "where", "on")
CLOSE = "=+-/<>,;:"  # what needs no space of its own beside it
TOKEN = re.compile(r"sqrt\(|[A-Za-z]+\d*|\d+(?:\.\d+)?|<-|->|<=|>=|!=|\.\.\.?|\|\||[_^]\{|[_^]|\s+|.")
SENTENCE = re.compile(r"`|\b[a-z]{3,}(?:'s)? [a-z']{2,} [a-z']{2,}\b|\b[a-z]{4,} (?:[a-z]{4,}|[A-Z][a-z]+)\b")
CODE = re.compile(r"\bfewer\.|\w\(\w+=|==")


def display(block: str) -> str:
    """A block of formulas as Markdown: set as TeX, or as code where it is code."""
    lines = [line.strip() for line in block.split("\n") if line.strip()]
    if CODE.search(block):
        return f"```python\n{block}\n```"
    return "$$\n\\begin{array}{l}\n" + " \\\\[4pt]\n".join(tex(line) for line in lines) + "\n\\end{array}\n$$"


def tex(line: str) -> str:
    """One line as TeX."""
    parts = re.split(r"\s{2,}", line.replace("`", ""))
    return r" \qquad ".join(_math(part, SENTENCE.search(part) is not None) for part in parts)


def _math(text: str, sentence: bool) -> str:
    """A formula, or a sentence with formulas in it; brackets that `sqrt` and `^` open are read to their ends."""
    out: list[str] = []
    closing: list[str] = []  # what each bracket that is open becomes at its end
    tokens = TOKEN.findall(text)
    for n, token in enumerate(tokens):
        after = tokens[n + 1] if n + 1 < len(tokens) else " "
        if not token:
            continue
        if token == "sqrt(":
            out.append(r"\sqrt{")
            closing.append("}")
        elif token in ("_{", "^{"):
            out.append(token)
            closing.append("}")
        elif token in ("(", "{", "["):
            raised = n > 0 and tokens[n - 1] == "^"
            out.append("{(" if raised else r"\{" if token == "{" else token)
            closing.append({"(": ")", "{": r"\}", "[": "]"}[token] + ("}" if raised else ""))
        elif token in (")", "}", "]") and closing:
            out.append(closing.pop())
        elif token == "^" and not re.match(r"[\w(-]", after):  # y^ is an estimate of y
            out.append(_accented(out, "hat"))
        elif token == "~" and after == "_":
            out.append(_accented(out, "tilde"))
        elif token == "-" and n > 0 and tokens[n - 1] == "^":
            out.append("{-" + tokens[n + 1] + "}")
            tokens[n + 1] = ""
        else:
            out.append(_word(token, (tokens[n - 1] if n else "") or "1", after or " ", sentence))
    return "".join(out).strip() + "".join(reversed(closing))


def _accented(out: list[str], accent: str) -> str:
    """The last word under an accent; a name after `_` or `^` has none of its own."""
    return f"\\{accent}{{{out.pop().strip()}}}" if out else ""


def _word(token: str, before: str, after: str, sentence: bool) -> str:
    """What a token that opens and closes nothing is set as."""
    if token.isspace():
        near = before[-1] in CLOSE or after[0] in CLOSE
        return r"\ " if (sentence and not near) or (before == "," and sentence) else "" if near else r"\,"
    if token == ".":
        return r"\cdot " if after.isspace() or after.isalpha() else "."
    if token in SIGNS:
        return SIGNS[token]
    if sentence and token in "+-" and (before.isalpha() or before == token):  # as in DPM-Solver++
        return rf"\text{{{token}}}"
    named = re.fullmatch(r"([A-Za-z]+)(\d*)", token)
    if named is None:
        return f"{{{token}}}" if token[0].isdigit() else token
    word, number = named.groups()
    if word in FUNCTIONS and not (sentence and after.isspace()):
        return FUNCTIONS[word]
    if word in PROSE and not sentence:
        return rf"\text{{ {word} }}"
    return f"{{{_name(word, after, sentence)}_{{{number}}}}}" if number else f"{{{_name(word, after, sentence)}}}"


def _name(word: str, after: str, sentence: bool) -> str:
    """A variable, a word of a sentence, or the differential of a variable."""
    if word in GREEK:
        return r"\varepsilon" if word == "eps" else f"\\{word}"
    if word[0] == "d" and (word[1:] in GREEK or word in ("ds", "dr", "dx", "dt")):
        return rf"\,d{_name(word[1:], after, sentence)}"
    if len(word) == 1 or (not sentence and re.fullmatch(r"[ijkmnpqst]{2}", word)):
        return word
    return rf"\text{{{word}}}" if sentence and not after.startswith("_") else rf"\mathrm{{{word}}}"
