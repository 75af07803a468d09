"""resnet18 (He et al. 2016, arXiv:1512.03385) in its form for CIFAR: pictures of 3 x 32 x 32 to 10 logits.

A 3 x 3 stem without max-pooling, four stages of two basic blocks with `width`, 2, 4 and 8 times `width` channels, the
mean over the places, one linear layer. 64 channels are the paper's (11.2 million parameters); the 16 here have 0.7.
"""

# ruff: noqa: F722
from __future__ import annotations

from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A convolution that keeps the size (but for its stride), then batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a skip past them, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        return (self.second(self.first(maps).relu()) + self.skip(maps)).relu()


class Model(nn.Module):
    """`width` is the number of channels of the stem and the first stage."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = convolution(3, width, 3, 1)
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        stages = zip(channels, channels[1:], (1, 2, 2, 2), strict=False)
        self.stages = nn.Sequential(
            *(nn.Sequential(Block(a, b, stride), Block(b, b, 1)) for a, b, stride in stages),
        )
        self.head = nn.Linear(8 * width, 10)

    def forward(self, images: Float[Tensor, "b 3 32 32"]) -> Float[Tensor, "b 10"]:
        maps = self.stages(self.stem(images).relu())
        logits: Tensor = self.head(reduce(maps, "b c h w -> b c", "mean"))
        return logits
