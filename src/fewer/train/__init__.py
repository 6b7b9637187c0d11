"""Training of small denoisers: what the bundled models were made with."""

from fewer.train.denoiser import Trained, Training, denoising_loss, empty_label, train_denoiser

__all__ = ["Trained", "Training", "denoising_loss", "empty_label", "train_denoiser"]
