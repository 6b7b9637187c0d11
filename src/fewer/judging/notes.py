"""What a reader must know of the images that were judged, each said once with how many images it holds for."""

from __future__ import annotations

SHOWN = 3


class Notes:
    """Sentences, and the names of the images that each is about."""

    def __init__(self) -> None:
        self.about: dict[str, dict[str, None]] = {}

    def add(self, sentence: str, name: str | None = None) -> None:
        """Note that a sentence holds, for an image of this name: "images are turned", "0001.jpg"."""
        names = self.about.setdefault(sentence, {})
        if name is not None:
            names[name] = None

    def lines(self) -> list[str]:
        """`3 images are turned: 0001.jpg, 0002.jpg and 0003.jpg`."""
        return [_line(sentence, list(names)) for sentence, names in self.about.items()]


def _line(sentence: str, names: list[str]) -> str:
    if not names:
        return sentence
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{len(names):,} {sentence}: {', '.join(names[:SHOWN])}{more}"
