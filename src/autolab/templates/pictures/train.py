"""Train one model on the lab's pictures.

Reads, from the environment: AUTOLAB_DATA (folder with inputs.npy and labels.npy), AUTOLAB_SEED (integer >= 0),
AUTOLAB_CONFIG (JSON file with settings, optional), AUTOLAB_TRIAL_DIR (folder to write to).
Leaves there: model/{weights.npz,model.json}, metrics.json, history.jsonl (a line an epoch).
Deterministic: the same code, settings and seed give the same bytes on the same machine, `seconds` left out.

    python train.py                   train
    python train.py --dry-run         one batch of noise forwards and backwards; needs no data, leaves nothing
    python train.py --summary         write summary.json: parameters and shapes of the model
"""

# ruff: noqa: F722, F821
from __future__ import annotations

import dataclasses
import gc
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int
from loguru import logger
from torch import Tensor, nn
from torch.nn import functional as F

from data import Pictures, Streams, load
from device import settle
from models import build
from recipe import Recipe
from settings import CLASSES, SHAPE, Settings

EXAMINED = 1000
"""Of how many training pictures, the first ones, the trained model says its loss and accuracy."""


def checked(settings: Settings) -> Settings:
    """The settings. ValueError for a number out of its range."""
    for name in ("epochs", "batch_size", "lr"):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name}: {getattr(settings, name)} is not above 0")
    for name in ("width", "weight_decay", "subset"):
        if getattr(settings, name) < 0:
            raise ValueError(f"{name}: {getattr(settings, name)} is below 0")
    return settings


def from_file(path: Path) -> Settings:
    """Settings of a JSON file over the defaults. ValueError names the first that is unknown or of a wrong type."""
    given = json.loads(path.read_text())
    if not isinstance(given, dict):
        raise ValueError("the settings are not one JSON object")
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Settings)}
    settings: dict[str, Any] = {}
    value: Any
    for name, value in given.items():
        if name not in kinds:
            raise ValueError(f"setting {name!r} is unknown; known are {', '.join(kinds)}")
        kind = kinds[name]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"setting {name!r}: {value!r} is not of type {kind.__name__}")
        settings[name] = value
    return Settings(**settings)


class Watch:
    """A model's latest answers as it trains: to augmented pictures, with dropout."""

    answers: Int[Tensor, "b"]

    def __init__(self, model: nn.Module) -> None:
        model.register_forward_hook(self._note)

    def _note(self, model: nn.Module, given: object, logits: Float[Tensor, "b classes"]) -> None:
        self.answers = logits.detach().argmax(dim=1)


def train(settings: Settings, pictures: Pictures, streams: Streams, history: Path) -> nn.Module:
    """Train a new model; a line an epoch into `history`. ArithmeticError if the loss is no longer finite."""
    streams.begin_initialisation()
    model = build(settings.model, settings.width)
    model.to(pictures.images.device, memory_format=torch.channels_last)
    count, size = len(pictures.labels), settings.batch_size
    steps = settings.epochs * math.ceil(count / size)
    recipe = Recipe(model, lr=settings.lr, weight_decay=settings.weight_decay, steps=steps, noise=streams.noise)
    watch = Watch(model)
    started, step = time.monotonic(), 0
    with history.open("w") as lines:
        for epoch in range(1, settings.epochs + 1):
            losses, hits = [], []
            for batch in streams.batches(pictures, size):
                loss = recipe.loss(batch.images, batch.labels)
                torch.autograd.backward(loss)
                recipe.step()
                losses.append(loss.detach() * len(batch.labels))
                hits.append((watch.answers == batch.labels).sum())
                step += 1
            mean, accuracy = (torch.stack(sums).sum().item() / count for sums in (losses, hits))
            if not math.isfinite(mean):
                raise ArithmeticError(f"the training loss is {mean} in epoch {epoch}: lower lr")
            point = {"step": step, "epoch": float(epoch), "train_loss": mean, "train_accuracy": accuracy}
            lines.write(json.dumps(point | {"seconds": round(time.monotonic() - started, 3)}) + "\n")
    recipe.finish()
    logger.info(f"{step} steps, train_loss={mean:.4f}, train_accuracy={accuracy:.4f}")
    return model


