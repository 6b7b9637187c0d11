"""`fewer`: commands, and how they end.

Status 0 done, 1 a check does not hold, 2 bad input, 3 a fault of fewer's or of the user's own code, 130 interrupted. 2 and 3 come
with one line on stderr; `--traceback` shows before it where the error was raised.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from functools import cache
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from fewer.cli.interrupted import NOTHING, Interrupted
from fewer.errors import ForeignError, InputError, first_line, out_of_memory, reason
from fewer.garbage import collect_seldom

# typer ships click inside itself in some versions and needs it beside itself in others
UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

LONGEST_LINE = 1000  # characters
COMPLETION = "_FEWER_COMPLETE"  # a variable that shells set when they ask for completions


class _Group(typer.core.TyperGroup):
    """Commands whose summaries are listed whole: the first paragraph of each one's help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        helps = {name: self.get_command(ctx, name).help or "" for name in self.list_commands(ctx)}  # type: ignore[union-attr]
        rows = [(name, " ".join(text.split("\n\n")[0].split())) for name, text in helps.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    name="fewer",
    cls=_Group,
    help="Makes the samples of a pretrained diffusion or flow model cheap, at a quality that is measured.",
    epilog="Each command has examples at the end of its own help: fewer tune -h. Defaults of options are read from fewer.toml.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(shown: bool) -> None:
    if shown:
        from fewer.versions import versions

        for name, version in versions().items():
            typer.echo(f"{name} {version}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Versions and devices.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error was raised; with any command.")
    ] = False,
) -> None:
    """Options of the command itself; `run` reads --traceback, which errors before this need, too."""
    from fewer.cli import defaults

    defaults.apply(context)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    _open_streams()
    # stderr is for progress and for one line about bad input; what libraries say goes there when asked for
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    _spin_less()
    collect_seldom()
    if (here := _working_folder()) is not None:
        sys.path.append(here)  # for models that are functions of the user's; last, so that it shadows nothing
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a request to end is an interrupt
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(arguments))


def _open_streams() -> None:
    """Have numbers 0 to 2 open, or the first files that are opened would get them, and what is printed; no text is too odd."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (for as long as the process runs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _working_folder() -> str | None:
    """The working folder; None where it has been deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _spin_less() -> None:
    """Keep torch's threads from spinning for milliseconds while they wait for each other.

    That long each waits for one that has lost its core to another process: beside two other busy processes two threads took
    forty times as long as one. A thirtieth of the spins is as fast on an idle machine. libgomp reads it when torch is
    imported, which must come after.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if _working_folder() is None:
            raise InputError("the working folder does not exist any more: go to another and run it there")
        if sys.stdout is None:
            raise InputError("stdout is closed; expected somewhere to write to, such as /dev/null")
        words = _with_traceback_first(_with_json_target(given))
        status: Any = _commands()(words or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # whatever it is, the status tells and one line says it
        if "--traceback" in given:
            traceback.print_exception(error)
        return _ended(error)
    if status == 130:  # some versions of typer turn an interrupt into the status themselves
        return _interrupted(NOTHING)
    return status if isinstance(status, int) else 0


@cache
def _commands() -> Any:
    """The tree of commands, which takes as long to build as a command that is refused."""
    from fewer.cli import commands  # noqa: F401  (its functions are the commands)

    return typer.main.get_command(app)


def _ended(error: BaseException) -> int:
    """The exit status of a command that ended with an error, which is said in one line."""
    if isinstance(error, Interrupted):
        return _interrupted(str(error))
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _interrupted(NOTHING)
    if isinstance(error, BrokenPipeError) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
    ):  # at which some versions of typer exit with 1
        return _reader_gone()
    if isinstance(error, SystemExit) and COMPLETION in os.environ:  # how the answer to a shell ends
        return 0
    if isinstance(error, InputError):
        return _complain(str(error))
    if isinstance(error, UsageError):
        return _complain(error.format_message())
    if isinstance(error, OSError):
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}")
    if out_of_memory(error):
        return _complain(f"out of memory: {first_line(error)}")
    if isinstance(error, ForeignError):
        return _complain(f"{error} (--traceback shows where)", 3)
    return _complain(f"a fault of fewer itself: {reason(error)} (--traceback shows where; please report it)", 3)


def _interrupted(kept: str) -> int:
    print(f"fewer: interrupted; {kept}", file=sys.stderr)
    return 130


def _reader_gone() -> int:
    """What read stdout has gone, as `head` does: the end, and no fault."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would complain of it again at its end
    return 0


def _with_json_target(arguments: list[str]) -> list[str]:
    """A bare --json means --json -."""
    full = []
    for i, word in enumerate(arguments):
        full.append(word)
        after = arguments[i + 1] if i + 1 < len(arguments) else None
        if word == "--json" and (after is None or (after.startswith("-") and after != "-")):
            full.append("-")
    return full


def _with_traceback_first(arguments: list[str]) -> list[str]:
    """--traceback, which every command takes, is an option of the command line itself."""
    rest = [word for word in arguments if word != "--traceback"]
    return ["--traceback", *rest] if len(rest) < len(arguments) else rest


def _complain(message: str, status: int = 2) -> int:
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    if len(line) > LONGEST_LINE:  # names and what is in files may be of any length; what is wrong often stands last
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"
    print(f"fewer: {line}", file=sys.stderr)
    return status
