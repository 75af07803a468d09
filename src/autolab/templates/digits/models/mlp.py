"""The baseline: one hidden layer on the flattened picture."""

# ruff: noqa: F722
from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """64 pixels, `width` hidden units with ReLU and dropout, 10 logits."""

    def __init__(self, *, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Float[Tensor, "b 8 8"]) -> Float[Tensor, "b 10"]:
        hidden = self.hidden(rearrange(images, "b h w -> b (h w)")).relu()
        logits: Tensor = self.head(self.dropout(hidden))
        return logits
