"""Checks a wheel as a user gets it: what it holds, and that the README's first Python block runs from it.

python -m scripts.wheel dist/NAME.whl

The wheel is installed with its dependencies, at the versions of requirements.txt, into an empty environment; the block
runs in an empty folder, as it stands, on fewer noises and with a search that is cut short. Exits with 1 where something is missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHORT = """
import functools, fewer
fewer.tune = functools.partial(fewer.tune, trials=2, noises=16, fresh=16)
fewer.measure = functools.partial(fewer.measure, n=16)
"""


def expected() -> set[str]:
    """Every file of the package, as a wheel names them."""
    source = ROOT / "src"
    files = (path for path in (source / "fewer").rglob("*") if path.is_file())
    return {str(path.relative_to(source)) for path in files if "__pycache__" not in path.parts}


def wrong(wheel: Path) -> list[str]:
    """What the wheel lacks, and what it holds that is no part of the package."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    return [f"lacks {name}" for name in sorted(expected() - held)] + [
        f"holds {name}" for name in sorted(held - expected())
    ]


def example() -> str:
    """The README's first Python block."""
    block = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None, "the README has no Python block"
    return block[1]


def installed(wheel: Path, place: Path) -> Path:
    """The interpreter of a new environment that has the wheel and what it depends on."""
    venv.create(place, with_pip=True)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", ROOT / "requirements.txt", wheel], check=True)
    return python


def main() -> int:
    """Check the wheel that is named."""
    wheel = Path(sys.argv[1]).resolve()
    if found := wrong(wheel):
        print(f"{wheel.name} {'; '.join(found)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        python, elsewhere = installed(wheel, Path(folder) / "environment"), Path(folder) / "elsewhere"
        ready = time.monotonic()
        elsewhere.mkdir()
        bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run([python, "-c", SHORT + example()], cwd=elsewhere, env=bare, check=True)
        subprocess.run(
            [python, "-m", "fewer", "--version"], cwd=elsewhere, env=bare, check=True, stdout=subprocess.DEVNULL
        )
        ran = time.monotonic()
    print(f"{wheel.name}: installed in {ready - began:.0f} s, the README's example ran in {ran - ready:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
