"""docs/commands.md: the commands with their options, from the command line itself."""

from __future__ import annotations

from typing import Any

import typer

from fewer.cli import commands  # noqa: F401  (its functions are the commands)
from fewer.cli.main import app
from scripts.docstrings import cell, code, escaped

HEAD = """# Commands

<!-- Made by `make docs-tables` from the command line itself. -->

Exit status: 0 done, 1 the work was done but its check does not hold, 2 bad input (one line on stderr), 130 interrupted
(`fewer tune --resume` goes on). `--json` without a file writes JSON alone to stdout."""


# what one wants to do, in the order of a first day -> the commands for it
TASKS = {
    "Make samples cheap": ("tune", "sample"),
    "Look at what came out": ("report", "serve"),
    "Judge a plan": ("compare",),
    "Look into a model": ("inspect",),
    "Look up methods and their claims": ("methods", "claims"),
}
EXAMPLES = {
    "tune": """fewer tune ./my-pipeline --nfe 5                # the best plan of 5 network calls
fewer tune ./my-pipeline --nfe 4-12             # one for each of 4 to 12, in one run
fewer tune ./my-pipeline --match                # the cheapest that is not worse than the pipeline as it is
fewer tune ./my-pipeline --ms 20 --time 600     # at most 20 ms a sample; search for 10 minutes at most
fewer tune ./my-sd --nfe 12 --guidance 7.5 --prompts prompts.txt
fewer tune my_module:model --nfe 5 --metric my_module:metric""",
    "sample": """fewer sample ./my-pipeline --plan fewer-my-pipeline/plan.json -n 64 --out samples
fewer sample ./my-sd --plan plan.json --prompt "a red fox" -n 4""",
    "report": "fewer report fewer-my-pipeline                  # report.html again, after an update of fewer",
    "serve": """fewer serve fewer-my-pipeline --open             # the plans of a search beside their baselines, live
fewer serve digits --port 0                     # the standard plans of a model""",
    "compare": """fewer compare ./my-pipeline --nfe 5,10           # all standard samplers and the pipeline as it is
fewer compare ./my-fine-tune --nfe 5 --plan fewer-my-pipeline/plan.json   # does the plan hold there?""",
    "inspect": """fewer inspect ./my-pipeline                     # and what is wrong with its own schedule
fewer inspect ./my-pipeline --cost              # what each fault costs""",
    "methods": "fewer methods                                   # all of them; --json for programs",
    "claims": """fewer claims                                    # runs every check: hours
fewer claims dpmpp-2m/order                     # runs one""",
}  # fmt: skip


def page() -> str:
    """The page's text: the commands by task, those of no task last."""
    root: Any = typer.main.get_command(app)
    told = [name for names in TASKS.values() for name in names]
    tasks = {**TASKS, "Further commands": sorted(set(root.commands) - set(told))}
    blocks = [HEAD]
    for task, names in tasks.items():
        known = [name for name in names if name in root.commands]
        if known:
            blocks.append(f"## {task}")
        for name in known:
            command = root.commands[name]
            blocks += [f"### fewer {name}", escaped(command.help or "")]
            blocks += [code(EXAMPLES[name], "sh")] if name in EXAMPLES else []
            blocks += _options(command)
    return "\n\n".join(blocks) + "\n"


def _options(command: Any) -> list[str]:
    rows = [_row(field) for field in command.params if not getattr(field, "hidden", False) and field.name != "help"]
    return ["\n".join(["| argument | meaning | default |", "|---|---|---|", *rows])] if rows else []


def _row(field: Any) -> str:
    option = field.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in field.opts) if option else f"`{field.metavar or field.name.upper()}`"
    told = option and field.default not in (None, False, ()) and not callable(field.default)
    return f"| {names} | {cell(field.help or '')} | {f'`{field.default}`' if told else ''} |"
