"""The lock of a search's folder: one at a time has it, and it ends with its process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fewer.errors import InputError
from fewer.outfolder import LOCK, claimed

HOLDER = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_its_lock_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("an earlier one")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / LOCK)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(InputError, match="in use by another search"), claimed(tmp_path):
            pass
        holder.kill()
    with claimed(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_of_many_that_want_a_folder_at_once_one_has_it(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("an earlier one")  # else the folder goes with the lock
    inside: list[int] = []
    most: list[int] = []

    def take(n: int) -> bool:
        try:
            with claimed(tmp_path):
                inside.append(n)
                most.append(len(inside))
                inside.remove(n)
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        had = list(pool.map(take, range(200)))
    assert any(had)
    assert set(most) == {1}
