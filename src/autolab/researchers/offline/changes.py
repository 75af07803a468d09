"""What a mechanism of the catalogue does to a method: pure functions that change a model and a recipe.

A change that means nothing for a method (an activation that it has already, a pool where there is no convolution) is
`NotApplicable`: it would be no experiment. Several changes are applied in the order of `CHANGES`, whatever the order in
which they were proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.method import Method
from autolab.researchers import assembler
from autolab.researchers.assembler.written_method import NotApplicable

Layers = list[dict[str, Any]]
Change = Callable[[dict[str, Any], Any], None]
"""Changes a method, as plain values, in place; the second argument says how much, or which kind."""
_CONVOLUTIONS = ("conv", "depthwise_separable", "residual")


def apply(method: Method, changes: Mapping[str, JsonValue], name: str) -> Method:
    """The method after `changes`; a model that is changed gets `name`. NotApplicable says which change does not fit.

    The result's shapes are checked, so it can be built.
    """
    value = method.value()
    for name_of_change, make in CHANGES.items():
        if name_of_change not in changes:
            continue
        # Compared as values, so that no change has to know when it does nothing.
        before = deepcopy(value)
        make(value, changes[name_of_change])
        if value == before:
            raise NotApplicable(f"{name_of_change}: changes nothing here")
    if value["model"] != method.value()["model"]:
        # Trials of an older model import it by its name, so a changed model needs another.
        value["model"]["name"] = name
    try:
        changed = Method.from_value(value, "method.json")
        assembler.shapes(changed.model)
    except RecordError as error:
        raise NotApplicable(str(error)) from None
    return changed


# model


def _layers(method: dict[str, Any]) -> Layers:
    layers: Layers = method["model"]["layers"]
    return layers


def _indices(layers: Layers, *types: str) -> list[int]:
    return [index for index, layer in enumerate(layers) if layer["type"] in types]


def _convolutions(layers: Layers, change: str) -> list[int]:
    """The indices of the convolutions. NotApplicable: there are none."""
    indices = _indices(layers, *_CONVOLUTIONS)
    if not indices:
        raise NotApplicable(f"{change}: the model has no convolution")
    return indices


def _kind(layers: Layers, layer_type: str, default: str) -> str:
    """The kind of the first layer of a type: what is added to a model matches what it has."""
    for layer in layers:
        if layer["type"] == layer_type:
            return str(layer["kind"])
    return default


def _conv(channels: int, layer_type: str = "conv") -> dict[str, Any]:
    return {"type": layer_type, "channels": channels, "kernel": 3, "stride": 1}


def _block_end(layers: Layers, start: int) -> int:
    """The index after the norm and the activation that belong to the layer at `start`."""
    end = start + 1
    while end < len(layers) and layers[end]["type"] in ("norm", "activation"):
        end += 1
    return end


def _convolution(method: dict[str, Any], channels: Any) -> None:
    """A model without convolutions gets one, with pooling, in front of everything."""
    layers = _layers(method)
    if _indices(layers, *_CONVOLUTIONS):
        raise NotApplicable("convolution: the model has convolutions already")
    # The activation that the model has already: the experiment is about the convolution.
    activation = {"type": "activation", "kind": _kind(layers, "activation", "relu")}
    layers[:0] = [_conv(channels), activation, {"type": "pool", "kind": "max", "size": 2}]


def _depthwise_separable(method: dict[str, Any], _: Any) -> None:
    """Every convolution but the first, which sees the raw picture. If that is the only one, another follows it."""
    layers = _layers(method)
    first, *others = _convolutions(layers, "depthwise_separable")
    if not others:
        # Twice the channels, as is usual after a reduction; the same norm and activation as the first.
        end = _block_end(layers, first)
        norm_and_activation = deepcopy(layers[first + 1 : end])
        layers[end:end] = [_conv(2 * layers[first]["channels"], "depthwise_separable"), *norm_and_activation]
    for index in others:
        if layers[index]["type"] == "conv":
            layers[index]["type"] = "depthwise_separable"
        elif layers[index]["type"] == "residual":
            layers[index]["convolution"] = "depthwise_separable"


def _residual(method: dict[str, Any], _: Any) -> None:
    """The last plain convolution with its norm and activation becomes a residual block of as many channels."""
    layers = _layers(method)
    plain = _indices(layers, "conv", "depthwise_separable")
    if not plain:
        raise NotApplicable("residual: the model has no plain convolution")
    start = plain[-1]
    end = _block_end(layers, start)
    block, convolution = layers[start:end], layers[start]
    norm = _kind(block, "norm", "batch")
    residual = {
        "type": "residual",
        "channels": convolution["channels"],
        "stride": convolution["stride"],
        "convolution": convolution["type"],
        # A residual block has no layer norm; group norm is the nearest that it has.
        "norm": "group" if norm == "layer" else norm,
        "activation": _kind(block, "activation", "relu"),
    }
    if start == 0:  # a first block would see the raw picture: the convolution stays before it
        layers[end:end] = [residual]
    else:
        layers[start:end] = [residual]


def _depth(method: dict[str, Any], _: Any) -> None:
    """The last block of convolutions once more; in a model without convolutions, the last hidden layer."""
    layers = _layers(method)
    repeatable = _indices(layers, *_CONVOLUTIONS) or _indices(layers, "linear")
    if not repeatable:
        raise NotApplicable("depth: the model has no layer to repeat")
    start = repeatable[-1]
    end = _block_end(layers, start)
    block = deepcopy(layers[start:end])
    if "stride" in block[0]:
        # The first of the two has reduced the maps already.
        block[0]["stride"] = 1
    layers[end:end] = block


def _width(method: dict[str, Any], factor: Any) -> None:
    for layer in _layers(method):
        for key in ("channels", "units"):
            if key in layer:
                # Multiples of 8, which group norm divides evenly and processors compute fast.
                layer[key] = max(8, 8 * round(layer[key] * factor / 8))


def _kernel(method: dict[str, Any], size: Any) -> None:
    layers = _layers(method)
    full = _indices(layers, "conv")
    if not full:
        raise NotApplicable("kernel: the model has no convolution")
    layers[full[0]]["kernel"] = size


def _pooling(method: dict[str, Any], kind: Any) -> None:
    for layer in _layers(method):
        if layer["type"] == "pool":
            layer["kind"] = kind


def _head(method: dict[str, Any], _: Any) -> None:
    layers = _layers(method)
    # A flatten of the raw picture stays: its mean would be one number for each colour.
    if not _indices(layers, *_CONVOLUTIONS):
        raise NotApplicable("head: without a convolution there are no maps to average")
    for index in _indices(layers, "flatten"):
        layers[index] = {"type": "global_pool", "kind": "avg"}


def _norm(method: dict[str, Any], kind: Any) -> None:
    """One norm of this kind after every convolution, and no other."""
    layers = _layers(method)
    _convolutions(layers, "norm")
    result: Layers = []
    for layer in layers:
        if layer["type"] == "norm":
            continue
        result.append(layer)
        if layer["type"] == "residual":
            layer["norm"] = kind
        elif layer["type"] in _CONVOLUTIONS:
            result.append({"type": "norm", "kind": kind})
    method["model"]["layers"] = result


def _activation(method: dict[str, Any], kind: Any) -> None:
    for layer in _layers(method):
        if layer["type"] == "activation":
            layer["kind"] = kind
        elif layer["type"] == "residual":
            layer["activation"] = kind


def _dropout(method: dict[str, Any], increase: Any) -> None:
    """Add to the rate of every dropout; a model without dropout gets one before the last layer."""
    layers = _layers(method)
    dropouts = [layer for layer in layers if layer["type"] == "dropout"]
    if not dropouts and increase > 0:
        layers.append({"type": "dropout", "p": increase})
    for layer in dropouts:
        # Rounded, because 0.1 + 0.2 is not 0.3 in binary and the rate stands in code.
        layer["p"] = round(layer["p"] + increase, 3)
        if not 0 <= layer["p"] <= 0.8:
            raise NotApplicable("dropout: the rate would leave 0 to 0.8")
    # A rate of 0 is no layer. No other type has a `p`.
    method["model"]["layers"] = [layer for layer in layers if layer.get("p") != 0]


def _initialisation(method: dict[str, Any], kind: Any) -> None:
    method["model"]["initialisation"] = kind


# recipe


def _set(key: str) -> Change:
    def change(method: dict[str, Any], value: Any) -> None:
        method["recipe"][key] = value

    return change


def _scale(key: str) -> Change:
    def change(method: dict[str, Any], factor: Any) -> None:
        method["recipe"][key] = _rounded(method["recipe"][key] * factor)

    return change


def _rounded(number: float) -> float:
    """To three significant digits."""
    return float(f"{number:.3g}")


def _pixels(key: str, most: float) -> Change:
    """A share of the picture's side (below 1) or a number of pixels, at most the share `most` of the side."""

    def change(method: dict[str, Any], amount: Any) -> None:
        side = min(method["model"]["input"][1:])
        pixels = round(side * amount) if amount < 1 else amount
        if not 0 < pixels <= int(side * most):
            raise NotApplicable(f"{key}: {pixels} pixels are too many for a side of {side}")
        method["recipe"][key] = pixels

    return change


