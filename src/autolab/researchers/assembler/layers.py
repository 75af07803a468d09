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
    successors = (*config.layers[1:], None)
    for index, (layer, successor) in enumerate(zip(config.layers, successors, strict=False)):
        # A norm subtracts the bias of the layer before it, and has its own.
        bias = not isinstance(successor, Norm)
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
    output = _linear(Linear(units=config.classes), shape, bias=True)
    return (*layers, output)


def sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _place(layer: AnyLayer, shape: Shape, bias: bool) -> Placed:
    match layer:
        case Conv() | DepthwiseSeparable():
            return _convolution(layer, shape, bias)
        case Residual():
            return _residual(layer, shape)
        case Norm():
            return _norm(layer, shape)
        case Activation(kind=kind):
            return Placed(layer, kind.replace("_", " "), ACTIVATIONS[kind], shape)
        case Pool():
            return _pool(layer, shape)
        case GlobalPool():
            return _global_pool(layer, shape)
        case Flatten():
            values = prod(_maps(layer, shape))
            return Placed(layer, "flatten", 'Rearrange("b c h w -> b (c h w)")', (values,))
        case Dropout(p=p):
            return Placed(layer, f"dropout {p}", f"nn.Dropout({p})", shape)
        case Linear():
            return _linear(layer, shape, bias)


def _maps(layer: AnyLayer, shape: Shape) -> tuple[int, int, int]:
    """Channels, height and width. RecordError: the layer gets values."""
    if len(shape) == 3:
        channels, height, width = shape
        return channels, height, width
    # Values cannot become maps again, so a second flatten has no place to go.
    way = "take it out" if isinstance(layer, Flatten) else "put it before flatten and global_pool"
    raise RecordError(f"{layer.type} takes maps, and the layers before it leave {sizes(shape)} values; {way}")


def _refuse_giants(layers: list[Placed]) -> None:
    """RecordError: the last of `layers` makes the model too large."""
    # Schemas bound each field alone; their products could still fill the memory of the machine.
    last = layers[-1]
    values = prod(last.shape)
    if values > MAX_VALUES:
        raise RecordError(
            f"{last.words} makes {values:,} values of one picture, more than {MAX_VALUES:,}; "
            "take fewer channels, or a stride or a pool before it"
        )
    parameters = sum(layer.parameters for layer in layers)
    if parameters > MAX_PARAMETERS:
        raise RecordError(
            f"{last.words} has {last.parameters:,} parameters, which makes the model larger than "
            f"{MAX_PARAMETERS:,}; take fewer units or channels, or pool before it"
        )


def _convolution(layer: Conv | DepthwiseSeparable, shape: Shape, bias: bool) -> Placed:
    channels, height, width = _maps(layer, shape)
    kernel, stride = layer.kernel, layer.stride
    words = f" {layer.channels}"
    options = f"{channels}, {layer.channels}, kernel_size={kernel}"
    if kernel != 3:
        words += f" of {kernel} x {kernel}"
    if stride != 1:
        words += f" at stride {stride}"
        options += f", stride={stride}"
    if isinstance(layer, Conv):
        words, code = f"conv{words}", "nn.Conv2d"
        parameters = channels * layer.channels * kernel**2
        if kernel != 1:
            options += f", padding={kernel // 2}"
    else:
        # A filter for each channel, which never has a bias, then a convolution of kernel 1.
        words, code = f"depthwise-separable conv{words}", "DepthwiseSeparable"
        parameters = channels * kernel**2 + channels * layer.channels
    if bias:
        parameters += layer.channels
    else:
        options += ", bias=False"
    output = (layer.channels, *_output_sides(height, width, stride))
    return Placed(layer, words, f"{code}({options})", output, parameters)


def _output_sides(height: int, width: int, stride: int) -> tuple[int, int]:
    """The sides of a map after a convolution that is padded by half its kernel."""
    return (height - 1) // stride + 1, (width - 1) // stride + 1


def residual_name(layer: Residual) -> str:
    """The class of a residual block: one for each combination of convolution, norm and activation."""
    name = "Residual"
    if layer.convolution == "depthwise_separable":
        name += "Separable"
    if layer.norm != "none":
        name += layer.norm.title()
    return name + layer.activation.title().replace("_", "")


