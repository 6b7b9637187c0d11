"""`fewer`: commands, and how they end: 0 done, 1 a check does not hold, 2 bad input (one line), 130 interrupted."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer
import typer.core

from fewer.errors import InputError, first_line

# typer ships click inside itself in some versions and needs it beside itself in others
UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Group(typer.core.TyperGroup):
    """Commands whose summaries are listed whole: the first paragraph of each one's help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        helps = {name: self.get_command(ctx, name).help or "" for name in self.list_commands(ctx)}  # type: ignore[union-attr]
        told = [(name, " ".join(text.split("\n\n")[0].split())) for name, text in helps.items()]
        with formatter.section("Commands"):
            formatter.write_dl(told)


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
) -> None:
    """Options of the command itself."""
    from fewer.cli import defaults

    defaults.apply(context)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    # stderr is for progress and for one line about bad input; what libraries say goes there when asked for
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    _spin_less()
    sys.path.append(os.getcwd())  # for models that are functions of the user's; last, so that it shadows nothing
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a request to end is an interrupt
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(arguments))


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
        from fewer.cli import commands  # noqa: F401  (its functions are the commands)

        status: Any = app(_with_json_target(given) or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        return _complain(str(error))
    except UsageError as error:
        return _complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}")
    except (RuntimeError, MemoryError) as error:
        from fewer.memory import out_of_memory

        if not out_of_memory(error):
            raise
        return _complain(f"out of memory: {first_line(error)}")
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # at which some versions of typer exit with 1
            return _reader_gone()
        raise
    if status == 130:  # some versions of typer turn the interrupt into the status themselves
        print("fewer: interrupted; what was finished is kept, tune goes on with --resume", file=sys.stderr)
    return status if isinstance(status, int) else 0


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


def _complain(message: str) -> int:
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    print(f"fewer: {line}", file=sys.stderr)
    return 2
