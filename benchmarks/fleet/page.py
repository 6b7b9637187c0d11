"""docs/pipelines.md, from the results."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from benchmarks.fleet.reasons import REASONS

CHECKS = ("loads", "tunes", "applies", "restored")
MODES = ("plain", "guided")
MOST = 160  # letters of a reason

HEAD = """# Pipelines of diffusers

diffusers {version} exports {exported} pipeline classes, of which {counted} count here: those with a scheduler and one loop over its
`step`, by which numbers are denoised. Which these are is read off their sources (`benchmarks/fleet/classes.py`); the others are at
the end of this page, each with its reason. Each class is built tiny, with random weights, embeddings in place of texts where its
tokenizer cannot be had, and called for one sample with guidance and without. This page is made by `python -m benchmarks.pipelines`.

- **loads**: `fewer.Model.from_pipeline` makes its model, whose network gives what the pipeline's own loop hands to `step`
- **tunes**: the plan of a short search plays in the pipeline, under `fewer.apply`, as on the model. The search is the first stage
  of `fewer tune`: rows of 3 calls are fitted on 3 grids, from 2 noises, to the model's own way of 8 calls, and the nearest is taken
- **applies**: a standard plan does
- **restored**: after `fewer.unapply` the pipeline has its own scheduler object, and its images are as before, to the bit

A sample is the same where it differs by at most 1e-4 of its largest number. Where a pipeline puts back what it knows from its
second turn on, as outside of a mask, the rest is compared, to 3e-3.
"""
END = "Two words a check: without guidance, and with; `-` was not tried."

Rows = Mapping[str, Mapping[str, Any]]  # class -> mode -> outcome


def page(results: dict[str, Any], scope: Mapping[str, str], version: str) -> str:
    """Markdown of the results, key -> outcome, of classes of which `scope` says why they do not count ("" where they do)."""
    found = _rows(results)
    rows = {name: found.get(name, {}) for name, reason in scope.items() if not reason}
    beyond = {name: found.get(name, {}) for name, reason in scope.items() if reason}
    head = HEAD.format(exported=len(scope), counted=len(rows), version=version)
    return "\n".join([head, _counts(rows), _reasons(rows), _classes(rows), _others(beyond, scope)])


def _rows(results: dict[str, Any]) -> Rows:
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, outcome in sorted(results.items()):
        name, mode = key.split()
        rows[name][mode] = outcome
    return rows


def _counts(rows: Rows) -> str:
    lines = ["| | without guidance | with guidance |", "|---|---|---|"]
    built = [sum(not row[mode]["built"] for row in rows.values() if mode in row) for mode in MODES]
    lines.append(f"| built | {built[0]} | {built[1]} |")
    for check in CHECKS:
        held = [sum(_word(row, mode, check) == "" for row in rows.values()) for mode in MODES]
        lines.append(f"| {check} | {held[0]} | {held[1]} |")
    whole = [sum(_holds(row, mode) for row in rows.values()) for mode in MODES]
    both = sum(all(_holds(row, mode) for mode in MODES) for row in rows.values())
    lines.append(f"| all four | {whole[0]} | {whole[1]} |")
    return "\n".join([
        "## Counts", "", *lines, "",
        f"{both} of {len(rows)} classes ({100 * both / len(rows):.0f} %) pass all four, with and without guidance.", "",
    ])  # fmt: skip


def _word(row: Mapping[str, Any], mode: str, check: str) -> str | None:
    """What a check said: "" where it holds, None where it was not tried."""
    found = row.get(mode, {"built": "-", "found": {}})
    return None if found["built"] else found["found"].get(check)


def _holds(row: Mapping[str, Any], mode: str) -> bool:
    return all(_word(row, mode, check) == "" for check in CHECKS)


def _reason(row: Mapping[str, Any]) -> str:
    """Why a class fails: that it is not built, or the first check that does not hold; "" for none."""
    for outcome in row.values():
        if outcome["built"]:
            return f"not built: {outcome['built']}"
        words = [word for check in CHECKS if (word := outcome["found"].get(check))]
        if words:
            return str(words[0])
    return "" if all(_holds(row, mode) for mode in MODES) else "not tried"


def _why(name: str, row: Mapping[str, Any]) -> str:
    """The reason in words where there are some, of a class that does not pass."""
    return "" if all(_holds(row, mode) for mode in MODES) else REASONS.get(name, _reason(row))


def _reasons(rows: Rows) -> str:
    """The reasons by number of classes."""
    found = Counter(_why(name, row) for name, row in rows.items())
    lines = [f"| {count} | {_cell(reason)} |" for reason, count in found.most_common() if reason]
    return "\n".join(
        [
            "## Reasons",
            "",
            "| classes | why not: what the first check that does not hold says, or the reason behind it |",
            "|---|---|",
            *lines,
            "",
        ]
    )


def _classes(rows: Rows) -> str:
    lines = ["## Classes", "", f"| class | {' | '.join(CHECKS)} | why not |", "|---" * (len(CHECKS) + 2) + "|"]
    lines += [f"| {name} | {_marks(row)} | {_cell(_why(name, row))} |" for name, row in rows.items()]
    return "\n".join([*lines, "", END, ""])


def _others(rows: Rows, scope: Mapping[str, str]) -> str:
    """The classes that do not count, with what came of those that were tried all the same."""
    lines = [
        "## Classes that do not count",
        "",
        f"| class | {' | '.join(CHECKS)} | why |",
        "|---" * (len(CHECKS) + 2) + "|",
    ]
    lines += [f"| {name} | {_marks(row)} | {_cell(scope[name])} |" for name, row in rows.items()]
    return "\n".join([*lines, ""])


def _marks(row: Mapping[str, Any]) -> str:
    marks = {None: "-", "": "yes"}
    return " | ".join(" ".join(marks.get(_word(row, mode, check), "no") for mode in MODES) for check in CHECKS)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")[:MOST]
