"""What is no model is refused in one line that says why, and nothing in a folder is ever executed."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
from pipelines import LINEAR, bare, rewrite, unet

import fewer
from fewer.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional network beside a linear DDIM scheduler."""
    return bare(tmp_path_factory.mktemp("pipelines") / "plain", unet(), diffusers.DDIMScheduler(**LINEAR))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


class Bomb:
    """A pickle that leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def refused(model: Any, *words: str, **options: Any) -> None:
    with pytest.raises(InputError) as caught:
        fewer.load(model, **options)
    message = str(caught.value)
    assert "\n" not in message.strip()
    for word in words:
        assert word in message


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("hello")
    refused(tmp_path / "empty", "is no pipeline folder")
    refused(tmp_path / "file", "is no folder")
    refused("", "is no folder")
    refused("nothing", "'nothing' is no folder, no bundled model (", "digits")
    refused("./nothing", "'./nothing' is no folder")
    refused("a" * 5000, "File name too long")
    refused("some-owner/some-model", "is no folder here and cannot be fetched")  # the tests are offline
    for device in ("banana", "cuda:99", "meta", "", "hpu"):
        refused("mixture16", "device", device=device)
    refused("mixture16", "dtype is 'float8'", dtype="float8")
    refused("mixture16", "no classes", empty_label=1)


def test_a_pickle_is_never_loaded(copied: Path, tmp_path: Path) -> None:
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    bomb = pickle.dumps(Bomb(tmp_path / "trace"))
    weights.write_bytes(bomb)  # under the name of safetensors
    refused(copied, "cannot load UNet2DModel")
    weights.unlink()
    (copied / "unet" / "diffusion_pytorch_model.bin").write_bytes(bomb)
    refused(copied, "has no .safetensors weights, only", "never read")
    # listed as a shard beside weights that are safetensors
    unet().save_pretrained(copied / "unet", max_shard_size="20KB")
    index = copied / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    rewrite(index, weight_map=dict.fromkeys(unet().state_dict(), "diffusion_pytorch_model.bin"))
    refused(copied, "names 'diffusion_pytorch_model.bin'; expected .safetensors files beside it")
    rewrite(index, weight_map={"conv_in.weight": "../elsewhere.safetensors"})
    refused(copied, "expected .safetensors files beside it")
    assert not (tmp_path / "trace").exists()


def test_weights_must_be_those_of_the_network(copied: Path) -> None:
    config = copied / "unet" / "config.json"
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    rewrite(config, num_class_embeds=3)
    refused(copied, "lack class_embedding.weight (1)")
    rewrite(config, num_class_embeds=None, layers_per_block=0)
    refused(copied, "have more than its config.json asks for")
    rewrite(config, layers_per_block=1, block_out_channels=[16])
    refused(copied, "cannot load UNet2DModel")
    rewrite(config, block_out_channels=[8])
    for cut in (0, 7, 100, len(whole) - 1):
        weights.write_bytes(whole[:cut])
        refused(copied, "cannot load UNet2DModel")
    weights.write_bytes(whole)
    assert fewer.load(copied).shape == (1, 8, 8)


def test_configurations_without_defaults(copied: Path) -> None:
    """Entries that are left out have the network's own defaults."""
    config = copied / "unet" / "config.json"
    kept = {"_class_name", "sample_size", "block_out_channels", "layers_per_block", "norm_num_groups",
            "down_block_types", "up_block_types"}  # fmt: skip
    rewrite(config, **dict.fromkeys(json.loads(config.read_text()).keys() - kept))
    unet(channels=3).save_pretrained(copied / "three")
    shutil.copy(copied / "three" / "diffusion_pytorch_model.safetensors", copied / "unet")
    assert fewer.load(copied).shape == (3, 8, 8)
    rewrite(config, sample_size=[8, 16])
    assert fewer.load(copied).shape == (3, 8, 16)
    for size in (None, "8", 0, -8, 8.5, [8], [8, 8, 8]):
        rewrite(config, sample_size=size)
        refused(copied, "sample_size")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"_class_name": "NoSuchScheduler"}, "unknown scheduler 'NoSuchScheduler'"),
        ({"_class_name": None}, "unknown scheduler None"),
        ({"_class_name": ["DDIMScheduler"]}, "unknown scheduler"),
        ({"_class_name": "UNet2DModel"}, "unknown scheduler 'UNet2DModel'"),
        ({"_class_name": "SchedulerMixin"}, "unknown scheduler 'SchedulerMixin'"),
        ({"_class_name": "UnCLIPScheduler"}, "UnCLIPScheduler cannot be built"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "own 50 steps"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, "expected 'epsilon'"),
        ({"_class_name": "EDMEulerScheduler", "sigma_data": "half", "prediction_type": "epsilon"}, "sigma_data"),
        ({"prediction_type": "colour"}, "prediction_type is 'colour'; expected one of epsilon, sample"),
        ({"prediction_type": ["epsilon"]}, "prediction_type"),
        ({"prediction_type": 7}, "prediction_type is 7"),
        ({"beta_schedule": "zigzag"}, "zigzag"),
        ({"beta_start": "small"}, "DDIMScheduler cannot be built"),
        ({"num_train_timesteps": 0}, ""),
        ({"num_train_timesteps": 1}, ""),
        ({"num_train_timesteps": -5}, ""),
        ({"num_train_timesteps": "many"}, "DDIMScheduler cannot be built"),
        ({"trained_betas": []}, ""),
        ({"trained_betas": [0.1, 2.0]}, ""),
        ({"trained_betas": ["x"]}, "DDIMScheduler cannot be built"),
        ({"thresholding": True, "dynamic_thresholding_ratio": 1.5}, "dynamic_thresholding_ratio is 1.5"),
        ({"clip_sample_range": -1}, "clip_sample_range of the scheduler is -1"),
        ({"clip_sample_range": "wide"}, "clip_sample_range"),
        ({"timestep_spacing": "random"}, "own 50 steps"),
    ],
)
def test_hostile_schedulers(copied: Path, entries: dict[str, Any], says: str) -> None:
    rewrite(copied / "scheduler" / "scheduler_config.json", **entries)
    if entries.get("_class_name", 0) is None:
        assert "_class_name" not in json.loads((copied / "scheduler" / "scheduler_config.json").read_text())
    refused(copied, says)


