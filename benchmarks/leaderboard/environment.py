"""The environment in which another library's own code runs: `python -m benchmarks.leaderboard.environment FOLDER`.

A virtual environment that sees the packages of the one that runs this file (torch, diffusers, fewer) and adds, for
itself alone, k-diffusion and the packages that its `sampling` imports, or with `--of cache-dit` that library, for
`benchmarks.throughput`. Nothing is added to this environment. It takes a few MB and the package index; the benchmarks
run without it and say so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

# what a library's code imports and this environment lacks; cache-dit also imports transformers, of the extra `prompts`
PACKAGES = {
    "k-diffusion": ("k-diffusion==0.1.1.post1", "torchdiffeq==0.2.5", "torchsde==0.2.6", "trampoline==0.1.2"),
    "cache-dit": ("cache-dit==1.5.3",),
}
CHECKS = {
    "k-diffusion": ("-m", "benchmarks.leaderboard.k_diffusion_side", "--check"),
    "cache-dit": ("-c", "import cache_dit"),
}


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def make(folder: Path, of: str) -> Path:
    """Makes the environment of a library and returns its interpreter; SystemExit in one line where it cannot be had."""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = python_of(folder)
        shown = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
        site = Path(subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip())
        # addsitedir, unlike a plain line, also follows the links that editable installs leave there
        (site / "above.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, *PACKAGES[of]], check=True)
        subprocess.run([str(python), *CHECKS[of]], check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the environment of {of} cannot be made: {error}") from error
    return python


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--of", choices=PACKAGES, default="k-diffusion", help="whose code is to run there")
    given = parser.parse_args()
    print(make(given.folder, given.of))


if __name__ == "__main__":
    main()
