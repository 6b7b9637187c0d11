"""The command line: thin, over the same functions as Python has."""

from fewer.cli.main import main

__all__ = ["main"]
