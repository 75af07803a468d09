"""A lab's method: which model, how it is trained, what it is measured against. The input of the assembler.

Bounds are those of a lab on one machine: whatever passes here can be written down, not yet that the layers fit together
(`assembler.shapes` says that).
"""

from __future__ import annotations

import keyword
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from autolab.lab.schemas.record import Record

ActivationKind = Literal["relu", "gelu", "silu", "leaky_relu", "mish", "elu"]
NormKind = Literal["batch", "group", "layer"]
ConvolutionKind = Literal["conv", "depthwise_separable"]

Channels = Annotated[int, Field(ge=1, le=1024)]
Units = Annotated[int, Field(ge=1, le=8192)]
Stride = Annotated[int, Field(ge=1, le=4)]
Side = Annotated[int, Field(ge=1, le=256)]
Kernel = Literal[1, 3, 5, 7]
"""Odd, so that padding by its half keeps the size of a map at stride 1."""
Share = Annotated[float, Field(ge=0, le=0.5)]


def _importable(name: str) -> str:
    if keyword.iskeyword(name):
        raise ValueError("is a word of Python's own, which no module can be called")
    return name


ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$"), AfterValidator(_importable)]
"""The name of a file in `models/`."""


class Conv(Record):
    """A convolution, padded by half its kernel."""

    type: Literal["conv"] = "conv"
    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 1


class DepthwiseSeparable(Record):
    """A filter a channel, padded by half its kernel, then a 1x1 convolution over channels."""

    type: Literal["depthwise_separable"] = "depthwise_separable"
    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 1


class Residual(Record):
    """Two 3x3 convolutions and a skip round them, 1x1 where stride or channels change."""

    type: Literal["residual"] = "residual"
    channels: Channels
    stride: Stride = 1
    convolution: ConvolutionKind = "conv"
    norm: Literal["batch", "group", "none"] = "batch"
    activation: ActivationKind = "relu"


class Norm(Record):
    type: Literal["norm"] = "norm"
    kind: NormKind = "batch"


class Activation(Record):
    type: Literal["activation"] = "activation"
    kind: ActivationKind = "relu"


class Pool(Record):
    """Windows of `size` x `size` side by side; what is left at the edge is dropped."""

    type: Literal["pool"] = "pool"
    kind: Literal["max", "avg"] = "max"
    size: Annotated[int, Field(ge=2, le=16)] = 2


class GlobalPool(Record):
    """One value a channel."""

    type: Literal["global_pool"] = "global_pool"
    kind: Literal["avg", "max"] = "avg"


class Flatten(Record):
    type: Literal["flatten"] = "flatten"


class Dropout(Record):
    type: Literal["dropout"] = "dropout"
    p: Annotated[float, Field(ge=0, lt=1)]


class Linear(Record):
    type: Literal["linear"] = "linear"
    units: Units


AnyLayer = Conv | DepthwiseSeparable | Residual | Norm | Activation | Pool | GlobalPool | Flatten | Dropout | Linear
LAYER_TYPES: tuple[str, ...] = tuple(kind.model_fields["type"].default for kind in get_args(AnyLayer))


def _of_a_type(value: object) -> object:
    if isinstance(value, dict) and value.get("type") not in LAYER_TYPES:
        raise ValueError(f"type: {value.get('type')!r} is none of {', '.join(LAYER_TYPES)}")
    return value


Layer = Annotated[AnyLayer, Field(discriminator="type"), BeforeValidator(_of_a_type)]


class ModelConfig(Record):
    """A model, layer by layer. The last linear layer, to `classes` logits, is added to these."""

    name: ModelName
    input: tuple[Annotated[int, Field(ge=1, le=64)], Side, Side]
    """Channels, height and width of a picture."""
    classes: Annotated[int, Field(ge=2, le=1000)]
    initialisation: Literal["default", "kaiming", "orthogonal"] = "default"
    layers: Annotated[tuple[Layer, ...], Field(max_length=128)]


class RecipeConfig(Record):
    """How a model is trained. What is 0, false or "none" is off.

    `weight_decay` is decoupled from the gradient with every optimiser: a weight loses `lr * weight_decay` of itself a
    step, at the step size of that step. `warmup` is a share of the steps; with `one_cycle`, which rises by itself, 0
    means 0.3. `shift` and `cutout` count pixels, `noise` is a deviation in units of the model's input, `mixup` the
    parameter of a symmetric Beta distribution, `clip` the largest norm of a gradient.
    """

    optimiser: Literal["adamw", "sgd", "lion"] = "adamw"
    lr: Annotated[float, Field(gt=0, le=10)]
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    schedule: Literal["cosine", "linear", "constant", "one_cycle"] = "cosine"
    warmup: Share = 0.0
    label_smoothing: Share = 0.0
    flip: bool = False
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    cutout: Annotated[int, Field(ge=0, le=256)] = 0
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    averaging: Literal["none", "ema", "tail"] = "none"
    clip: Annotated[float, Field(ge=0, le=1000)] = 0.0

    @model_validator(mode="after")
    def _decay_leaves_something(self) -> RecipeConfig:
        if self.lr * self.weight_decay >= 1:
            raise ValueError(f"weight_decay: {self.weight_decay} at lr {self.lr} takes a whole weight away a step")
        return self


class Method(Record):
    """The lab's present model and recipe, and the models in `models/` that a new one is measured against."""

    FILE: ClassVar[str] = "method.json"

    model: ModelConfig
    recipe: RecipeConfig
    baselines: tuple[ModelName, ...] = ()

    @model_validator(mode="after")
    def _augmentation_fits_the_pictures(self) -> Method:
        side = min(self.model.input[1:])
        if self.recipe.shift >= side:
            raise ValueError(f"recipe.shift: {self.recipe.shift} pixels would move a picture of {side} out of sight")
        if self.recipe.cutout > side:
            raise ValueError(f"recipe.cutout: a square of {self.recipe.cutout} does not fit in a picture of {side}")
        return self
