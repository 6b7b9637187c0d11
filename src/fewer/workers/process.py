"""A worker process of this machine: requests on stdin, answers on stdout, each after its length; it ends with stdin."""

from __future__ import annotations

import os
import sys
from typing import IO

from fewer.garbage import collect_seldom

LENGTH = 8  # bytes
READY = b"ready"  # the first message, before any request


def write(stream: IO[bytes], message: bytes) -> None:
    """Send a message."""
    stream.write(len(message).to_bytes(LENGTH, "little"))
    stream.write(message)
    stream.flush()


def read(stream: IO[bytes]) -> bytes | None:
    """The next message; None where the other end has gone, in the middle of one, too."""
    size = stream.read(LENGTH)
    if len(size) < LENGTH:
        return None
    message = stream.read(length := int.from_bytes(size, "little"))
    return message if len(message) == length else None


def main() -> None:
    """Answer until stdin ends. What the network prints goes to stderr: stdout has answers alone."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    collect_seldom()
    from fewer.workers.answer import answer

    write(answers, READY)
    while (request := read(requests)) is not None:
        try:
            write(answers, answer(request))
        except BrokenPipeError:
            break
    sys.stdout.flush()
    os._exit(0)  # torch takes seconds to end


if __name__ == "__main__":
    main()
