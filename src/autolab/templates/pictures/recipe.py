"""How a model is trained: cross-entropy, AdamW, a step size that falls to 0 along half a cosine."""

# ruff: noqa: F722, F821
from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from optimiser import AdamW

LR = 0.01
WEIGHT_DECAY = 0.1


class Recipe:
    """One training of `steps` steps. `lr` is the largest step size, `noise` all that augmentation draws from."""

    def __init__(self, model: nn.Module, *, lr: float, weight_decay: float, steps: int, noise: torch.Generator) -> None:
        self._model = model
        self._lr = lr
        self._steps = steps
        self._step = 0
        self._optimiser = AdamW(model.parameters(), weight_decay=weight_decay, betas=(0.9, 0.999))

    def loss(self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, "b"]) -> Float[Tensor, ""]:
        """What is minimised: cross-entropy, nats a picture."""
        return F.cross_entropy(self._model(images), labels)

    def step(self) -> None:
        """After the backward pass: move the weights by their gradients, and drop those."""
        self._optimiser.step(self._step_size())
        self._step += 1

    def finish(self) -> None:
        """After the last step: the weights are kept as they are."""

    def _step_size(self) -> float:
        """From `lr` to 0 along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
        return self._lr * 0.5 * (1 + math.cos(math.pi * self._step / self._steps))
