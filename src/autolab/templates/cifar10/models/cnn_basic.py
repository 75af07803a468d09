"""cnn_basic: pictures of 3 x 32 x 32 to 10 logits, 545,098 parameters.

conv 32, relu, max-pool 2, conv 64, relu, max-pool 2, flatten, linear 128, relu, linear 10.
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
            nn.Conv2d(3, 32, kernel_size=3, padding=1),  # 32 x 32 x 32
            nn.ReLU(),
            nn.MaxPool2d(2),  # 32 x 16 x 16
            nn.Conv2d(32, 64, kernel_size=3, padding=1),  # 64 x 16 x 16
            nn.ReLU(),
            nn.MaxPool2d(2),  # 64 x 8 x 8
            Rearrange("b c h w -> b (c h w)"),  # 4096
            nn.Linear(4096, 128),  # 128
            nn.ReLU(),
            nn.Linear(128, 10),  # 10
        )

    def forward(self, images: Float[Tensor, "b 3 32 32"]) -> Float[Tensor, "b 10"]:
        logits: Tensor = self.layers(images)
        return logits