def test_hostile_folders(copied: Path) -> None:
    config = copied / "unet" / "config.json"
    good = config.read_text()
    for text in ("", "{", "[]", "null", "[" * 100_000, '"unet"', "\x00\xff"):
        config.write_text(text)
        refused(copied, "config.json")
    rewrite_to = json.loads(good)
    for entries, says in (
        ({"_class_name": "UNet2DConditionModel"}, "fewer reads UNet2DModel and DiTTransformer2DModel so far"),
        ({"_class_name": ["UNet2DModel"]}, "fewer reads"),
        ({"_class_name": "AutoencoderKL"}, "fewer reads"),
        ({"block_out_channels": "many"}, "cannot load UNet2DModel"),
        ({"down_block_types": ["NoBlock"]}, "cannot load UNet2DModel"),
        ({"class_embed_type": "identity"}, "class_embed_type 'identity' is not supported"),
    ):
        config.write_text(json.dumps(rewrite_to | entries))
        refused(copied, says)
    config.write_text(good)
    (copied / "model_index.json").write_text(
        json.dumps({"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]})
    )
    refused(copied, "vqvae is missing, and model_index.json names it")
    (copied / "model_index.json").write_text(
        json.dumps({"_class_name": 3, "scheduler": ["diffusers", "DDIMScheduler"]})
    )
    assert fewer.load(copied).pipeline.steps == 50  # type: ignore[union-attr]
    (copied / "model_index.json").unlink()
    (copied / "vae").mkdir()
    refused(copied, "vae has no .safetensors weights, only nothing")
    shutil.rmtree(copied / "vae")
    shutil.rmtree(copied / "scheduler")
    refused(copied, "has no scheduler/scheduler_config.json")


def test_a_folder_of_a_mixture(tmp_path: Path) -> None:
    from fewer.models import bundled

    mine = Path(shutil.copytree(bundled.folder("mixture16"), tmp_path / "mine"))
    own = fewer.load("mixture16")
    model = fewer.load(mine)
    assert (model.name, model.hash) == ("mine", own.hash)
    (mine / "fewer.json").write_text('{"beta_schedule": "linear"}')
    assert fewer.load(mine).hash != own.hash
    for text, says in (('{"beta_schedule": "zigzag"}', "zigzag"), ("{}", "beta_schedule"), ("{", "is not JSON")):
        (mine / "fewer.json").write_text(text)
        refused(mine, says)
    (mine / "fewer.json").unlink()
    refused(mine, "cannot read")
    (mine / "fewer.json").write_text('{"beta_schedule": "linear"}')
    (mine / "mixture.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    refused(mine, "is no safetensors file of a mixture")
    assert not (tmp_path / "trace").exists()
