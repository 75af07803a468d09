"""The source of a model: one module `models/<name>.py` with a class `Model`, as one would write it by hand."""

from __future__ import annotations

from autolab.lab.schemas.method import Activation, DepthwiseSeparable, Dropout, GlobalPool, ModelConfig, Norm, Residual
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
    """What comes out of each layer, and last of the linear one to the classes. RecordError for what does not fit."""
    return tuple(placed.shape for placed in place(config))


def parameters(config: ModelConfig) -> int:
    """Numbers that training may move. RecordError for layers that do not fit."""
    return sum(placed.parameters for placed in place(config))


def model_source(config: ModelConfig) -> Source:
    """`models/<name>.py`: equal configurations give equal bytes. RecordError for layers that do not fit."""
    placed = place(config)
    text = _MODULE.format(
        name=config.name,
        input=sizes(config.input),
        classes=config.classes,
        parameters=sum(layer.parameters for layer in placed),
        words=_words(placed),
        imports="\n".join(_imports(placed)),
        blocks=_blocks(placed),
        layers=block(_lines(placed, config.input), 3),
        initialisation=_INITIALISATION[config.initialisation],
        dimensions=" ".join(str(size) for size in config.input),
    )
    return Source(f"models/{config.name}.py", text)


def _words(placed: tuple[Placed, ...]) -> str:
    """The layers in one sentence, and whose ideas they are."""
    text = prose(", ".join(layer.words for layer in placed) + ".")
    named: dict[str, str] = {}
    for layer in placed:
        named |= {idea: _PAPERS[idea] for idea in _ideas(layer) if idea in _PAPERS}
    papers = [f"{idea}: {paper}" for idea, paper in named.items()]
    return "\n".join([text, "", "Sources:", block(papers, 1)]) if papers else text


def _ideas(placed: Placed) -> tuple[str, ...]:
    match placed.layer:
        case Activation(kind=kind):
            return (kind.replace("_", " "),)
        case Norm(kind=kind):
            return (f"{kind} norm",)
        case Residual(norm=norm, activation=activation):
            return (f"{norm} norm", activation.replace("_", " "))
        case GlobalPool():
            return ("global pool",)
        case Dropout():
            return ("dropout",)
    return ()


def _imports(placed: tuple[Placed, ...]) -> list[str]:
    used = {layer.code.partition("(")[0] for layer in placed}
    einops = [name for name in ("Rearrange", "Reduce") if name in used]
    gcd = any(isinstance(layer.layer, Residual) and layer.layer.norm == "group" for layer in placed)
    return [
        *(["from math import gcd", ""] if gcd else []),
        f"from einops.layers.torch import {', '.join(einops)}",
        "from jaxtyping import Float",
        "from torch import Tensor, nn",
    ]


def _blocks(placed: tuple[Placed, ...]) -> str:
    """The classes that the model's layers need, each once, before the model."""
    residuals = {residual_name(layer.layer): layer.layer for layer in placed if isinstance(layer.layer, Residual)}
    separable = any(isinstance(layer.layer, DepthwiseSeparable) for layer in placed)
    separable |= any(layer.convolution == "depthwise_separable" for layer in residuals.values())
    return (_SEPARABLE if separable else "") + "".join(_residual(layer) for layer in residuals.values())


def _residual(layer: Residual) -> str:
    separable = layer.convolution == "depthwise_separable"
    first, second = (
        f"DepthwiseSeparable({{}}, outputs, kernel_size=3{stride}"
        if separable
        else f"nn.Conv2d({{}}, outputs, kernel_size=3{stride}, padding=1"
        for stride in (", stride=stride", "")
    )
    bias = "" if layer.norm == "none" else ", bias=False"
    norm = {
        "batch": ["nn.BatchNorm2d(outputs),"],
        "group": ["nn.GroupNorm(gcd(8, outputs), outputs),"],
        "none": [],
    }[layer.norm]
    activation = ACTIVATIONS[layer.activation]
    body = [
        first.format("inputs") + f"{bias}),",
        *norm,
        f"{activation},",
        second.format("outputs") + f"{bias}),",
        *norm,
    ]
    skip = [f"nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride{bias})"]
    if norm:
        skip = ["nn.Sequential(", f"    {skip[0]},", f"    {norm[0]}", ")"]
    return _RESIDUAL.format(
        name=residual_name(layer),
        body=block(body, 3),
        skip=block([f"self.skip = {skip[0]}", *skip[1:]], 3),
        activation=activation,
    )


def _lines(placed: tuple[Placed, ...], shape: Shape) -> list[str]:
    """One layer a line, with what comes out of it where that changes."""
    lines = []
    for layer in placed:
        comment = f"  # {sizes(layer.shape)}" if layer.shape != shape else ""
        lines.append(f"{layer.code},{comment}")
        shape = layer.shape
    return lines
