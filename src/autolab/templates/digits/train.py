"""Train one model on the digits.

Reads, from the environment: AUTOLAB_DATA (folder with inputs.npy and labels.npy), AUTOLAB_SEED (integer >= 0),
AUTOLAB_CONFIG (JSON file with settings, optional), AUTOLAB_TRIAL_DIR (folder to write to).
Leaves there: model/{weights.npz,model.json}, metrics.json, history.jsonl (a line an epoch).
Deterministic: the same code, settings and seed give the same bytes on the same machine, `seconds` left out.

    python train.py                   train
    python train.py --dry-run         one batch of noise forwards and backwards; needs no data, leaves nothing
    python train.py --summary         write summary.json: parameters and shapes of the model
"""

# ruff: noqa: F722
from __future__ import annotations

import dataclasses
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
from jaxtyping import Float
from loguru import logger
from torch import Tensor, nn
from torch.nn import functional as F

from data import Digits, Streams, load
from models import CLASSES, MODELS, SIDE, build
from optimiser import AdamW


@dataclass(frozen=True)
class Config:
    """Settings of a training. The file AUTOLAB_CONFIG goes before these defaults, a flag before both."""

    model: str = "mlp"
    """One of `models.MODELS`."""
    width: int = 128
    """Units (or channels) of the hidden layer."""
    dropout: float = 0.3
    epochs: int = 60
    batch_size: int = 64
    lr: float = 0.01
    """Peak step size; falls to 0 along a half cosine."""
    weight_decay: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model: {self.model!r} is unknown; known are {', '.join(MODELS)}")
        for name in ("width", "epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not in [0, 1)")


def from_file(path: Path) -> Config:
    """Settings of a JSON file over the defaults. ValueError names the first that is unknown or of a wrong type."""
    given = json.loads(path.read_text())
    if not isinstance(given, dict):
        raise ValueError("the settings are not one JSON object")
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Config)}
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
    return Config(**settings)


def learning_rate(config: Config, step: int, steps: int) -> float:
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / steps))


def batch_loss(model: nn.Module, batch: Digits, config: Config) -> Float[Tensor, ""]:
    """What is minimised: cross-entropy in nats."""
    return F.cross_entropy(model(batch.images), batch.labels, label_smoothing=config.label_smoothing)


def train(config: Config, digits: Digits, streams: Streams, history: Path) -> nn.Module:
    """Train a new model; a line an epoch into `history`. ArithmeticError if the loss is no longer finite."""
    streams.begin_initialisation()
    model = build(config.model, width=config.width, dropout=config.dropout)
    optimiser = AdamW(model.parameters(), weight_decay=config.weight_decay, betas=(0.9, 0.999))
    steps = config.epochs * math.ceil(len(digits.labels) / config.batch_size)
    streams.begin_training()
    started, step = time.monotonic(), 0
    with history.open("w") as lines:
        for epoch in range(1, config.epochs + 1):
            total = 0.0
            for batch in streams.batches(digits, config.batch_size):
                loss = batch_loss(model, batch, config)
                torch.autograd.backward(loss)
                optimiser.step(learning_rate(config, step, steps))
                total += loss.item() * len(batch.labels)
                step += 1
            mean = total / len(digits.labels)
            if not math.isfinite(mean):
                raise ArithmeticError(f"the training loss is {mean} in epoch {epoch}: lower lr")
            seconds = round(time.monotonic() - started, 3)
            point = {"step": step, "epoch": float(epoch), "train_loss": mean, "seconds": seconds}
            lines.write(json.dumps(point) + "\n")
    logger.info(f"{step} steps, train_loss={mean:.4f}")
    return model


@torch.no_grad()
def training_metrics(model: nn.Module, digits: Digits) -> dict[str, float]:
    """What the trained model says of the data it was trained on."""
    logits = model.eval()(digits.images)
    hits = (logits.argmax(dim=1) == digits.labels).double().mean()
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "train_loss": F.cross_entropy(logits, digits.labels).item(),
        "train_accuracy": hits.item(),
        "parameters": float(parameters),
    }


def save(model: nn.Module, config: Config, folder: Path) -> None:
    """Weights as arrays and the settings that build the model: nothing that could hold code."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()})
    settings = {"name": config.model, "width": config.width, "dropout": config.dropout}
    (folder / "model.json").write_text(json.dumps(settings) + "\n")


def noise_batch(config: Config) -> Digits:
    """A batch of the right shape that needs no data."""
    labels = torch.arange(config.batch_size) % CLASSES
    return Digits(torch.rand(config.batch_size, SIDE, SIDE), labels)


def dry_run(config: Config) -> None:
    """Build the model and take one step. RuntimeError if the shapes do not fit or a parameter has no gradient."""
    torch.manual_seed(0)
    model = build(config.model, width=config.width, dropout=config.dropout)
    optimiser = AdamW(model.parameters(), weight_decay=config.weight_decay, betas=(0.9, 0.999))
    loss = batch_loss(model, noise_batch(config), config)
    torch.autograd.backward(loss)
    optimiser.step(config.lr)
    logger.info(f"dry run: loss={loss.item():.4f}")


@torch.no_grad()
def summary(config: Config) -> dict[str, Any]:
    """Number of parameters, and name, kind, output shape and parameters of each layer."""
    model = build(config.model, width=config.width, dropout=config.dropout).eval()
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
    output = model(torch.zeros(1, SIDE, SIDE))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": layers,
        "input_shape": [SIDE, SIDE],
        "output_shape": list(output.shape[1:]),
    }


def setting(name: str) -> str:
    """An environment variable. ValueError if it is not set."""
    value = os.environ.get(name, "")
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    return value


@dataclass(frozen=True)
class Command:
    """Train one model on the digits."""

    config: tyro.conf.OmitArgPrefixes[Config]
    dry_run: bool = False
    """One batch of noise forwards and backwards; needs no data, leaves nothing."""
    summary: bool = False
    """Write summary.json, the parameters and shapes of the model."""


def run(command: Command) -> None:
    config = command.config
    if command.dry_run:
        dry_run(config)
        return
    folder = Path(setting("AUTOLAB_TRIAL_DIR"))
    if command.summary:
        (folder / "summary.json").write_text(json.dumps(summary(config), indent=1) + "\n")
        return
    streams = Streams(int(setting("AUTOLAB_SEED")))
    digits = load(Path(setting("AUTOLAB_DATA")))
    model = train(config, digits, streams, folder / "history.jsonl")
    save(model, config, folder / "model")
    (folder / "metrics.json").write_text(json.dumps(training_metrics(model, digits)) + "\n")


def main() -> None:
    """One line and exit 1 for wrong settings, data or numbers; a traceback for a model whose shapes do not fit."""
    torch.set_num_threads(1)  # sums on one thread have one order, hence one result
    try:
        file = os.environ.get("AUTOLAB_CONFIG", "")
        default = Command(from_file(Path(file)) if file else Config())
        run(tyro.cli(Command, default=default))
    except (OSError, ValueError, ArithmeticError) as error:
        sys.exit(f"train.py: {error}")


if __name__ == "__main__":
    main()
