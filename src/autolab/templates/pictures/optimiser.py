"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) in plain tensor operations.

Not `torch.optim.AdamW`: constructing that one imports torch's compiler, which costs as much as the whole training here.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class AdamW:
    """Decoupled weight decay on matrices and kernels, none on biases and other vectors."""

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float, betas: tuple[float, float]) -> None:
        self._parameters = list(parameters)
        self._decay = weight_decay
        self._betas = betas
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move by the gradients, then drop them."""
        self._steps += 1
        fast, slow = self._betas
        size = lr / (1 - fast**self._steps)
        bias = (1 - slow**self._steps) ** 0.5
        for p, first, second in zip(self._parameters, self._first, self._second, strict=True):
            if p.grad is None:
                raise RuntimeError("a parameter got no gradient: it takes no part in the loss")
            first.lerp_(p.grad, 1 - fast)
            second.mul_(slow).addcmul_(p.grad, p.grad, value=1 - slow)
            if p.ndim > 1:
                p.mul_(1 - lr * self._decay)
            p.addcdiv_(first, (second.sqrt() / bias).add_(1e-8), value=-size)
            p.grad = None
