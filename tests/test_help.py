"""Help: short and long option, whole summaries, examples that the parser takes, and completion for shells."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from fewer.cli import commands
from fewer.cli.main import app, run

GROUP: Any = typer.main.get_command(app)


def examples(name: str) -> list[str]:
    """The lines below 'Examples:' in a command's help."""
    told = (GROUP.commands[name].epilog or "").partition("Examples:\n")[2]
    return [line.strip() for line in told.splitlines()]


@pytest.mark.parametrize(
    "line", [[], *([name] for name in commands.COMMANDS)], ids=lambda line: " ".join(["fewer", *line])
)
def test_h_is_help(line: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    texts = []
    for option in ("-h", "--help"):
        assert run([*line, option]) == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith("Usage:")


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_summaries_are_listed_whole(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = " ".join(capfd.readouterr().out.split())
    assert " ".join(GROUP.commands[name].help.split("\n\n")[0].split()) in listed


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_examples_in_its_help(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert examples(name)
    assert all(f"    {line}" in shown for line in examples(name))


@pytest.mark.parametrize("line", [line for name in commands.COMMANDS for line in examples(name)])
def test_every_example_is_a_line_that_its_command_takes(line: str) -> None:
    program, name, *words = shlex.split(line)
    assert program == "fewer"
    command = GROUP.commands[name]
    context = command.make_context(name, words)  # raises a usage error for what the command does not take
    assert not context.args


@pytest.mark.parametrize(("words", "offered"), [("fewer compa", "compare"), ("fewer tune --sta", "--start-from")])
def test_shells_complete_commands_and_options(words: str, offered: str) -> None:
    asked = {"_FEWER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    code = "import sys; sys.argv[0] = 'fewer'; from fewer.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == [offered]
    assert done.stderr == ""
