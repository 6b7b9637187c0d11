"""The environment in which k_diffusion's own code runs: `python -m benchmarks.leaderboard.environment FOLDER`.

A virtual environment that sees the packages of the one that runs this file (torch, diffusers, fewer) and adds, for
itself alone, k-diffusion and the packages that its `sampling` imports. Nothing is added to this environment. It takes
a few MB and the package index; the benchmark runs without it and says so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

# what k_diffusion.sampling imports and this environment lacks
PACKAGES = ("k-diffusion==0.1.1.post1", "torchdiffeq==0.2.5", "torchsde==0.2.6", "trampoline==0.1.2")


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def make(folder: Path) -> Path:
    """Makes the environment and returns its interpreter; SystemExit in one line where it cannot be had."""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = python_of(folder)
        shown = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
        site = Path(subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip())
        # addsitedir, unlike a plain line, also follows the links that editable installs leave there
        (site / "above.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, *PACKAGES], check=True)
        subprocess.run([str(python), "-m", "benchmarks.leaderboard.k_diffusion_side", "--check"], check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"k-diffusion's environment cannot be made: {error}") from error
    return python


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(make(parser.parse_args().folder))


if __name__ == "__main__":
    main()
