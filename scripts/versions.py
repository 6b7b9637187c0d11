"""The quick tests under every supported version of Python that is on this machine; says which are not.

python -m scripts.versions [VERSION ...]          (python3.X on the path, or of pyenv or uv)

Each version has an environment `.venv-VERSION` of its own, at the versions of requirements.txt. Exits with 1 where a test fails
or a version that was asked for by name is not there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTS = """
import pkgutil, importlib, fewer
names = [module.name for module in pkgutil.walk_packages(fewer.__path__, "fewer.") if not module.name.endswith("__main__")]
for name in names: importlib.import_module(name)
print(len(names), "modules imported")
"""
QUICK = ("plan", "levels", "engine", "noise", "files", "cli", "report", "serve", "published")


def supported() -> list[str]:
    """The versions that pyproject.toml names, such as 3.11."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    return [found[1] for each in classifiers if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", each))]


def interpreter(version: str) -> str | None:
    """A Python of this version, None where none is found."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    if uv := shutil.which("uv"):
        asked = subprocess.run([uv, "python", "find", "--no-python-downloads", version], capture_output=True, text=True)
        candidates.append(asked.stdout.strip() or None)
    return next((found for found in candidates if found and _is(found, version)), None)


def _is(python: str, version: str) -> bool:
    told = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
    )
    return told.stdout.strip() == version


def tested(version: str, python: str) -> bool:
    """Whether every module is imported and the quick tests pass under this Python."""
    place = ROOT / f".venv-{version}"
    own = place / "bin" / "python"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    tests = [f"tests/test_{name}.py" for name in QUICK]
    steps = [
        *([] if own.exists() else [[python, "-m", "venv", place]]),
        [*pip, "-r", "requirements.txt"],
        [*pip, "--no-deps", "--no-build-isolation", "-e", "."],
        [own, "-c", IMPORTS],
        [own, "-m", "pytest", "-q", "-n0", "-m", "not slow", *tests],
    ]
    return all(subprocess.run(step, cwd=ROOT, env=environment).returncode == 0 for step in steps)


def main() -> int:
    """Test what is there, and say what came of each version."""
    outcomes = {}
    for version in sys.argv[1:] or supported():
        python = interpreter(version)
        outcomes[version] = (
            "not on this machine" if python is None else "passed" if tested(version, python) else "failed"
        )
    for version, outcome in outcomes.items():
        print(f"Python {version}: {outcome}")
    wrong = {"failed", "not on this machine"} if sys.argv[1:] else {"failed"}
    return int(bool(wrong & set(outcomes.values())))


if __name__ == "__main__":
    sys.exit(main())
