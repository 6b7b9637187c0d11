"""A folder full of what commands must refuse: damaged plans, data, prompts, models, studies and results, beside good ones."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pipelines import unet
from safetensors.torch import save

import fewer

MODELS = """
import sys
import fewer, torch
from fewer.models.schedules import Flow, betas, discrete

VP = discrete(betas("scaled_linear"), name="scaled_linear")

def good():
    mixture = fewer.GaussianMixture.random((1, 4, 4), components=2, seed=0)
    return fewer.Model.from_mixture(mixture, VP, name="good", hash="good")

def labelled():
    return fewer.Model.from_denoiser(lambda x, t, y: x, VP, (1, 4, 4), labels=3, name="labelled")

def of(network):
    return fewer.Model.from_denoiser(network, VP, (1, 4, 4), name="bad")

def nan(): return of(lambda x, t, y: x * float("nan"))
def small(): return of(lambda x, t, y: x[:, :, :2])
def odd(): return fewer.Model.from_denoiser(lambda x, t, y: x, VP, (5, 4, 4), name="odd")
def raises(): raise RuntimeError("of the\\nuser")
def leaves(): sys.exit(0)
def nothing(): return None
def interrupts_nobody(): return 5
number = 5

def metric_raises(samples, reference): raise KeyError("gone")
def metric_leaves(samples, reference): sys.exit(0)
def metric_none(samples, reference): return None
def metric_nan(samples, reference): return float("nan")
def metric_turned(samples, reference): return 1.0, 2.0, 0.0
def metric_text(samples, reference): return "good"
def metric(samples, reference): return float((samples - samples.mean()).abs().mean())

