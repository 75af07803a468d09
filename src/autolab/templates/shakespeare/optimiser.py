"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) in plain tensor operations, with gradients of bounded length.

Not `torch.optim.AdamW`: constructing that one imports torch's compiler, which costs seconds.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class AdamW:
    """Decoupled weight decay on matrices, none on biases and other vectors. `clip`: the longest gradient, 0 for any."""

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float, clip: float) -> None:
        self._parameters = list(parameters)
        self._decay = weight_decay
        self._clip = clip
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        """Move by the gradients, then drop them."""
        self._steps += 1
        fast, slow = betas
        size = lr / (1 - fast**self._steps)
        bias = (1 - slow**self._steps) ** 0.5
        scale = self._scale()
        for p, first, second in zip(self._parameters, self._first, self._second, strict=True):
            gradient = _gradient(p) * scale
            first.lerp_(gradient, 1 - fast)
            second.mul_(slow).addcmul_(gradient, gradient, value=1 - slow)
            if p.ndim > 1:
                p.mul_(1 - lr * self._decay)
            p.addcdiv_(first, (second.sqrt() / bias).add_(1e-8), value=-size)
            p.grad = None

    def _scale(self) -> float:
        """By how much all gradients together are shortened."""
        if self._clip == 0:
            return 1.0
        length = float(torch.stack([_gradient(p).norm() for p in self._parameters]).norm())
        return min(1.0, self._clip / (length + 1e-6))


def _gradient(p: Tensor) -> Tensor:
    if p.grad is None:
        raise RuntimeError("a parameter got no gradient: it takes no part in the loss")
    return p.grad
