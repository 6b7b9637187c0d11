"""Starting k_diffusion's side in its own environment, and taking what it writes, budget by budget."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from benchmarks.leaderboard.environment import python_of
from benchmarks.leaderboard.field import Standing

ROOT = Path(__file__).parents[2]
HOW = "python -m benchmarks.leaderboard.environment FOLDER"


def usable(folder: Path | None) -> str | None:
    """None where k_diffusion's own sampling can be read in the environment `folder`; else why not, in a line."""
    if folder is None:
        return f"no environment given; `{HOW}` makes one, `--k-diffusion FOLDER` takes it"
    if not python_of(folder).exists():
        return f"{folder} is no virtual environment; `{HOW}` makes one"
    command = [str(python_of(folder)), "-m", "benchmarks.leaderboard.k_diffusion_side", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it cannot be run"])[-1]


class Side:
    """One model's run beside this process, on another core. A context: leaving it ends the run."""

    def __init__(
        self, environment: Path, model: str, nfe: Sequence[int], noise: Tensor, labels: Tensor | None, target: Tensor,
        screen: int, keep: int,
    ) -> None:  # fmt: skip
        self.folder = tempfile.TemporaryDirectory(prefix="fewer-leaderboard-")
        self.here = Path(self.folder.name)
        given = {"noise": noise.contiguous(), "target": target.contiguous()}
        save_file(
            given if labels is None else {**given, "labels": labels.contiguous()}, self.here / "noises.safetensors"
        )
        command = [
            str(python_of(environment)), "-m", "benchmarks.leaderboard.k_diffusion_side", str(self.here), model,
            ",".join(map(str, nfe)), "--screen", str(screen), "--keep", str(keep),
        ]  # fmt: skip
        with (self.here / "errors.txt").open("w") as errors:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=errors)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def standing(self, nfe: int) -> Standing:
        """What its samplers scored with `nfe` calls, waited for; SystemExit with its last line where it failed."""
        path = self.here / f"k_diffusion-{nfe}.safetensors"
        while not path.exists():
            if self.process.poll() is not None and not path.exists():
                last = (self.here / "errors.txt").read_text().strip().splitlines()[-1:]
                raise SystemExit(f"k_diffusion's side ended with status {self.process.returncode}: {' '.join(last)}")
            time.sleep(0.2)
        return Standing.load(path)
