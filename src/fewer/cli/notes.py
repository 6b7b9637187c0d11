"""What a command says beside its result."""

from __future__ import annotations

import sys


def say(*lines: str) -> None:
    """Print lines on stderr under fewer's name."""
    for line in lines:
        print(f"fewer: {line}", file=sys.stderr)
