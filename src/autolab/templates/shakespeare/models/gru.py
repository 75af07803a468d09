"""The baseline: one layer of gated recurrent units (Cho et al. 2014, arXiv:1406.1078)."""

# ruff: noqa: F722
from __future__ import annotations

from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn

from settings import CHARACTERS


class Model(nn.Module):
    """Characters as `width` / 3 numbers each, `width` units that remember, a logit a character."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(CHARACTERS), width // 3)
        self.memory = nn.GRU(width // 3, width, batch_first=True)
        self.head = nn.Linear(width, len(CHARACTERS))

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t characters"]:
        states, _ = self.memory(self.embedding(tokens))
        return einsum(states, self.head.weight, "b t width, characters width -> b t characters") + self.head.bias
