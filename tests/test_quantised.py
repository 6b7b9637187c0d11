"""Weights on grids: how far they move, what they take in a file, and networks that are saved with them and loaded again."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import folder
from torch import Tensor, nn

import fewer
from fewer import InputError
from fewer.blocks.find import network_of
from fewer.cli.main import run
from fewer.compression.cut import cut, narrowing
from fewer.compression.folder import write_network
from fewer.compression.quantise.quantise import quantised
from fewer.compression.quantise.states import states_of
from fewer.compression.subject import with_network
from fewer.compression.units import find_units
from fewer.models import bundled
from fewer.models.quantised import file
from fewer.models.quantised.grid import Codes, Format, Grid
from fewer.models.quantised.inputs import InputGrid
from fewer.models.quantised.network import Quantised, file_bits, layers_of
from fewer.models.quantised.packing import packed, unpacked
from fewer.testing.models import unet

KINDS = ("symmetric", "asymmetric", "half-step")


@st.composite
def formats(draw: st.DrawFn) -> Format:
    kind = draw(st.sampled_from(KINDS))
    bits = draw(st.integers(2 if kind == "symmetric" else 1, 8))
    per = draw(st.sampled_from(("channel", "tensor")))
    return Format(bits, kind, per, draw(st.one_of(st.none(), st.integers(1, 9))) if per == "channel" else None)


@st.composite
def weights(draw: st.DrawFn) -> Tensor:
    rows, columns, seed = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(0, 999))
    scale, shift = 10.0 ** draw(st.integers(-6, 4)), draw(st.sampled_from((0.0, 1.0, -3.0)))
    return scale * (torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) + shift)


@settings(deadline=None)
@given(weights(), formats())
def test_no_weight_moves_by_more_than_half_a_step(w: Tensor, how: Format) -> None:
    codes = Codes.nearest(w, how)
    step = codes.grid.by_column(codes.grid.scale).double()
    assert bool(((codes.weight.double() - w.double()).abs() <= step * (0.5 + 1e-4)).all())


@settings(deadline=None)
@given(weights(), formats())
def test_values_of_the_grid_stay_where_they_are(w: Tensor, how: Format) -> None:
    grid = Grid.of(w, how)
    once = grid.nearest(w)
    assert torch.equal(grid.nearest(once), once)


@settings(deadline=None)
@given(weights(), formats())
def test_codes_come_back_from_their_bytes(w: Tensor, how: Format) -> None:
    codes = Codes.nearest(w, how)
    content = packed(codes.codes, codes.grid)
    assert torch.equal(unpacked(content, len(w), codes.grid), codes.codes)
    stored = 24 if how.kind == "asymmetric" else 16
    assert codes.size == 8 * len(content) + stored * codes.grid.scale.numel()
    assert float(codes.codes.max()) < 2**how.bits


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(1, 8))
def test_inputs_within_their_range_move_by_half_a_step_at_most(a: float, b: float, bits: int) -> None:
    low, high = min(a, b), max(a, b)
    grid = InputGrid.over(low, high, bits)
    x = torch.linspace(low, high, 101)
    assert grid.scale is not None
    assert float((grid(x, ()) - x).abs().max()) <= grid.scale * 0.5001 + 1e-6


def test_a_token_has_a_grid_of_its_own() -> None:
    x = torch.tensor([[0.001, -0.002, 0.003], [100.0, -200.0, 300.0]])
    assert torch.allclose(InputGrid(8)(x, (-1,)), x, rtol=0.01)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Format(9), "bits are 9"),
        (lambda: Format(0, "half-step"), "bits are 0"),
        (lambda: Format(1), "bits are 1"),
        (lambda: Format(True, "half-step"), "bits are True"),
        (lambda: Format(4, "linear"), "kind of grid is 'linear'"),  # type: ignore[arg-type]
        (lambda: Format(4, group=0), "group is 0"),
        (lambda: Format(4, per="row"), "scales are per 'row'"),  # type: ignore[arg-type]
        (lambda: Format(4, per="tensor", group=8), "group is 8"),
        (lambda: Grid.of(torch.tensor([[math.nan, 1.0]]), Format(4)), "finite"),
        (lambda: Grid.of(torch.tensor([[1e9, 1.0]]), Format(2)), "finite"),
    ],
)  # fmt: skip
def test_formats_that_there_are_not(make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()  # type: ignore[operator]


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def test_a_weight_of_two_layers_is_quantised_and_stored_once(tmp_path: Path) -> None:
    network = Tied()
    assert layers_of(network) == {"first.weight": ("first", "second")}
    made = Quantised({"first.weight": Codes.nearest(network.first.weight, Format(4))})
    lighter = made.network(network)
    assert isinstance(lighter, Tied)
    assert lighter.second.weight is lighter.first.weight
    file.write(tmp_path / file.NAME, lighter, made)
    assert _tensor_bits(tmp_path / file.NAME) == file_bits(lighter, made.sizes)
    again = Tied()
    file.fill(again, tmp_path / file.NAME)
    x = torch.randn(3, 6)
    assert torch.equal(again(x), lighter(x))


def _tensor_bits(path: Path) -> int:
    """Bits of a safetensors file behind its header."""
    content = path.read_bytes()
    return 8 * (len(content) - 8 - int.from_bytes(content[:8], "little"))


@pytest.fixture(scope="module")
def digits() -> fewer.Model:
    return fewer.load("digits")


FEW = {"levels": 2, "each": 2}


@pytest.mark.parametrize(
    "how", [{"bits": 8, "inputs": 8}, {"bits": 3, "kind": "asymmetric", "group": 7}, {"bits": {"": 8, "mid_block": 4}}]
)
def test_a_saved_model_is_loaded_as_it_was(digits: fewer.Model, how: dict[str, object], tmp_path: Path) -> None:
    made = quantised(digits, **how, states=states_of(digits, **FEW))  # type: ignore[arg-type]
    made.save(tmp_path / "light", bundled.folder("digits"))
    assert _tensor_bits(tmp_path / "light" / "unet" / file.NAME) == made.bits
    again = fewer.load(tmp_path / "light")
    plan = fewer.standard("ddim", digits, 2)
    assert torch.equal(fewer.sample(again, plan, 4), fewer.sample(made.model, plan, 4))
    assert again.hash not in ("", digits.hash)
    assert made.share < 0.26


def test_the_model_itself_is_left_as_it_was(digits: fewer.Model) -> None:
    before = {name: tensor.clone() for name, tensor in network_of(digits).state_dict().items()}
    made = quantised(digits, 2, inputs=4, states=states_of(digits, **FEW))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network_of(digits).state_dict().items())
    assert made.model.hash != digits.hash
    plan = fewer.standard("ddim", digits, 2)
    assert not torch.equal(fewer.sample(made.model, plan, 4), fewer.sample(digits, plan, 4))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"bits": 9}, "bits are 9"),
        ({"bits": "few"}, "bits are 'few'"),
        ({"bits": "mixed"}, "size is None"),
        ({"bits": 8, "size": 0.3}, "size is 0.3"),
        ({"bits": "mixed", "size": 1.5}, "size is 1.5"),
        ({"bits": "mixed", "size": 0.001}, "takes"),
        ({"bits": {"no_block": 4}}, "no weight whose name begins with 'no_block'"),
        ({"bits": 8, "skip": ("nowhere",)}, "no weight whose name begins with 'nowhere'"),
        ({"bits": 8, "skip": ("",)}, "no linear layer and no convolution"),
        ({"bits": 8, "inputs": 12}, "bits are 12"),
        ({"bits": 8, "inputs": 8, "inputs_per": "row"}, "per 'row'"),
        ({"bits": 8, "rounding": "nowhere"}, "nowhere"),
        ({"bits": 8, "data": torch.zeros(16, 3, 8, 8), "labels": [0] * 16}, r"\(16, 3, 8, 8\)"),
        ({"bits": 8, "data": torch.zeros(3, 1, 8, 8), "labels": [0] * 3}, "at least 16"),
        ({"bits": 8, "data": torch.full((16, 1, 8, 8), math.nan), "labels": [0] * 16}, "not finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_quantised_is_refused_in_a_line(digits: fewer.Model, how: dict[str, object], said: str) -> None:
    few = {} if "data" in how else {"states": states_of(digits, 1, 1)}
    with pytest.raises(InputError, match=said):
        quantised(digits, **how, **few)  # type: ignore[arg-type]


def test_a_function_has_no_layers() -> None:
    with pytest.raises(InputError, match=r"torch\.nn\.Module"):
        quantised(fewer.load("mixture16"), 8)


def test_a_network_that_does_not_call_what_would_be_replaced_is_refused() -> None:
    layer = nn.Linear(4, 4)

    class Elsewhere:
        module = layer

        def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            return layer(x)

    model = fewer.Model.from_denoiser(Elsewhere(), fewer.load("digits").schedule, (1, 4, 4))
    with pytest.raises(InputError, match="does not call its attribute `module`"):
        quantised(model, 8, states=states_of(model, 1, 1))
    with pytest.raises(InputError, match="does not call its attribute `module`"):
        fewer.compress(model, macs=0.5)


def test_a_folder_with_something_in_it_is_not_written_over(digits: fewer.Model, tmp_path: Path) -> None:
    made = quantised(digits, 8, states=states_of(digits, 1, 1))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text("mine")
    with pytest.raises(InputError, match="own"):
        made.save(tmp_path / "own", bundled.folder("digits"))
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize("damage", ["cut", "header", "shape", "bits", "both"])
def test_damaged_files_are_refused(digits: fewer.Model, damage: str, tmp_path: Path) -> None:
    made = quantised(digits, 4, states=states_of(digits, 1, 1))
    made.save(tmp_path / "light", bundled.folder("digits"))
    path = tmp_path / "light" / "unet" / file.NAME
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    own = json.loads(header["__metadata__"]["fewer"])
    name = next(iter(own["weights"]))
    if damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "both":
        (path.parent / "diffusion_pytorch_model.safetensors").write_bytes(content)
    else:
        if damage == "header":
            del header["__metadata__"]
        elif damage == "shape":
            own["weights"][name]["shape"][0] += 1
            header["__metadata__"]["fewer"] = json.dumps(own)
        else:
            own["weights"][name]["bits"] = 5
            header["__metadata__"]["fewer"] = json.dumps(own)
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(InputError, match=r"quantised\.safetensors"):
        fewer.load(tmp_path / "light")


def test_a_network_that_was_cut_can_be_quantised(digits: fewer.Model, tmp_path: Path) -> None:
    groups = find_units(digits)
    kept = {g.name: torch.arange(g.size // g.step // 2 * g.step or g.step) for g in groups if g.parts == 1}
    lighter = with_network(digits, cut(network_of(digits), groups, kept))
    shutil.copytree(bundled.folder("digits"), tmp_path / "cut")
    (tmp_path / "cut" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    write_network(
        lighter,
        tmp_path / "cut" / "unet",
        torch.float32,
        narrowing(groups, {name: len(some) for name, some in kept.items()}),
    )
    light = fewer.load(tmp_path / "cut")
    made = quantised(light, 8, states=states_of(light, 1, 1))
    made.save(tmp_path / "both", tmp_path / "cut")
    plan = fewer.standard("ddim", light, 2)
    assert light.parameters < digits.parameters  # type: ignore[operator]
    assert torch.equal(fewer.sample(fewer.load(tmp_path / "both"), plan, 2), fewer.sample(made.model, plan, 2))


@pytest.mark.usefixtures("short_evidence")
def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, full = tmp_path / "few", folder(tmp_path / "full", unet())
    assert run(["compress", str(full), "--bits", "4", "--group", "32", "--noises", "64", "--out", str(out)]) == 0
    evidence = json.loads((out / "evidence.json").read_text())
    assert 8 * evidence["bytes"]["light"] == _tensor_bits(out / "unet" / file.NAME) == evidence["size"]["bits"]
    assert f"{evidence['size']['share']:.4f}" in capsys.readouterr().out
    assert fewer.load(out).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bits", "9"], "--bits is '9'"),
        (["--bits", "few"], "--bits is 'few'"),
        (["--bits", "4", "--macs", "0.5"], "--bits leave all multiply-adds"),
        (["--bits", "mixed"], "size is None"),
        (["--bits", "mixed", "--size", "2"], "size is 2"),
        (["--bits", "8", "--size", "0.2"], "size is 0.2"),
        (["--bits", "4", "--rounding", "taylor"], "rounding is 'taylor'"),
        (["--rounding", "gptq"], "give --bits too"),
        (["--bits", "1", "--rounding", "reste", "--group", "4"], "reste makes one bit"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_in_a_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compress", "digits", *options, "--out", str(tmp_path / "no")]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "no").exists()
