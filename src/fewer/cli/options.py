"""Options that commands share, and the reading of budgets, scales and prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from fewer.cli.logs import log_to_stderr
from fewer.errors import InputError


def path_of(given: str | Path) -> Path:
    """The path that an option gives; no empty one, which would stand for the working folder."""
    text = str(given)
    if not text.strip() or "\0" in text:
        raise typer.BadParameter("it is empty" if not text.strip() else "it holds a null character")
    return Path(text)


def path_option(*names: str, metavar: str, help: str) -> Any:
    """An option whose value is the path of a file or folder."""
    return typer.Option(*names, parser=path_of, metavar=metavar, help=help)


ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder in diffusers format, bundled name, module:function, or hub id.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**53, help="Seed of the starting noises.")]
Device = Annotated[str, typer.Option(help="Where the network runs, such as cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="What the network runs in: float32, float16 or bfloat16.")]
Batch = Annotated[int | None, typer.Option(min=1, max=100_000, help="Samples per network call (default 64).")]
EmptyLabel = Annotated[
    int | None, typer.Option(help="The label trained as 'no class', for guidance, where the folder does not say.")
]
IMAGES = "folder of images, .npz with x (N, H, W, C) uint8, or what fewer sample writes: samples.npz, samples.npy"
SCALE = "Scale of classifier-free guidance, or what a network takes as its input for it"
Guidance = Annotated[str | None, typer.Option(metavar="SCALE", help=f"{SCALE}.")]
GuidanceOrAuto = Annotated[
    str | None,
    typer.Option(
        metavar="SCALE|auto",
        help=f"{SCALE}; auto: the one whose samples are nearest to --data, by --metric or else the Frechet distance.",
    ),
]
Prompts = Annotated[
    Path | None,
    path_option(metavar="FILE", help="Prompts of a text-to-image model: a text file, one a line; label k is prompt k."),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An argument of the call of a folder's pipeline, and of that of --with, such as height=768 or guidance_scale=7.5; "
        "repeatable.",
    ),
]
NegativePrompt = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="What the guidance of a text-to-image model leads away from (default: what its pipeline takes).",
    ),
]
Data = Annotated[
    Path | None,
    path_option(metavar="PATH", help=f"Images: {IMAGES}."),
]
Features = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="What distances to data are on: pixels, pca-N, random-N, digits, inception@FILE, dino@FOLDER, "
        "module:function[@FILE.safetensors], or a TorchScript file, whose code is run (default pca-16, or fewer).",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        metavar="module:function",
        help="Your own figure: function(samples, reference) -> number or (value, low, high); or lpips@FILE, of pairs.",
    ),
]
With = Annotated[
    str | None,
    typer.Option(
        "--with", metavar="OTHER", help="A second model, which rows of a plan may call in place of the first."
    ),
]
Verbose = Annotated[
    int, typer.Option("-v", "--verbose", count=True, help="Say on stderr what is being done; -vv in detail.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what it would take (evaluations, time here, memory) and write; do and write nothing."
    ),
]
JsonFile = Annotated[
    Path | None,
    path_option("--json", metavar="FILE", help="Write JSON there; - for stdout alone."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Write into the out folder whatever it holds: files of the same names are replaced."),
]

Sigmas = Annotated[
    str | None,
    typer.Option(
        metavar="LIST", help="Noise levels between commas, falling, the last 0: sigma / alpha, of a flow tau (1 .. 0)."
    ),
]
Solver = Annotated[
    str | None,
    typer.Option(
        metavar="SOLVER",
        help="What goes over the --sigmas: a solver of `fewer methods` or a sampler of k-diffusion (default euler).",
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="OPERATOR",
        help="What measurements see of a sample: inpaint (mask=FILE or share=0.5), super-resolution (factor=2), deblur (width=1), "
        "compressed-sensing (share=0.25), denoise, or module:function; settings after commas: inpaint,mask=known.png.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="With --task: how posteriors are sampled; a method of `fewer methods --room tasks`, such as mmps or dps (fewer tune "
        "searches the two nearest of all by default)."
    ),
]
Noise = Annotated[
    float | None,
    typer.Option(help="With --task: standard deviation of the measurement's noise, in the data's unit (default 0.05)."),
]
Margin = Annotated[float, typer.Option(help="Share by which 'not worse' may be worse.")]

MOST = 10_000
MOST_SAMPLES = 100_000  # a command; their files have five digits


@dataclass(frozen=True)
class Network:
    """The model of a command, and how it runs."""

    model: ModelName
    prompts: Prompts = None
    values: Values = None
    seed: Seed = 0
    device: Device = "cpu"
    dtype: Dtype = None
    batch: Batch = None
    empty_label: EmptyLabel = None
    verbose: Verbose = 0

    def __post_init__(self) -> None:
        if self.verbose:
            log_to_stderr(self.verbose)


@dataclass(frozen=True)
class Prompted(Network):
    """The model of a command that samples: also with a negative prompt."""

    negative_prompt: NegativePrompt = None


@dataclass(frozen=True)
class Guided(Prompted):
    """The model of a command whose plans may also call a second network."""

    other: With = None


@dataclass(frozen=True)
class Figures:
    """Distances beside the paired RMSE, and the margin of verdicts."""

    data: Data = None
    features: Features = None
    metric: Metric = None
    margin: Margin = 0.05


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of its dataclass parameters as options of its own, after the others."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    shared = {name: get_type_hints(kind, include_extras=True) for name, kind in groups.items()}

    @wraps(command)
    def run(**given: Any) -> None:
        options: dict[str, Any] = {
            name: kind(**{key: given.pop(key) for key in shared[name]}) for name, kind in groups.items()
        }  # fmt: skip
        command(**options, **given)

    own = [each.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[each.name])
           for each in signature(command).parameters.values() if each.name not in groups]  # fmt: skip
    for name, kind in groups.items():
        defaults = signature(kind).parameters
        own += [
            defaults[key].replace(kind=Parameter.KEYWORD_ONLY, annotation=hint) for key, hint in shared[name].items()
        ]
    own.sort(key=lambda each: each.annotation is not ModelName)  # MODEL is the first argument of every command
    run.__signature__ = signature(command).replace(parameters=own)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in own}
    return run


class Format(StrEnum):
    """Kinds of files that samples are written to."""

    PNG = "png"
    NPZ = "npz"
    NPY = "npy"


SampleFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="Pictures (the default for images), samples.npz with x, labels, seed and range, or samples.npy: x.",
    ),
]


def examples(*lines: str) -> str:
    """The end of a command's help: lines that can be typed as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def budgets(text: str) -> list[int]:
    """The numbers of `5`, `5,10` or `4-8`. Raises InputError for anything else, and below 1."""
    found: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", word)
        if match is None:
            raise InputError(f"nfe is {text!r}; expected whole numbers such as 5, 5,10 or 4-8")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high:
            raise InputError(f"nfe is {text!r}, which falls; expected the lower number first, such as {high}-{low}")
        if not 1 <= low <= high <= MOST:
            raise InputError(f"nfe is {text!r}; expected numbers of network evaluations from 1 to {MOST}")
        found += range(low, high + 1)
    return sorted(set(found))


