"""docs/commands.md: the commands with their options, from the command line itself."""

from __future__ import annotations

from typing import Any

import typer

from fewer.cli import commands  # noqa: F401  (its functions are the commands)
from fewer.cli.main import app
from scripts.docstrings import cell, code, escaped

HEAD = """# Commands

<!-- Made by `make docs-tables` from the command line itself. -->

Exit status: 0 done, 1 the work was done but its check does not hold, 2 bad input, 3 a fault of your own code or of fewer
(one line on stderr each; `--traceback`, with any command, shows where it was raised), 130 interrupted
(`fewer tune --resume` goes on). `--json` without a file writes JSON alone to stdout.

Defaults of options are read from `fewer.toml` in the working folder, or else from `[tool.fewer]` in its `pyproject.toml`: a
table a command, with the long names of its options as keys. The command line wins; what is no option is refused.

```toml
[tune]
nfe = "4-8"
device = "cuda"
```

`fewer --install-completion` installs the completion of commands and options in the shell that it is run in."""


# what one wants to do, in the order of a first day -> the commands for it
TASKS = {
    "Make samples cheap": ("tune", "sample", "gate"),
    "Edit images": ("edit",),
    "Make a network lighter": ("compress",),
    "Forecast a series or a field": ("forecast",),
    "Look at what came out": ("report", "serve"),
    "Judge a plan, or any images": ("compare", "judge", "diff"),
    "Play a plan in another engine": ("export",),
    "Look into a model, or a list of levels": ("inspect", "audit"),
    "Look up methods and their claims": ("methods", "claims"),
}


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
            blocks += [f"### fewer {name}", escaped(command.help or ""), *_examples(command), *_options(command)]
    return "\n\n".join(blocks) + "\n"


def _options(command: Any) -> list[str]:
    rows = [_row(field) for field in command.params if not getattr(field, "hidden", False) and field.name != "help"]
    return ["\n".join(["| argument | meaning | default |", "|---|---|---|", *rows])] if rows else []


def _examples(command: Any) -> list[str]:
    """The examples at the end of the command's help."""
    lines = (command.epilog or "").partition("Examples:\n")[2].splitlines()
    return [code("\n".join(line.strip() for line in lines), "sh")] if lines else []


def _row(field: Any) -> str:
    option = field.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in field.opts) if option else f"`{field.metavar or field.name.upper()}`"
    told = option and field.default not in (None, False, ()) and not callable(field.default)
    return f"| {names} | {cell(field.help or '')} | {f'`{field.default}`' if told else ''} |"
