"""Logging for `-v`: what the loggers `fewer.*` say goes to stderr, a line each."""

from __future__ import annotations

import logging

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
FORMAT = "%(asctime)s %(name)s %(levelname)s: %(message)s"


def log_to_stderr(times: int) -> None:
    """Show what `fewer.*` logs: warnings, with -v information too, with -vv all of it. Other packages' loggers are left alone."""
    logger = logging.getLogger("fewer")
    logger.setLevel(LEVELS[min(times, len(LEVELS) - 1)])
    if times and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
