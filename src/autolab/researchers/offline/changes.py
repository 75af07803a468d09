"""What a mechanism of the catalogue does to a method: pure functions from one model_config and recipe to the next.

A change that says nothing about a method (an activation it has already, a pool where there is no convolution) is
`NotApplicable`: it is no experiment. Several changes are applied in the order of `CHANGES`, so that the order in which
they were thought of does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.method import Method
from autolab.researchers import assembler
from autolab.researchers.assembler.written_method import NotApplicable

Layers = list[dict[str, Any]]
_CONVOLUTIONS = ("conv", "depthwise_separable", "residual")


def apply(method: Method, changes: Mapping[str, JsonValue], name: str) -> Method:
    """The method after `changes`; a model that is changed gets `name`. NotApplicable says which change does not fit.

    The result's shapes are checked, so what comes back can be built.
    """
    value = method.value()
    for change in (known for known in CHANGES if known in changes):
        before = {part: repr(value[part]) for part in ("model", "recipe")}
        CHANGES[change](value, changes[change])
        if all(repr(value[part]) == before[part] for part in before):
            raise NotApplicable(f"{change}: changes nothing here")
    if value["model"] != method.value()["model"]:
        value["model"]["name"] = name
    try:
        made = Method.from_value(value, "method.json")
        assembler.shapes(made.model)
    except RecordError as error:
        raise NotApplicable(str(error)) from None
    return made


# model


def _convolutions(layers: Layers) -> list[int]:
    return [index for index, layer in enumerate(layers) if layer["type"] in _CONVOLUTIONS]


def _kind(layers: Layers, type_: str, default: str) -> str:
    """The kind of the first layer of a type: what is added to a model matches what it has."""
    return next((str(layer["kind"]) for layer in layers if layer["type"] == type_), default)


def _convolution(value: dict[str, Any], channels: Any) -> None:
    """A model without convolutions gets one with pooling in front of everything."""
    layers: Layers = value["model"]["layers"]
    if _convolutions(layers):
        raise NotApplicable("convolution: the model has convolutions already")
    kind = _kind(layers, "activation", "relu")
    layers[:0] = [_conv(channels), {"type": "activation", "kind": kind}, {"type": "pool", "kind": "max", "size": 2}]


def _conv(channels: int, type_: str = "conv") -> dict[str, Any]:
    return {"type": type_, "channels": channels, "kernel": 3, "stride": 1}


def _depthwise_separable(value: dict[str, Any], _: Any) -> None:
    """Every convolution but the first, which sees the raw picture; where there is only that one, another after it."""
    layers: Layers = value["model"]["layers"]
    found = _convolutions(layers)
    if not found:
        raise NotApplicable("depthwise_separable: the model has no convolution")
    if len(found) == 1:
        block = _block_end(layers, found[0])
        added = [_conv(2 * layers[found[0]]["channels"], "depthwise_separable"), *_after(layers, found[0], block)]
        layers[block:block] = added
    for index in found[1:]:
        layer = layers[index]
        if layer["type"] == "conv":
            layers[index] = layer | {"type": "depthwise_separable"}
        elif layer["type"] == "residual":
            layers[index] = layer | {"convolution": "depthwise_separable"}


def _block_end(layers: Layers, start: int) -> int:
    """Where the norm and the activation that belong to the layer at `start` end."""
    end = start + 1
    while end < len(layers) and layers[end]["type"] in ("norm", "activation"):
        end += 1
    return end


def _after(layers: Layers, start: int, end: int) -> Layers:
    """Copies of the norm and the activation that follow a layer."""
    return [dict(layer) for layer in layers[start + 1 : end]]


def _residual(value: dict[str, Any], _: Any) -> None:
    """The last plain convolution with its norm and activation becomes a residual block of as many channels."""
    layers: Layers = value["model"]["layers"]
    plain = [index for index in _convolutions(layers) if layers[index]["type"] != "residual"]
    if not plain:
        raise NotApplicable("residual: the model has no plain convolution")
    start = plain[-1]
    end = _block_end(layers, start)
    old = layers[start]
    new = {
        "type": "residual",
        "channels": old["channels"],
        "stride": old["stride"],
        "convolution": old["type"],
        "norm": next((str(part["kind"]) for part in layers[start:end] if part["type"] == "norm"), "batch"),
        "activation": _kind(layers[start:end], "activation", "relu"),
    }
    if new["norm"] == "layer":
        new["norm"] = "group"
    # A block in front of which nothing stands would see the raw picture: the convolution stays as its stem.
    layers[(end if start == 0 else start) : end] = [new]


def _depth(value: dict[str, Any], _: Any) -> None:
    """The last block of convolutions once more; in a model without any, the last hidden layer."""
    layers: Layers = value["model"]["layers"]
    found = _convolutions(layers) or [i for i, layer in enumerate(layers) if layer["type"] == "linear"]
    if not found:
        raise NotApplicable("depth: the model has no layer to repeat")
    start = found[-1]
    end = _block_end(layers, start)
    again = dict(layers[start]) | ({"stride": 1} if "stride" in layers[start] else {})
    layers[end:end] = [again, *_after(layers, start, end)]


def _width(value: dict[str, Any], factor: Any) -> None:
    for layer in value["model"]["layers"]:
        for key in ("channels", "units"):
            if key in layer:
                layer[key] = max(8, 8 * round(layer[key] * factor / 8))


def _kernel(value: dict[str, Any], size: Any) -> None:
    layers: Layers = value["model"]["layers"]
    first = next((layer for layer in layers if layer["type"] == "conv"), None)
    if first is None:
        raise NotApplicable("kernel: the model has no convolution")
    first["kernel"] = size


def _pooling(value: dict[str, Any], kind: Any) -> None:
    for layer in value["model"]["layers"]:
        if layer["type"] == "pool":
            layer["kind"] = kind


def _head(value: dict[str, Any], _: Any) -> None:
    layers: Layers = value["model"]["layers"]
    if not _convolutions(layers):
        raise NotApplicable("head: without a convolution there are no maps to average")
    value["model"]["layers"] = [
        {"type": "global_pool", "kind": "avg"} if layer["type"] == "flatten" else layer for layer in layers
    ]


def _norm(value: dict[str, Any], kind: Any) -> None:
    """After every convolution; what is there already changes its kind."""
    layers: Layers = value["model"]["layers"]
    if not _convolutions(layers):
        raise NotApplicable("norm: the model has no convolution")
    made: Layers = []
    for layer in layers:
        if layer["type"] == "norm":
            continue
        made.append(layer | {"norm": kind} if layer["type"] == "residual" else layer)
        if layer["type"] in ("conv", "depthwise_separable"):
            made.append({"type": "norm", "kind": kind})
    value["model"]["layers"] = made


def _activation(value: dict[str, Any], kind: Any) -> None:
    for layer in value["model"]["layers"]:
        if layer["type"] == "activation":
            layer["kind"] = kind
        elif layer["type"] == "residual":
            layer["activation"] = kind


def _dropout(value: dict[str, Any], more: Any) -> None:
    """Add to the rate of every dropout; without one, put it before the head."""
    layers: Layers = value["model"]["layers"]
    found = [layer for layer in layers if layer["type"] == "dropout"]
    if not found and more > 0:
        layers.append({"type": "dropout", "p": more})
    for layer in found:
        layer["p"] = round(layer["p"] + more, 3)
    if any(not 0 <= layer["p"] <= 0.8 for layer in found):
        raise NotApplicable("dropout: the rate would leave 0 to 0.8")
    value["model"]["layers"] = [layer for layer in layers if layer.get("p") != 0]


def _initialisation(value: dict[str, Any], kind: Any) -> None:
    value["model"]["initialisation"] = kind


# recipe


def _set(key: str) -> Callable[[dict[str, Any], Any], None]:
    def change(value: dict[str, Any], to: Any) -> None:
        value["recipe"][key] = to

    return change


def _scale(key: str) -> Callable[[dict[str, Any], Any], None]:
    def change(value: dict[str, Any], factor: Any) -> None:
        value["recipe"][key] = float(f"{value['recipe'][key] * factor:.3g}")

    return change


def _pixels(key: str) -> Callable[[dict[str, Any], Any], None]:
    """A share of the picture's side (below 1) or a number of pixels, never more than half the side."""

    def change(value: dict[str, Any], amount: Any) -> None:
        side = min(value["model"]["input"][1:])
        pixels = round(side * amount) if amount < 1 else amount
        if not 0 < pixels <= side // (4 if key == "shift" else 2):
            raise NotApplicable(f"{key}: {pixels} pixels are too many for a side of {side}")
        value["recipe"][key] = pixels

    return change


_STEPS = {"adamw": 1.0, "sgd": 5.0, "lion": 0.2}
"""Step sizes that do about the same, relative to AdamW's: what the optimisers' authors advise."""


def _optimiser(value: dict[str, Any], name: Any) -> None:
    recipe = value["recipe"]
    factor = _STEPS[name] / _STEPS[recipe["optimiser"]]
    recipe["lr"] = float(f"{recipe['lr'] * factor:.3g}")
    recipe["weight_decay"] = float(f"{recipe['weight_decay'] / factor:.3g}")  # decay a step is lr times this
    recipe["optimiser"] = name


CHANGES: dict[str, Callable[[dict[str, Any], Any], None]] = {
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
    "shift": _pixels("shift"),
    "cutout": _pixels("cutout"),
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
