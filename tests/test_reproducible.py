"""The same bits in every process, whatever its hash seed, and no word to anyone."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fewer

TOLERANCE = 5e-4  # of the samples' standard deviation, between micro-batches

SCRIPT = """
import hashlib, sys

told = []
OUT = ("connect", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")

def hook(event, arguments):
    if event.startswith("socket.") and event.split(".")[1] in OUT:
        told.append(event)
        raise PermissionError(event)

sys.addaudithook(hook)

import torch, fewer

torch.set_num_threads(1)
digest = hashlib.sha256()
for name in ("digits", "dit-digits"):
    model = fewer.load(name)
    x = fewer.sample(model, fewer.standard("ancestral", model, 3, "logsnr"), 3, seed=3, batch=2)
    digest.update(x.numpy().tobytes())
mixture = fewer.GaussianMixture.random((1, 2, 2), components=3, seed=0)
small = fewer.Model.from_mixture(mixture, model.schedule, name="small", hash="small")
plan = fewer.tune(small, nfe=2, trials=2, noises=8, fresh=8, out=sys.argv[1]).plan
digest.update(open(sys.argv[1] + "/plan.json", "rb").read())
assert not told, told
print(digest.hexdigest())
"""


def test_equal_bits_in_every_process_and_no_word_to_anyone(tmp_path: Path) -> None:
    """Samples with noise in their rows, a tuned plan and its file; whatever goes to a network or asks for a name raises."""

    def said(seed: int) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        environment.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / str(seed))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with ThreadPoolExecutor() as both:
        one, other = both.map(said, (1, 2))
    assert one == other
    assert len(one) == 65


@pytest.mark.parametrize("name", ["digits", "dit-digits", "mixture16"])
def test_micro_batches_differ_by_rounding_alone(name: str) -> None:
    model = fewer.load(name)
    plan = fewer.standard("dpmpp-2m", model, 5, "logsnr")
    whole = fewer.sample(model, plan, 12, batch=12)
    for batch in (1, 5, 8):
        apart = (fewer.sample(model, plan, 12, batch=batch) - whole).abs().max()
        assert float(apart) < TOLERANCE * float(whole.std())