def amounts(name: str, text: str | None) -> list[float] | None:
    """The numbers of `1.5e9` or `1e9,2e9`. Raises InputError, which names the option, for what is no positive number."""
    if text is None:
        return None
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number < float("inf") for number in found):
        raise InputError(f"--{name} is {text!r}; expected positive numbers such as 1.5e9 or 10,20")
    return found


def shares(name: str, text: str | None) -> list[float] | None:
    """The numbers of `0.1` or `0.1,0,0.3`. Raises InputError, which names the option, for what is no number from 0 to 1."""
    if text is None:
        return None
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= number <= 1 for number in found):
        raise InputError(f"--{name} is {text!r:.80}; expected shares from 0 to 1, such as 0.1 or 0.2,0.1,0")
    return found


def scale(text: str | None) -> float | None:
    """A guidance scale. Raises InputError where it is no finite number."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1e6 < value < 1e6:
        raise InputError(f"guidance is {text!r}; expected a finite scale such as 4")
    return value


def scale_or_auto(text: str | None, data: Path | None) -> float | Literal["auto"] | None:
    """A guidance scale, or "auto", which needs data. Raises InputError for anything else."""
    if text != "auto":
        return scale(text)
    if data is None:
        raise InputError("--guidance auto searches the scale whose samples are nearest to data: give --data too")
    return "auto"


def sigma_lists(texts: Sequence[str], solver: str | None) -> list[tuple[float, ...]]:
    """The lists of --sigmas. Raises InputError for what is no list of noise levels, and for a solver without any list."""
    if not texts and solver is not None:
        raise InputError("--solver goes over --sigmas: give those too")
    if not texts:
        return []
    from fewer.sigmas import read_sigmas

    return [read_sigmas(text) for text in texts]


def words(text: str | None) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in text.split(",")] if text else []


def prompts_of(file: Path | None, text: str | None = None) -> Sequence[str] | None:
    """The prompts of a file, or the one text; None for neither. Raises InputError for both."""
    if file is not None and text is not None:
        raise InputError("--prompt and --prompts are both given; expected one of them")
    if file is None:
        return None if text is None else [text]
    from fewer.models.pipelines.prompts import read_prompts

    return read_prompts(file)


def writable(path: Path | None, keys: Sequence[str] = ()) -> Path | None:
    """The path itself, when a file of JSON could be written there; InputError before any work is done where not.

    keys  of the object, or of each object in the list, that the command writes: what is there already is an earlier run's
    """
    if path is None or str(path) == "-":
        return path
    if _filled(path) and not _holds(path, set(keys)):
        raise InputError(f"{path} holds something else than what this command writes: give another file, or remove it")
    return path


def page(path: Path | None) -> None:
    """InputError, before any work is done, where no HTML page could be written there, or something else would be replaced."""
    if path is not None and _filled(path) and not _is_page(path):
        raise InputError(f"{path} holds something else than a page: give another file, or remove it")


def _filled(path: Path) -> bool:
    """Whether a file with content is there. Raises InputError where none could be written."""
    from fewer.outfolder import check_writable

    check_writable(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} cannot be written: it is {'a folder' if path.is_dir() else 'no regular file'}")
    return path.exists() and path.stat().st_size > 0


def _is_page(path: Path) -> bool:
    """Whether a file begins as an HTML page does."""
    with path.open("rb") as file:
        return file.read(64).lower().lstrip().startswith((b"<!doctype html", b"<html"))


def _holds(path: Path, keys: set[str]) -> bool:
    """Whether a file holds JSON: an object with these keys, or a list of such."""
    from fewer.files import LARGEST_JSON, read_bytes

    try:
        content = json.loads(read_bytes(path, str(path), LARGEST_JSON))
    except (ValueError, RecursionError):  # an InputError is a ValueError
        return False
    return all(
        isinstance(each, dict) and keys <= each.keys() for each in (content if isinstance(content, list) else [content])
    )
