"""The source of a model: one module `models/<name>.py` with a class `Model`, as if written by hand."""

from __future__ import annotations

from autolab.lab.schemas.method import Activation, Dropout, GlobalPool, ModelConfig, Norm, Residual
from autolab.researchers.assembler.layers import ACTIVATIONS, Placed, Shape, place, residual_name, sizes
from autolab.researchers.assembler.source import Source, block, prose

_PAPERS = {
    "gelu": "Hendrycks and Gimpel 2016, arXiv:1606.08415",
    "silu": "Elfwing, Uchibe and Doya 2018, arXiv:1702.03118",
    "leaky relu": "Maas, Hannun and Ng 2013",
    "mish": "Misra 2019, arXiv:1908.08681",
    "elu": "Clevert, Unterthiner and Hochreiter 2016, arXiv:1511.07289",
    "batch norm": "Ioffe and Szegedy 2015, arXiv:1502.03167",
    "group norm": "Wu and He 2018, arXiv:1803.08494",
    "layer norm": "Ba, Kiros and Hinton 2016, arXiv:1607.06450",
    "global pool": "Lin, Chen and Yan 2014, arXiv:1312.4400",
    "dropout": "Srivastava et al. 2014, JMLR 15",
}

_SEPARABLE = '''\
class DepthwiseSeparable(nn.Sequential):
    """A filter for each channel, then a mix of the channels at each place (Chollet 2017, arXiv:1610.02357)."""

    def __init__(self, inputs: int, outputs: int, *, kernel_size: int, stride: int = 1, bias: bool = True) -> None:
        padding = kernel_size // 2
        super().__init__(
            nn.Conv2d(inputs, inputs, kernel_size, stride=stride, padding=padding, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias),
        )


'''

_RESIDUAL = '''\
class {name}(nn.Module):
    """Two convolutions with a skip round them (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
{body}
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
{skip}
        self.activation = {activation}

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        out: Tensor = self.activation(self.body(maps) + self.skip(maps))
        return out


'''

_MODULE = '''\
"""{name}: pictures of {input} to {classes} logits, {parameters:,} parameters.

{words}
"""

# ruff: noqa: F722
from __future__ import annotations

{imports}


{blocks}class Model(nn.Module):
    """The layers above, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
{layers}
        ){initialisation}

    def forward(self, images: Float[Tensor, "b {dimensions}"]) -> Float[Tensor, "b {classes}"]:
        logits: Tensor = self.layers(images)
        return logits
'''

_INITIALISATION = {
    "default": "",
    "kaiming": """
        for layer in self.modules():  # He et al. 2015, arXiv:1502.01852
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)""",
    "orthogonal": """
        for layer in self.modules():  # Saxe, McClelland and Ganguli 2014, arXiv:1312.6120
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, gain=2**0.5)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)""",
}


def shapes(config: ModelConfig) -> tuple[Shape, ...]:
    """The output shape of each layer, last that of the linear layer to the classes. RecordError: layers do not fit."""
    return tuple(placed.shape for placed in place(config))


def parameters(config: ModelConfig) -> int:
    """The number of trainable parameters. RecordError: layers do not fit."""
    return sum(placed.parameters for placed in place(config))


def model_source(config: ModelConfig) -> Source:
    """`models/<name>.py`: equal configurations give equal bytes. RecordError: layers do not fit."""
    layers = place(config)
    modules = {layer.code.partition("(")[0] for layer in layers}
    residuals = _residuals(layers)
    text = _MODULE.format(
        name=config.name,
        input=sizes(config.input),
        classes=config.classes,
        parameters=sum(layer.parameters for layer in layers),
        words=_words(layers),
        imports="\n".join(_imports(modules, residuals)),
        blocks=_blocks(modules, residuals),
        layers=block(_lines(layers, config.input), 3),
        initialisation=_INITIALISATION[config.initialisation],
        dimensions=" ".join(map(str, config.input)),
    )
    return Source(f"models/{config.name}.py", text)


