"""Defaults of commands from the working folder: `fewer.toml`, or `[tool.fewer]` in pyproject.toml where there is none.

A table a command, with the long names of its options as keys:

    [tune]
    nfe = "4-8"
    device = "cuda"

The command line wins over the file. Everything else than tables of commands with their options is refused.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import NoneType
from typing import Any

import typer

from fewer.cli.notes import say
from fewer.errors import InputError, first_line
from fewer.files import read_bytes

FILES = (("fewer.toml", ()), ("pyproject.toml", ("tool", "fewer")))
LARGEST = 2**20  # bytes


def apply(context: typer.Context) -> None:
    """Make a file's values the defaults of the command that is about to run, and say on stderr at its end that they were used.

    Bad input ends in one line, so that nothing is said beside it.
    Raises InputError that names the file and the key for what no option takes.
    """
    named, tables = _tables()
    commands = context.command.commands  # type: ignore[attr-defined]
    checked = {
        name: _values(f"{named}: [{name}]", table, commands.get(name), context) for name, table in tables.items()
    }
    if used := checked.get(context.invoked_subcommand or ""):
        context.default_map = checked
        context.call_on_close(lambda: _tell(f"defaults from {named}: {', '.join(used)}"))


def _tell(line: str) -> None:
    """The line on stderr, unless the command ends with an error."""
    if isinstance(sys.exception(), typer.Exit | NoneType):
        say(line)


def _tables() -> tuple[str, dict[str, Any]]:
    """The tables of the first file that has any, and what the file is called."""
    for name, keys in FILES:
        if not (path := Path(name)).is_file():
            continue
        try:
            content: Any = tomllib.loads(read_bytes(path, name, LARGEST).decode())
        except (ValueError, RecursionError) as error:  # a file that is not UTF-8 is a ValueError, too
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name} is not TOML: {first_line(error)}") from error
        for key in keys:
            content = content.get(key, {}) if isinstance(content, dict) else content
        if not isinstance(content, dict):
            raise InputError(f"{name}: {'.'.join(keys)} is {content!r}; expected tables of commands, such as [tune]")
        if content:
            return name, content
    return "", {}


def _values(where: str, table: Any, command: Any, context: typer.Context) -> dict[str, Any]:
    """Parameter -> value of a command's table."""
    if command is None:
        raise InputError(f"{where} is no command; tables are named by commands, such as [tune]")
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}; expected a table of options")
    options = {option.opts[0].lstrip("-"): option for option in command.params if option.param_type_name == "option"}
    options.pop("help", None)
    found = {}
    for key, given in table.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            raise InputError(f"{where} {key} is no option; there are: {', '.join(sorted(options))}")
        found[option.name] = value = _value(f"{where} {key}", given, option)
        try:
            option.process_value(context, value)  # as the command does when it is run
        except typer.BadParameter as error:
            raise InputError(f"{where} {key} is {given!r}: {error.message}") from error
    return found


def _value(what: str, given: Any, option: Any) -> bool | str | list[str]:
    """A value as it would be typed, of the kind that the option takes."""
    if option.is_flag:
        kind, fits = "true or false", isinstance(given, bool)
    elif option.multiple:
        kind, fits = "a list of texts", isinstance(given, list) and all(map(_typed, given))
    else:
        kind, fits = "a number or a text", _typed(given)
    if not fits:
        raise InputError(f"{what} is {given!r}; expected {kind}")
    if option.multiple:
        return [str(each) for each in given]
    return given if option.is_flag else str(given)


def _typed(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
