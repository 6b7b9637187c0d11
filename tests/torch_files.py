"""Files of torch: one that acts when it is unpickled, and a network as TorchScript."""

import warnings
from pathlib import Path

import torch
from torch import nn


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return (open, ("exploded", "w"))


class Perceptual(nn.Module):
    """Called as the VGG of StyleGAN is; its features are the images' values themselves."""

    def forward(self, x: torch.Tensor, resize_images: bool = True, return_lpips: bool = False) -> torch.Tensor:
        if resize_images or not return_lpips or x.shape[1] != 3:
            raise RuntimeError("not called for distances of images as they are")
        return x.flatten(1) / 255


def save_script(module: nn.Module, file: str | Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(file)