def _words(layers: tuple[Placed, ...]) -> str:
    """The layers in one sentence, and the papers that their ideas come from."""
    names = []
    papers: dict[str, str] = {}
    for layer in layers:
        names.append(layer.words)
        for idea in _ideas(layer):
            # ReLU, max-pooling and plain convolutions are textbook matter: they have no entry.
            if idea in _PAPERS:
                papers[idea] = f"{idea}: {_PAPERS[idea]}"
    sentence = ", ".join(names)
    text = prose(f"{sentence}.")
    if papers:
        text += f"\n\nSources:\n{block(papers.values(), 1)}"
    return text


def _ideas(placed: Placed) -> tuple[str, ...]:
    match placed.layer:
        case Activation(kind=kind):
            return (kind.replace("_", " "),)
        case Norm(kind=kind):
            return (f"{kind} norm",)
        # The block's own paper stands in its docstring.
        case Residual(norm=norm, activation=activation):
            return (f"{norm} norm", activation.replace("_", " "))
        case GlobalPool():
            return ("global pool",)
        case Dropout():
            return ("dropout",)
    return ()


def _residuals(layers: tuple[Placed, ...]) -> list[Residual]:
    """One residual block for each class that the model needs."""
    blocks = {}
    for placed in layers:
        if isinstance(placed.layer, Residual):
            blocks[residual_name(placed.layer)] = placed.layer
    return list(blocks.values())


def _imports(modules: set[str], residuals: list[Residual]) -> list[str]:
    einops = [name for name in ("Rearrange", "Reduce") if name in modules]
    # Every model imports one of the two: maps become values by `flatten` or `global_pool`.
    lines = [
        f"from einops.layers.torch import {', '.join(einops)}",
        "from jaxtyping import Float",
        "from torch import Tensor, nn",
    ]
    if any(layer.norm == "group" for layer in residuals):
        # Only the residual block computes its groups when it is built; other norms have theirs written out.
        lines = ["from math import gcd", "", *lines]
    return lines


def _blocks(modules: set[str], residuals: list[Residual]) -> str:
    """The classes that the model's layers need, each once, before the model."""
    separable = "DepthwiseSeparable" in modules
    separable |= any(layer.convolution == "depthwise_separable" for layer in residuals)
    # First, because a residual block may be built of it.
    blocks = _SEPARABLE if separable else ""
    return blocks + "".join(map(_residual, residuals))


_NORM_CODE = {
    "batch": ["nn.BatchNorm2d(outputs),"],
    "group": ["nn.GroupNorm(gcd(8, outputs), outputs),"],
    "none": [],
}


def _residual(layer: Residual) -> str:
    """The class of a residual block."""
    norm, activation = _NORM_CODE[layer.norm], ACTIVATIONS[layer.activation]
    bias = ", bias=False" if norm else ""
    name, padding = "nn.Conv2d", ", padding=1"
    if layer.convolution == "depthwise_separable":
        # This class pads by itself.
        name, padding = "DepthwiseSeparable", ""
    body = [
        f"{name}(inputs, outputs, kernel_size=3, stride=stride{padding}{bias}),",
        *norm,
        f"{activation},",
        f"{name}(outputs, outputs, kernel_size=3{padding}{bias}),",
        *norm,
    ]
    convolution = f"nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride{bias})"
    skip = [f"self.skip = {convolution}"]
    if norm:
        skip = ["self.skip = nn.Sequential(", f"    {convolution},", f"    {norm[0]}", ")"]
    return _RESIDUAL.format(name=residual_name(layer), body=block(body, 3), skip=block(skip, 3), activation=activation)


def _lines(layers: tuple[Placed, ...], shape: Shape) -> list[str]:
    """One line a layer, with the shape of its output if that changes."""
    lines = []
    for layer in layers:
        line = f"{layer.code},"
        if layer.shape != shape:
            line += f"  # {sizes(layer.shape)}"
        lines.append(line)
        shape = layer.shape
    return lines
