"""An image processor and an image encoder that have seen nothing, read as those of transformers are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fleet.texts import Tokenizer, Tokens

PATCHES = 4  # of an image


class ImageProcessor:
    """pixels = processor(images): (n, 3, 16, 16) of images or tensors of any size"""

    size: ClassVar[dict[str, int]] = {"height": 16, "width": 16, "shortest_edge": 16}
    crop_size: ClassVar[dict[str, int]] = {"height": 16, "width": 16}
    image_mean, image_std = (0.5,) * 3, (0.5,) * 3

    def __call__(self, images: Any = None, *_: Any, **__: Any) -> Tokens:
        """The pixels of images."""
        listed = list(images) if isinstance(images, list | tuple | Tensor) else [images]
        return Tokens(pixel_values=torch.stack([self._pixels(each) for each in listed]))

    preprocess = __call__

    def _pixels(self, image: Any) -> Tensor:
        if isinstance(image, Tensor):
            values = image.float()
        else:  # a picture, or its numbers
            array = (
                np.asarray(image, dtype=np.float32) if isinstance(image, np.ndarray) else np.array(image.convert("RGB"))
            )
            values = torch.from_numpy(array).float().permute(2, 0, 1) / 255
        return nn.functional.interpolate(values.reshape(1, -1, *values.shape[-2:])[:, :3], (16, 16))[0]


class Processor(Tokenizer):
    """A processor of texts and images."""

    image_processor = ImageProcessor()

    def __call__(self, text: Any = None, images: Any = None, **more: Any) -> Tokens:
        """The tokens of texts, or the pixels of images alone."""
        return ImageProcessor()(images) if text is None else super().__call__(text, **more)

    @property
    def tokenizer(self) -> Tokenizer:
        """That of its texts."""
        return self


class Sentences(Processor):
    """A processor of texts that are long, since they stand in templates."""

    def __call__(self, text: Any = None, images: Any = None, **more: Any) -> Tokens:
        """Forty tokens of each text."""
        return super().__call__(text, images, **more | {"max_length": 40})


class GridProcessor(ImageProcessor):
    """An image processor that tells the numbers of patches (times, height, width), of which merge_size^2 make a token."""

    merge_size = 1

    def __call__(self, images: Any = None, *_: Any, **__: Any) -> Tokens:
        """The pixels of an image, and its one patch."""
        return Tokens(
            pixel_values=super().__call__(images)["pixel_values"], image_grid_thw=torch.ones(1, 3, dtype=torch.long)
        )


class Viewer(Processor):
    """A processor of texts and images that tells the numbers of patches."""

    image_processor = GridProcessor()


class QueryFormer(nn.Module):
    """Embeddings of `width` of an image and the name of its subject, one for each of its four queries."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encoder = ImageEncoder(width)
        self.config = SimpleNamespace(num_query_tokens=PATCHES)

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        return self.encoder.dtype

    @property
    def device(self) -> torch.device:
        """Of the embeddings."""
        return self.encoder.device

    def forward(self, image_input: Tensor, text_input: Any = None, return_dict: bool = False) -> Tensor:
        """Embeddings (n, PATCHES, width)."""
        found: Tensor = self.encoder(image_input).last_hidden_state
        return found


class ImageEncoder(nn.Module):
    """Embeddings of `width` of pixels (n, 3, 16, 16): of the image, and of its PATCHES patches."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(0.1 * torch.randn(3, width, generator=generator), requires_grad=False)
        self.config = SimpleNamespace(
            hidden_size=width, projection_dim=width, image_size=16, patch_size=8, num_hidden_layers=2,
            vision_config=SimpleNamespace(hidden_size=width, image_size=16),
        )  # fmt: skip

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        """Of the embeddings."""
        return self.weight.device

    def forward(self, pixel_values: Tensor, *_: Any, **__: Any) -> Any:
        """The embeddings (n, width), and (n, PATCHES, width) of each layer."""
        means = nn.functional.adaptive_avg_pool2d(pixel_values.to(self.dtype), (2, PATCHES // 2))
        found = means.flatten(2).transpose(1, 2) @ self.weight
        return Encoded(
            image_embeds=found.mean(1), last_hidden_state=found, hidden_states=(found,) * 3, pooler_output=found.mean(1)
        )


class Encoded(SimpleNamespace):
    """An encoder's output, whose first entry is the image's embedding."""

    def __getitem__(self, place: int | str) -> Any:
        if isinstance(place, str):
            return getattr(self, place)
        return self.image_embeds if place == 0 else self.last_hidden_state


class Exemplars(ImageEncoder):
    """An encoder that gives an image's embedding and that of no image."""

    def forward(self, pixel_values: Tensor, *_: Any, **__: Any) -> Any:
        """Embeddings (n, 1, width) and (1, 1, width)."""
        found = super().forward(pixel_values).image_embeds[:, None]
        return found, torch.zeros_like(found[:1])
