"""Prompts: the conditions of a text-to-image model, each of which is a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewer.errors import InputError

LARGEST_FILE = 1 << 20
MOST = 1000
LONGEST = 5000  # characters of one prompt; far more than any text encoder takes


def read_prompts(path: str | Path, most: int = MOST) -> tuple[str, ...]:
    """The prompts of a text file in UTF-8, one a line; blank lines are left out.

    Raises InputError, which names the file, where it cannot be read, is larger than 1 MiB or no text, and for no
    prompts or more than `most`.
    """
    try:
        with Path(path).open("rb") as stream:  # which may be a pipe, of no size
            content = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # a name that holds a null character is a ValueError
        raise InputError(f"prompts {path} cannot be read: {getattr(error, 'strerror', error)}") from error
    if len(content) > LARGEST_FILE:
        raise InputError(f"prompts {path} is larger than {LARGEST_FILE >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"prompts {path} is no text in UTF-8 (byte {error.start})") from error
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return check_prompts([line for line in lines if line], f"prompts {path}", most)


def check_prompts(prompts: Any, name: str = "prompts", most: int = MOST) -> tuple[str, ...]:
    """The prompts as they are. Raises InputError for what is no list of 1 to `most` texts of printable characters."""
    if isinstance(prompts, str) or not isinstance(prompts, list | tuple):
        raise InputError(f"{name} is a {type(prompts).__name__}; expected a list of texts")
    if not 1 <= len(prompts) <= most:
        raise InputError(f"{name} holds {len(prompts)} prompts; expected 1 to {most}")
    for i, prompt in enumerate(prompts, 1):
        if not _checked(prompt, f"{name}: prompt {i}").strip():
            raise InputError(f"{name}: prompt {i} is {prompt!r:.80}; expected a text")
    return tuple(prompts)


def check_negative(prompt: Any) -> str | None:
    """The negative prompt as it is, which may be the empty text. Raises InputError for what is no printable text."""
    return None if prompt is None else _checked(prompt, "negative prompt")


def _checked(prompt: Any, name: str) -> str:
    if not isinstance(prompt, str):
        raise InputError(f"{name} is {prompt!r:.80}; expected a text")
    if len(prompt) > LONGEST:
        raise InputError(f"{name} has {len(prompt)} characters; expected at most {LONGEST}")
    if not prompt.isprintable():
        raise InputError(f"{name} holds characters that are no text: {prompt!r:.80}")
    return prompt
