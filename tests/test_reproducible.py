"""The same bits in every process, whatever its hash seed, no word to anyone, and no import that is not needed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fewer

TOLERANCE = 5e-4  # of the samples' standard deviation, between micro-batches

SCRIPT = """
import gc
import sys

gc.disable()  # which looks through what imports make for a second

told = []
OUT = ("connect", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")

def hook(event, arguments):
    if event.startswith("socket.") and event.split(".")[1] in OUT:
        told.append(event)
        raise PermissionError(event)

sys.addaudithook(hook)

from pathlib import Path
from few_standards import keep_few
from test_reproducible import sampled, tuned

keep_few()
plan = tuned(Path(sys.argv[1]))
assert not {"diffusers", "torch._dynamo"} & set(sys.modules)
print(plan, sampled())
assert not told, told
"""


def tuned(out: Path) -> str:
    """The digest of a tuned plan's file."""
    mixture = fewer.GaussianMixture.random((1, 2, 2), components=3, seed=0)
    small = fewer.Model.from_mixture(mixture, fewer.load("mixture16").schedule, name="small", hash="small")
    fewer.tune(small, nfe=2, evaluations=2000, trials=2, noises=8, fresh=8, out=out)
    return hashlib.sha256((out / "plan.json").read_bytes()).hexdigest()


def sampled() -> str:
    """The digest of networks' samples with noise in their rows."""
    found = hashlib.sha256()
    for name in ("digits", "dit-digits"):
        model = fewer.load(name)
        x = fewer.sample(model, fewer.standard("ancestral", model, 3, "logsnr"), 3, seed=3, batch=2)
        found.update(x.numpy().tobytes())
    return found.hexdigest()


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("few_standards", "one_thread")
def test_equal_bits_in_every_process_no_word_to_anyone_and_no_import_of_pipelines_for_none(tmp_path: Path) -> None:
    """In this process and in a new one of another hash seed, where whatever goes to a network or asks for a name raises.

    A model without a pipeline is tuned there without diffusers and torch's compiler, whose imports would take as long.
    """
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "there")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [tuned(tmp_path / "here"), sampled()]


@pytest.mark.parametrize("name", ["digits", "dit-digits", "mixture16"])
def test_micro_batches_differ_by_rounding_alone(name: str) -> None:
    model = fewer.load(name)
    plan = fewer.standard("dpmpp-2m", model, 5, "logsnr")
    whole = fewer.sample(model, plan, 12, batch=12)
    for batch in (1, 5, 8):
        apart = (fewer.sample(model, plan, 12, batch=batch) - whole).abs().max()
        assert float(apart) < TOLERANCE * float(whole.std())