def no_module(): return 5
def module_raises(): raise OSError("no weights")
"""


def make(folder: Path) -> None:
    """Fill the folder."""
    (folder / "my_models.py").write_text(MODELS)
    (folder / "raising.py").write_text("raise ValueError('while it is\\nimported')\n")
    (folder / "lacking.py").write_text("import no_such_library\n")
    (folder / "text").write_text("some text\n")
    (folder / "empty").write_bytes(b"")
    (folder / "binary").write_bytes(bytes(range(256)) * 8)
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere-link").symlink_to("not-there")
    _plans(folder)
    _data(folder)
    _prompts(folder)
    _models(folder)


def _plans(folder: Path) -> None:
    model = fewer.Model.from_denoiser(lambda x, t, y: x, fewer.load("mixture16").schedule, (1, 4, 4))
    fewer.standard("ddim", model, 3, "logsnr").save(folder / "plan.json")
    good: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    row = good["rows"][0]
    changes: dict[str, Any] = {
        "newer": {"schema": 99}, "no-schema": {"schema": None}, "true-schema": {"schema": True}, "old-schema": {"schema": -1},
        "no-rows": {"rows": []}, "rows-of-text": {"rows": ["a"]}, "rows-no-list": {"rows": 5}, "no-start": {"start": None},
        "unknown-key": {"surprise": 1}, "unknown\nkey": {"a\nb": 1}, "infinite": {"end": float("inf")},
        "nan": {"end": float("nan")},
        "negative-level": {"end": -1}, "rising": {"rows": [{**row, "tau": tau} for tau in (0.2, 0.9, 0.1)]},
        "level-of-text": {"rows": [{**row, "tau": "high"}]}, "future-output": {"rows": [{**row, "b": {"7": 1.0}}]},
        "huge": {"rows": [{**row, "b": {"0": 1e308}}] * 3}, "no-rule": {"rows": [{**row, "guidance": {"rule": "no-such"}}]},
        "leaving": {"tensors": "../plan.safetensors"}, "absolute": {"tensors": "/etc/passwd"},
        "absent": {"tensors": "absent.safetensors"},
        "pickled": {"tensors": "pickled.safetensors"}, "cut": {"tensors": "cut.safetensors"},
        "second-network": {"rows": [{**row, "network": 1}]},
        "no-block": {"rows": [{**row, "blocks": {"mid": {"weights": {"0": 1.0}}}}]}, "long-name": {"name": "n" * 5000},
        "name-no-text": {"name": 5},
    }  # fmt: skip
    for name, change in changes.items():
        (folder / f"plan-{name}.json").write_text(json.dumps(good | change))
    whole = json.dumps(good)
    for name, content in {
        "truncated": whole[:100], "list": f"[{whole}]", "number": "5", "deep": "[" * 100_000, "two": whole + whole,
        "nothing": "", "text": "not JSON at all", "null": "null",
    }.items():  # fmt: skip
        (folder / f"plan-{name}.json").write_text(content)
    (folder / "plan-binary.json").write_bytes(bytes(range(256)))
    tensors = save({"c0": torch.ones(2, 2)})
    (folder / "cut.safetensors").write_bytes(tensors[:-3])
    torch.save({"c0": torch.ones(1)}, folder / "pickled.safetensors")


def _data(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 1), np.uint8)
    np.savez(folder / "data.npz", x=images)
    np.savez(folder / "data-few.npz", x=images[:3])
    np.savez(folder / "data-none.npz", x=images[:0])
    np.savez(folder / "data-float.npz", x=images.astype(np.float32))
    np.savez(folder / "data-flat.npz", x=images[..., 0])
    np.savez(folder / "data-large.npz", x=np.zeros((16, 8, 8, 1), np.uint8))
    np.savez(folder / "data-colour.npz", x=np.zeros((16, 4, 4, 3), np.uint8))
    np.savez(folder / "data-y.npz", y=images)
    np.savez(folder / "data-pickled.npz", x=np.array([{}], dtype=object))
    (folder / "data-truncated.npz").write_bytes((folder / "data.npz").read_bytes()[:-40])
    (folder / "data-text.npz").write_text("no archive")
    (folder / "data-empty.npz").write_bytes(b"")
    good = Image.fromarray(images[0, ..., 0])
    for name in ("few", "large", "text", "cut", "deep", "hidden"):
        (folder / f"images-{name}").mkdir()
        for i in range(9):
            good.save(folder / f"images-{name}" / f"{'.' if name == 'hidden' else ''}{i}.png")
    for i in range(3, 9):
        (folder / "images-few" / f"{i}.png").unlink()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "images-large" / "9.png")
    (folder / "images-text" / "9.png").write_text("no image")
    (folder / "images-cut" / "9.jpg").write_bytes((folder / "images-cut" / "1.png").read_bytes()[:45])
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "images-deep" / "9.png")


def _prompts(folder: Path) -> None:
    (folder / "prompts-many.txt").write_text("cat\n" * 2000)
    (folder / "prompts-blank.txt").write_text("\n \n")
    (folder / "prompts-control.txt").write_text("a\x1b[31mb\n")
    (folder / "prompts-long.txt").write_text("a" * 6000)
    (folder / "prompts-latin.txt").write_bytes("é".encode("latin-1"))


def _models(folder: Path) -> None:
    """Pipeline folders, each with one fault."""
    good = folder / "model"
    unet().save_pretrained(good / "unet")
    (good / "scheduler").mkdir()
    scheduler = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000}
    (good / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))

    def faulty(name: str, file: str, content: Any) -> None:
        shutil.copytree(good, folder / f"model-{name}")
        path = folder / f"model-{name}" / file
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(json.dumps(content))

    config = json.loads((good / "unet" / "config.json").read_text())
    weights = (good / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    index = {"_class_name": "DDIMPipeline", "unet": ["diffusers", "UNet2DModel"], "safety": ["x", "Y"]}
    for name, change in {
        "class": {"_class_name": "NoSuchModel"}, "class-list": {"_class_name": ["UNet2DModel"]},
        "size": {"sample_size": "large"}, "size-negative": {"sample_size": -8}, "channels": {"in_channels": 7},
        "blocks": {"down_block_types": ["NoSuchBlock"]},
    }.items():  # fmt: skip
        faulty(name, "unet/config.json", config | change)
    for name, change in {
        "scheduler": {"_class_name": "NoSuchScheduler"}, "scheduler-os": {"_class_name": "os"},
        "betas": {"beta_schedule": "no-such"},
        "prediction": {"prediction_type": "magic"}, "times": {"num_train_timesteps": -5},
        "times-text": {"num_train_timesteps": "x"},
        "beta-order": {"beta_start": 2.0},
    }.items():  # fmt: skip
        faulty(name, "scheduler/scheduler_config.json", scheduler | change)
    for name, own in {
        "name-number": {"name": 5}, "name-control": {"name": "a\x1b[31m\nb"}, "name-long": {"name": "n" * 999},
        "range": {"data_range": [1, -1]}, "range-text": {"data_range": "wide"}, "empty-label": {"empty_label": 3},
    }.items():  # fmt: skip
        faulty(name, "fewer.json", own)
    faulty("own-list", "fewer.json", [1])
    faulty("own-text", "fewer.json", b"{")
    faulty("config-list", "unet/config.json", [config])
    faulty("config-text", "unet/config.json", b"not JSON")
    faulty("config-empty", "unet/config.json", b"")
    faulty("weights-cut", "unet/diffusion_pytorch_model.safetensors", weights[: len(weights) // 2])
    faulty("weights-empty", "unet/diffusion_pytorch_model.safetensors", b"")
    faulty("weights-other", "unet/diffusion_pytorch_model.safetensors", save({"other": torch.ones(2)}))
    faulty("scheduler-text", "scheduler/scheduler_config.json", b"[[[")
    faulty("parts", "model_index.json", index)
    faulty("index-list", "model_index.json", [1])
    faulty("no-scheduler", "scheduler/scheduler_config.json", {})
    (folder / "model-no-scheduler" / "scheduler" / "scheduler_config.json").unlink()
    shutil.copytree(good, folder / "model-pickled")
    (folder / "model-pickled" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "model-pickled" / "unet" / "diffusion_pytorch_model.bin")
    (folder / "mixture-damaged").mkdir()
    (folder / "mixture-damaged" / "mixture.safetensors").write_bytes(b"12345678")
    (folder / "mixture-damaged" / "fewer.json").write_text('{"beta_schedule": "linear"}')


def searched(folder: Path) -> None:
    """`made`, a search's folder, and others like it with one fault each."""
    good = fewer.GaussianMixture.random((1, 4, 4), components=2, seed=0)
    model = fewer.Model.from_mixture(good, fewer.load("mixture16").schedule, name="good", hash="good")
    fewer.tune(model, nfe=1, trials=1, noises=8, fresh=8, out=folder / "made")

    def faulty(name: str, change: Callable[[Path], Any]) -> None:
        shutil.copytree(folder / "made", folder / f"made-{name}")
        change(folder / f"made-{name}")

    results = json.loads((folder / "made" / "results.json").read_text())

    def results_are(change: dict[str, Any]) -> Callable[[Path], Any]:
        return lambda made: (made / "results.json").write_text(json.dumps({**results, **change}))

    for name, change in {
        "no-front": {"front": []}, "front-text": {"front": "all"}, "no-verdict": {"verdict": None}, "seed-text": {"seed": "x"},
        "plan-outside": {"front": [{**results["front"][0], "plan": "../plan.json"}]},
        "plan-absent": {"front": [{**results["front"][0], "plan": "front/99.json"}]},
        "plan-null": {"front": [{**results["front"][0], "plan": "front/\0"}]},
    }.items():  # fmt: skip
        faulty(name, results_are(change))
    faulty("cut-results", lambda made: (made / "results.json").write_text(json.dumps(results)[:300]))
    faulty("no-results", lambda made: (made / "results.json").unlink())
    faulty("no-plan", lambda made: (made / "plan.json").unlink())
    faulty("bad-plan", lambda made: (made / "plan.json").write_text("{}"))
    faulty("bad-front", lambda made: (made / "front" / "1.json").write_text("{}"))
    faulty("bad-samples", lambda made: (made / "samples.npz").write_text("no archive"))
    faulty(
        "study-text",
        lambda made: (made / "study.db").write_text("no database at all, but text that is long enough\n" * 40),
    )
    faulty("study-cut", lambda made: _cut(made / "study.db"))
    faulty("study-folder", lambda made: ((made / "study.db").unlink(), (made / "study.db").mkdir()))
    faulty("study-other", lambda made: _sql(made / "study.db", "create table mine (x)", anew=True))
    faulty("study-types", lambda made: _sql(made / "study.db", "update fewer_searches set definition = '{'"))
    faulty("study-values", lambda made: _sql(made / "study.db", "update fewer_candidates set error = 'low'"))
    faulty("study-asked", lambda made: _sql(made / "study.db", "update fewer_searches set definition = '5'"))
    faulty("study-version", lambda made: _sql(made / "study.db", "update fewer_study set version = 99"))
    faulty("study-untold", lambda made: _sql(made / "study.db", "update fewer_searches set definition = ''"))
    for name in ("report.html", "study.db", "plan.json", "samples.npz"):
        faulty(f"link-{name}", lambda made, name=name: _linked(made / name, folder / "binary"))
    faulty("link-front", lambda made: (shutil.rmtree(made / "front"), (made / "front").symlink_to(folder / "folder")))
    faulty("front-file", lambda made: (shutil.rmtree(made / "front"), (made / "front").write_text("")))
    faulty("plan-folder", lambda made: ((made / "plan.json").unlink(), (made / "plan.json").mkdir()))
    (folder / "stranger").mkdir()
    for name in ("plan.json", "report.html", ".lock", "00000.png"):
        (folder / "stranger" / name).write_text("a stranger's")
    (folder / "stranger" / ".fewer-own.part").mkdir()
    (folder / "stranger" / ".fewer-own.part" / "kept").write_text("kept")
    (folder / "hidden").mkdir()
    (folder / "hidden" / ".fewer.json").write_text('{"command": "export", "files": []}')


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _sql(path: Path, statement: str, anew: bool = False) -> None:
    if anew:
        path.unlink()
    opened = sqlite3.connect(path)
    opened.execute(statement)
    opened.commit()
    opened.close()


def _linked(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)
