"""A process whose children run `fewer`: they begin at once, rank few standard plans, are bounded and killed as asked, and
share nothing with the tests. Where the system lets it, it sees small disks of its own, which nobody else does.

python tests/searches.py reads requests from stdin, one JSON object a line, and answers each with one.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from few_standards import keep_few

import fewer
import fewer.cli.progress
import fewer.registry
from fewer.garbage import collect_seldom
from fewer.models.schedules import Flow

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
OWN_MOUNTS = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])
OVERRIDE = 1  # number of the capability to write where the mode forbids it


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, negative for a signal, and what stands on stderr."""

    status: int
    said: str


class Searches:
    """The tests' end of it."""

    def __init__(self) -> None:
        self.mounts = next((way for way in OWN_MOUNTS if _works([*way, "true"])), None)
        command = [*(self.mounts or []), sys.executable, __file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
        )
        self._answer()

    def start(self, folder: Path, line: str, **bounds: Any) -> int:
        """Begin `fewer LINE` in the folder; its process id. The bounds are those of `start` below."""
        return int(self._ask("start", folder=str(folder), arguments=line.split(), **bounds))

    def end(self, pid: int, kill: int | None = None) -> Ended:
        """Wait for a command's end, after this signal where one is given."""
        if kill is not None:
            os.kill(pid, kill)
        return Ended(**self._ask("end", pid=pid))

    def run(self, folder: Path, line: str, **bounds: Any) -> Ended:
        """Both."""
        return self.end(self.start(folder, line, **bounds))

    def disk(self, place: Path, kilobytes: int) -> Path:
        """Put an empty disk of this size there for the commands; where the tests see what is on it."""
        place.mkdir(exist_ok=True)
        self._ask("disk", place=str(place), kilobytes=kilobytes)
        return Path(f"/proc/{self._process.pid}/root") / place.relative_to("/")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, what: str, **asked: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"what": what, **asked}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


# the other end


_stderr: dict[int, Any] = {}


def start(
    folder: str,
    arguments: list[str],
    memory: int | None = None,
    file: int | None = None,
    plain: bool = False,
) -> int:
    """Fork a child that runs the command line.

    memory  bytes that it may have beyond those it begins with
    file    bytes that its files may have
    plain   it has no right to write where the mode forbids it, as root has
    """
    said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
    pid = os.fork()
    if pid == 0:
        os.dup2(said.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.chdir(folder)
        sys.path.insert(0, folder)
        if plain:
            _give_up(OVERRIDE)
        if file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
        if memory is not None:
            has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (has + memory, has + memory))
        _leave(arguments)
    _stderr[pid] = said
    return pid


def _leave(arguments: list[str]) -> None:
    """Run the command line and end this process as it says."""
    from fewer.cli.main import main

    status: Any = 1
    try:
        main(arguments)
    except SystemExit as left:
        status = left.code
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


def _give_up(capability: int) -> None:
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for which in (0, 1):  # effective and permitted
        sets[which] &= ~(1 << capability)
    libc.capset(header, sets)


def end(pid: int) -> dict[str, Any]:
    """Wait for a child."""
    _, status = os.waitpid(pid, 0)
    with _stderr.pop(pid) as said:
        said.seek(0)
        return {"status": os.waitstatus_to_exitcode(status), "said": said.read().decode()}


def disk(place: str, kilobytes: int) -> None:
    """Mount an empty disk in this process's own view of the files."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], check=True)


def _warm_up() -> None:
    """Search once, so that what a search reads and makes at its first time is there in every child."""
    model = fewer.Model.from_mixture(fewer.GaussianMixture.random(2, components=2), Flow(), hash="warm")
    with tempfile.TemporaryDirectory() as out:
        fewer.tune(model, nfe=1, trials=1, noises=8, fresh=8, out=out)
    fewer.registry.read_entry_points.cache_clear()  # those of its folder are each child's own


def serve() -> None:
    """Answer requests until stdin ends."""
    collect_seldom()
    for name in ("cli.commands", "claims", "models.load", "search", "report"):  # read before the first child begins
        importlib.import_module(f"fewer.{name}")
    keep_few()
    fewer.cli.progress.SILENT = math.inf  # no line of progress, however busy the machine is
    for room in fewer.registry.ROOMS:  # of fewer alone: each child reads the packages that it finds in its folder
        fewer.registry._read(room)

    _warm_up()
    gc.freeze()  # children need not look through it, nor copy it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        made = {"start": start, "end": end, "disk": disk}[asked.pop("what")](**asked)
        print(json.dumps(made), flush=True)
    os._exit(0)  # torch takes seconds to end


if __name__ == "__main__":
    serve()