_STEPS = {"adamw": 1.0, "sgd": 5.0, "lion": 0.2}
"""Step sizes that do about the same, relative to AdamW's, as the optimisers' authors advise."""


def _optimiser(method: dict[str, Any], name: Any) -> None:
    recipe = method["recipe"]
    factor = _STEPS[name] / _STEPS[recipe["optimiser"]]
    recipe["lr"] = _rounded(recipe["lr"] * factor)
    recipe["weight_decay"] = _rounded(recipe["weight_decay"] / factor)  # a step decays by lr times this
    recipe["optimiser"] = name


CHANGES: dict[str, Change] = {
    "convolution": _convolution,
    "depthwise_separable": _depthwise_separable,
    "depth": _depth,
    "residual": _residual,
    "width": _width,
    "kernel": _kernel,
    "pooling": _pooling,
    "head": _head,
    "norm": _norm,
    "activation": _activation,
    "dropout": _dropout,
    "initialisation": _initialisation,
    "label_smoothing": _set("label_smoothing"),
    "flip": _set("flip"),
    "shift": _pixels("shift", 0.25),
    "cutout": _pixels("cutout", 0.5),
    "noise": _set("noise"),
    "mixup": _set("mixup"),
    "schedule": _set("schedule"),
    "warmup": _set("warmup"),
    "optimiser": _optimiser,
    "lr": _scale("lr"),
    "weight_decay": _scale("weight_decay"),
    "averaging": _set("averaging"),
    "clip": _set("clip"),
}
"""Every change that a catalogue may name, in the order in which they are applied."""