@torch.no_grad()
def training_metrics(model: nn.Module, pictures: Pictures) -> dict[str, float]:
    """What the trained model says of the first `EXAMINED` pictures that it was trained on."""
    model.eval()
    labels = pictures.labels[:EXAMINED]
    logits = torch.cat([model(part) for part in pictures.images[:EXAMINED].split(100)])
    return {
        "train_loss": F.cross_entropy(logits, labels).item(),
        "train_accuracy": (logits.argmax(dim=1) == labels).double().mean().item(),
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def save(model: nn.Module, settings: Settings, folder: Path) -> None:
    """Weights as arrays and what builds the model: nothing that could hold code."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **{name: value.cpu().numpy() for name, value in model.state_dict().items()})
    (folder / "model.json").write_text(json.dumps({"name": settings.model, "width": settings.width}) + "\n")


def dry_run(settings: Settings) -> None:
    """One step on a batch of noise. RuntimeError if the shapes do not fit or a parameter has no gradient."""
    streams = Streams(0)
    streams.begin_initialisation()
    model = build(settings.model, settings.width)
    recipe = Recipe(model, lr=settings.lr, weight_decay=settings.weight_decay, steps=1, noise=streams.noise)
    loss = recipe.loss(torch.rand(settings.batch_size, *SHAPE), torch.arange(settings.batch_size) % CLASSES)
    torch.autograd.backward(loss)
    recipe.step()
    recipe.finish()
    logger.info(f"dry run: loss={loss.item():.4f}")


@torch.no_grad()
def summary(settings: Settings) -> dict[str, Any]:
    """Number of parameters, and name, kind, output shape and parameters of each layer."""
    model = build(settings.model, settings.width).eval()
    layers: list[dict[str, Any]] = []
    for name, layer in model.named_modules():
        if name and not list(layer.children()):
            layer.register_forward_hook(
                lambda layer, _, out, name=name: layers.append(
                    {
                        "name": name,
                        "type": type(layer).__name__,
                        "shape": list(out.shape[1:]),
                        "parameters": sum(p.numel() for p in layer.parameters()),
                    }
                )
            )
    output = model(torch.zeros(1, *SHAPE))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": layers,
        "input_shape": list(SHAPE),
        "output_shape": list(output.shape[1:]),
    }


def variable(name: str) -> str:
    """An environment variable. ValueError if it is not set."""
    value = os.environ.get(name, "")
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    return value


@dataclass(frozen=True)
class Command:
    """Train one model on the lab's pictures."""

    settings: tyro.conf.OmitArgPrefixes[Settings]
    dry_run: bool = False
    """One batch of noise forwards and backwards; needs no data, leaves nothing."""
    summary: bool = False
    """Write summary.json, the parameters and shapes of the model."""


def run(command: Command) -> None:
    settings, device = checked(command.settings), settle()
    if command.dry_run:
        dry_run(settings)
        return
    folder = Path(variable("AUTOLAB_TRIAL_DIR"))
    if command.summary:
        (folder / "summary.json").write_text(json.dumps(summary(settings), indent=1) + "\n")
        return
    streams = Streams(int(variable("AUTOLAB_SEED")))
    pictures = load(Path(variable("AUTOLAB_DATA")), settings.subset).to(device)
    model = train(settings, pictures, streams, folder / "history.jsonl")
    save(model, settings, folder / "model")
    (folder / "metrics.json").write_text(json.dumps(training_metrics(model, pictures)) + "\n")


def main() -> None:
    """One line and exit 1 for wrong settings, data or numbers; a traceback for a model whose shapes do not fit."""
    try:
        file = os.environ.get("AUTOLAB_CONFIG", "")
        default = Command(from_file(Path(file)) if file else Settings())
        run(tyro.cli(Command, default=default))
    except (OSError, ValueError, ArithmeticError) as error:
        sys.exit(f"train.py: {error}")


if __name__ == "__main__":
    gc.freeze()  # imported modules live to the end: not to collect them again at exit saves a quarter of the time
    main()