def _residual(layer: Residual, shape: Shape) -> Placed:
    channels, height, width = _maps(layer, shape)
    output = (layer.channels, *_output_sides(height, width, layer.stride))
    if layer.norm == "group":
        _refuse_small_groups(output)
    words, options = f"residual {layer.channels}", f"{channels}, {layer.channels}"
    if layer.stride != 1:
        words += f" at stride {layer.stride}"
        options += f", stride={layer.stride}"
    parameters = _residual_parameters(layer, shape, output)
    return Placed(layer, words, f"{residual_name(layer)}({options})", output, parameters)


def _residual_parameters(layer: Residual, shape: Shape, output: Shape) -> int:
    # Counted with the layers' own formula: the block is built of the same layers.
    convolution = DepthwiseSeparable if layer.convolution == "depthwise_separable" else Conv
    bias = layer.norm == "none"
    first = convolution(channels=layer.channels, stride=layer.stride)
    second = convolution(channels=layer.channels)
    parts = [_convolution(first, shape, bias), _convolution(second, output, bias)]
    # The skip can only leave the maps as they are if their shape stays: else a convolution fits them.
    if layer.stride != 1 or layer.channels != shape[0]:
        skip = Conv(channels=layer.channels, kernel=1)
        parts.append(_convolution(skip, shape, bias))
    parameters = sum(part.parameters for part in parts)
    if not bias:  # a norm after each, with a scale and a shift for each channel
        parameters += len(parts) * 2 * layer.channels
    return parameters


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
    # Batch norm is not checked: it also averages over the batch, whose size is not known here.
    values = prod(shape)
    if layer.kind == "layer" and values < MIN_NORMALISED:
        raise RecordError(f"layer norm gets {values} values, too few to normalise; use batch norm here")
    code = _norm_of_maps(layer, shape) if len(shape) == 3 else _norm_of_values(layer, shape)
    return Placed(layer, f"{layer.kind} norm", code, shape, parameters=2 * shape[0])


def _norm_of_maps(layer: Norm, shape: Shape) -> str:
    channels = shape[0]
    if layer.kind == "batch":
        return f"nn.BatchNorm2d({channels})"
    # nn.LayerNorm would have a scale for each pixel, and so would fit one size of picture only.
    if layer.kind == "layer":
        return f"nn.GroupNorm(1, {channels})"
    _refuse_small_groups(shape)
    return f"nn.GroupNorm({groups(channels)}, {channels})"


def _norm_of_values(layer: Norm, shape: Shape) -> str:
    units = shape[0]
    if layer.kind == "group":
        raise RecordError(f"group norm takes maps, and gets {units} values; use batch or layer here")
    if layer.kind == "batch":
        return f"nn.BatchNorm1d({units})"
    return f"nn.LayerNorm({units})"


def _pool(layer: Pool, shape: Shape) -> Placed:
    channels, height, width = _maps(layer, shape)
    size = layer.size
    if size > min(height, width):
        raise RecordError(
            f"pool {size} does not fit on maps of {sizes(shape)}; take it out, or pool and stride less before it"
        )
    name = "MaxPool2d" if layer.kind == "max" else "AvgPool2d"
    output = (channels, height // size, width // size)
    return Placed(layer, f"{layer.kind}-pool {size}", f"nn.{name}({size})", output)


def _global_pool(layer: GlobalPool, shape: Shape) -> Placed:
    channels, _, _ = _maps(layer, shape)
    # einops has the words max and mean.
    reduction = "mean" if layer.kind == "avg" else "max"
    return Placed(layer, f"global {layer.kind}-pool", f'Reduce("b c h w -> b c", "{reduction}")', (channels,))


def _linear(layer: Linear, shape: Shape, bias: bool) -> Placed:
    if len(shape) == 3:
        raise RecordError(f"linear takes values, and gets maps of {sizes(shape)}; put flatten or global_pool before it")
    inputs, units = shape[0], layer.units
    options, parameters = f"{inputs}, {units}", inputs * units
    if bias:
        parameters += units
    else:
        options += ", bias=False"
    return Placed(layer, f"linear {units}", f"nn.Linear({options})", (units,), parameters)
