"""mlp: pictures of 1 x 8 x 8 to 10 logits, 9,610 parameters.

flatten, linear 128, relu, dropout 0.3, linear 10.

Sources:
    dropout: Srivastava et al. 2014, JMLR 15
"""

# ruff: noqa: F722
from __future__ import annotations

from einops.layers.torch import Rearrange
from jaxtyping import Float
from torch import Tensor, nn


class Model(nn.Module):
    """The layers above, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Rearrange("b c h w -> b (c h w)"),  # 64
            nn.Linear(64, 128),  # 128
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(128, 10),  # 10
        )

    def forward(self, images: Float[Tensor, "b 1 8 8"]) -> Float[Tensor, "b 10"]:
        logits: Tensor = self.layers(images)
        return logits
