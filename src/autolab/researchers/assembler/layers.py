"""Layers in their places: the shape of each one's output, its parameters, the code that builds it.

A shape is `(channels, height, width)` for maps, or `(n,)` for values. All of it is known before anything runs: a layer
that does not fit is a RecordError of one line that names the layer and the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod

from autolab.errors import RecordError
from autolab.lab.schemas.method import (
    Activation,
    AnyLayer,
    Conv,
    DepthwiseSeparable,
    Dropout,
    Flatten,
    GlobalPool,
    Linear,
    ModelConfig,
    Norm,
    Pool,
    Residual,
)

Shape = tuple[int, ...]

MAX_PARAMETERS = 50_000_000
MAX_VALUES = 4_000_000
"""Output values of one layer for one picture."""
MIN_NORMALISED = 4
"""Fewer values than these are nearly the same once they are normalised."""

ACTIVATIONS = {
    "relu": "nn.ReLU()",
    "gelu": "nn.GELU()",
    "silu": "nn.SiLU()",
    "leaky_relu": "nn.LeakyReLU()",
    "mish": "nn.Mish()",
    "elu": "nn.ELU()",
}


@dataclass(frozen=True)
class Placed:
    """One layer in its place: `words` name it for a reader, `code` builds it, `shape` is that of its output."""

    layer: AnyLayer
    words: str
    code: str
    shape: Shape
    parameters: int = 0


def place(config: ModelConfig) -> tuple[Placed, ...]:
    """Every layer of `config`, and after them the linear layer to the classes. RecordError: a layer does not fit."""
    shape: Shape = config.input
    layers: list[Placed] = []
    for index, layer in enumerate(config.layers):
        # A norm subtracts the bias of the layer before it, and has its own.
        bias = not any(isinstance(following, Norm) for following in config.layers[index + 1 : index + 2])
        try:
            layers.append(_place(layer, shape, bias))
            _refuse_giants(layers)
        except RecordError as error:
            raise RecordError(f"model_config: layers.{index}: {error}") from None
        shape = layers[-1].shape
    # Which of flatten and global_pool is meant is the researcher's choice, so neither is added silently.
    if len(shape) == 3:
        raise RecordError(
            f"model_config: layers: they end in maps of {sizes(shape)}, the last linear layer takes values; "
            "end with flatten or global_pool"
        )
    return (*layers, _linear(Linear(units=config.classes), shape, True))


def sizes(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape)


def _place(layer: AnyLayer, shape: Shape, bias: bool) -> Placed:
    match layer:
        case Conv() | DepthwiseSeparable():
            return _convolution(layer, shape, bias)
        case Residual():
            return _residual(layer, shape)
        case Norm():
            return _norm(layer, shape)
        case Activation():
            return Placed(layer, layer.kind.replace("_", " "), ACTIVATIONS[layer.kind], shape)
        case Pool():
            return _pool(layer, shape)
        case GlobalPool():
            channels, _, _ = _maps(layer, shape)
            reduction = "mean" if layer.kind == "avg" else "max"
            return Placed(layer, f"global {layer.kind}-pool", f'Reduce("b c h w -> b c", "{reduction}")', (channels,))
        case Flatten():
            return Placed(layer, "flatten", 'Rearrange("b c h w -> b (c h w)")', (prod(_maps(layer, shape)),))
        case Dropout():
            return Placed(layer, f"dropout {layer.p}", f"nn.Dropout({layer.p})", shape)
        case Linear():
            return _linear(layer, shape, bias)


def _maps(layer: AnyLayer, shape: Shape) -> tuple[int, int, int]:
    """Channels, height and width. RecordError: the layer gets values."""
    if len(shape) != 3:
        way = "take it out" if isinstance(layer, Flatten) else "put it before flatten and global_pool"
        raise RecordError(f"{layer.type} takes maps, and the layers before it leave {sizes(shape)} values; {way}")
    channels, height, width = shape
    return channels, height, width


def _refuse_giants(layers: list[Placed]) -> None:
    """RecordError: the last of `layers` makes the model too large."""
    last = layers[-1]
    if prod(last.shape) > MAX_VALUES:
        raise RecordError(
            f"{last.words} makes {prod(last.shape):,} values of one picture, more than {MAX_VALUES:,}; "
            "take fewer channels, or a stride or a pool before it"
        )
    if sum(layer.parameters for layer in layers) > MAX_PARAMETERS:
        raise RecordError(
            f"{last.words} has {last.parameters:,} parameters, which makes the model larger than "
            f"{MAX_PARAMETERS:,}; take fewer units or channels, or pool before it"
        )


def _convolution(layer: Conv | DepthwiseSeparable, shape: Shape, bias: bool) -> Placed:
    channels, height, width = _maps(layer, shape)
    options = [str(channels), str(layer.channels), f"kernel_size={layer.kernel}"]
    if layer.stride != 1:
        options.append(f"stride={layer.stride}")
    parameters = layer.channels if bias else 0
    if isinstance(layer, Conv):
        words, code = "conv", "nn.Conv2d"
        parameters += channels * layer.channels * layer.kernel**2
        if layer.kernel != 1:
            options.append(f"padding={layer.kernel // 2}")
    else:
        words, code = "depthwise-separable conv", "DepthwiseSeparable"
        parameters += channels * layer.kernel**2 + channels * layer.channels
    if not bias:
        options.append("bias=False")
    words += f" {layer.channels}"
    if layer.kernel != 3:
        words += f" of {layer.kernel} x {layer.kernel}"
    if layer.stride != 1:
        words += f" at stride {layer.stride}"
    output = (layer.channels, *_strided(height, width, layer.stride))
    return Placed(layer, words, f"{code}({', '.join(options)})", output, parameters)


def _strided(height: int, width: int, stride: int) -> tuple[int, int]:
    """The sides of a map after a convolution that is padded by half its kernel."""
    return (height - 1) // stride + 1, (width - 1) // stride + 1


def residual_name(layer: Residual) -> str:
    """The class of a residual block: one for each combination of convolution, norm and activation."""
    separable = "Separable" if layer.convolution == "depthwise_separable" else ""
    norm = layer.norm.title() if layer.norm != "none" else ""
    return f"Residual{separable}{norm}{layer.activation.title().replace('_', '')}"


def _residual(layer: Residual, shape: Shape) -> Placed:
    channels, height, width = _maps(layer, shape)
    output = (layer.channels, *_strided(height, width, layer.stride))
    if layer.norm == "group":
        _refuse_small_groups(output)
    convolution = DepthwiseSeparable if layer.convolution == "depthwise_separable" else Conv
    bias = layer.norm == "none"
    # Counted with the layers' own formula: the block is built of the same layers.
    parts = [
        _convolution(convolution(channels=layer.channels, stride=layer.stride), shape, bias),
        _convolution(convolution(channels=layer.channels), output, bias),
    ]
    if layer.stride != 1 or channels != layer.channels:
        parts.append(_convolution(Conv(channels=layer.channels, kernel=1), shape, bias))
    parameters = sum(part.parameters for part in parts)
    if not bias:  # a norm after each, with a scale and a shift for each channel
        parameters += len(parts) * 2 * layer.channels
    words, options = f"residual {layer.channels}", f"{channels}, {layer.channels}"
    if layer.stride != 1:
        words += f" at stride {layer.stride}"
        options += f", stride={layer.stride}"
    return Placed(layer, words, f"{residual_name(layer)}({options})", output, parameters)


def groups(channels: int) -> int:
    """Groups of a group norm: eight, or as many of eight as divide the channels."""
    return gcd(8, channels)


def _refuse_small_groups(shape: Shape) -> None:
    values = prod(shape) // groups(shape[0])
    if values < MIN_NORMALISED:
        raise RecordError(
            f"group norm of maps of {sizes(shape)} takes {values} values at a time, too few to normalise; "
            "use batch norm here, or pool and stride less before it"
        )


def _norm(layer: Norm, shape: Shape) -> Placed:
    if layer.kind == "layer" and prod(shape) < MIN_NORMALISED:
        raise RecordError(f"layer norm gets {prod(shape)} values, too few to normalise; use batch norm here")
    code = _norm_of_maps(layer, shape) if len(shape) == 3 else _norm_of_values(layer, shape)
    return Placed(layer, f"{layer.kind} norm", code, shape, 2 * shape[0])


def _norm_of_maps(layer: Norm, shape: Shape) -> str:
    if layer.kind == "batch":
        return f"nn.BatchNorm2d({shape[0]})"
    if layer.kind == "layer":
        return f"nn.GroupNorm(1, {shape[0]})"
    _refuse_small_groups(shape)
    return f"nn.GroupNorm({groups(shape[0])}, {shape[0]})"


def _norm_of_values(layer: Norm, shape: Shape) -> str:
    if layer.kind == "group":
        raise RecordError(f"group norm takes maps, and gets {sizes(shape)} values; use batch or layer here")
    return f"nn.BatchNorm1d({shape[0]})" if layer.kind == "batch" else f"nn.LayerNorm({shape[0]})"


def _pool(layer: Pool, shape: Shape) -> Placed:
    channels, height, width = _maps(layer, shape)
    if layer.size > min(height, width):
        raise RecordError(
            f"pool {layer.size} does not fit on maps of {sizes(shape)}; take it out, or pool and stride less before it"
        )
    name = "MaxPool2d" if layer.kind == "max" else "AvgPool2d"
    output = (channels, height // layer.size, width // layer.size)
    return Placed(layer, f"{layer.kind}-pool {layer.size}", f"nn.{name}({layer.size})", output)


def _linear(layer: Linear, shape: Shape, bias: bool) -> Placed:
    if len(shape) == 3:
        raise RecordError(f"linear takes values, and gets maps of {sizes(shape)}; put flatten or global_pool before it")
    options, parameters = f"{shape[0]}, {layer.units}", shape[0] * layer.units
    if bias:
        parameters += layer.units
    else:
        options += ", bias=False"
    return Placed(layer, f"linear {layer.units}", f"nn.Linear({options})", (layer.units,), parameters)
