"""Train one model on the text.

Reads, from the environment: AUTOLAB_DATA (folder with inputs.npy and labels.npy), AUTOLAB_SEED (integer >= 0),
AUTOLAB_CONFIG (JSON file with settings, optional), AUTOLAB_TRIAL_DIR (folder to write to).
Leaves there: model/{weights.npz,model.json}, metrics.json, history.jsonl (twenty lines or so).
Deterministic: the same code, settings and seed give the same bytes on the same machine, `seconds` left out.

    python train.py                   train
    python train.py --dry-run         one batch of noise forwards and backwards; needs no data, leaves nothing
    python train.py --summary         write summary.json: parameters and shapes of the model
"""

# ruff: noqa: F722
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
from einops import rearrange
from jaxtyping import Float, Int
from loguru import logger
from torch import Tensor, nn
from torch.nn import functional as F

from data import Streams, Text, load
from models import DEFAULT, build
from optimiser import AdamW
from settings import CHARACTERS, LENGTH, SEEN

WIDTH = 96
BATCH_SIZE = 16
LR = 0.02
WEIGHT_DECAY = 0.1
WARMUP = 0.05
CLIP = 1.0
INTERVALS = 20
"""Of a training, each of which ends with a line of history.jsonl; about."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training. AUTOLAB_CONFIG overrides these defaults, and a flag overrides both."""

    model: str = DEFAULT
    """A file of `models/`."""
    width: int = WIDTH
    batch_size: int = BATCH_SIZE
    """Rows of a step."""
    lr: float = LR
    """The largest step size; it rises to that and falls to 0 along half a cosine."""
    weight_decay: float = WEIGHT_DECAY
    warmup: float = WARMUP
    """Share of the steps in which the step size rises."""
    clip: float = CLIP
    """The largest norm of all gradients together; 0 for no limit."""
    seen: int = SEEN
    """Characters that the training sees."""

    def __post_init__(self) -> None:
        for name in ("width", "batch_size", "lr", "seen"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0")
        for name in ("weight_decay", "clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is below 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: {self.warmup} is not in [0, 1)")

    @property
    def steps(self) -> int:
        return math.ceil(self.seen / (self.batch_size * LENGTH))


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


def step_size(settings: Settings, step: int) -> float:
    """From 0 up to `lr`, then down to 0 (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    rise = settings.warmup * settings.steps
    if step < rise:
        return settings.lr * (step + 1) / (rise + 1)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / (settings.steps - rise)))


def bits(logits: Float[Tensor, "b t characters"], labels: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Cross-entropy, bits a character."""
    flat = rearrange(logits, "b t characters -> (b t) characters")
    return F.cross_entropy(flat, rearrange(labels, "b t -> (b t)")) / math.log(2)


def train(settings: Settings, text: Text, streams: Streams, history: Path) -> nn.Module:
    """Train a new model; a line now and then into `history`. ArithmeticError if the loss is no longer finite."""
    streams.begin_initialisation()
    model = build(settings.model, settings.width)
    optimiser = AdamW(model.parameters(), weight_decay=settings.weight_decay, clip=settings.clip)
    every, started, losses = max(1, settings.steps // INTERVALS), time.monotonic(), []
    with history.open("w") as lines:
        for step, batch in zip(range(settings.steps), streams.batches(text, settings.batch_size), strict=False):
            loss = bits(model(batch.inputs), batch.labels)
            torch.autograd.backward(loss)
            optimiser.step(step_size(settings, step))
            losses.append(loss.item())
            if (step + 1) % every == 0 or step + 1 == settings.steps:
                mean = sum(losses) / len(losses)
                if not math.isfinite(mean):
                    raise ArithmeticError(f"the training loss is {mean} at step {step + 1}: lower lr")
                epoch = round((step + 1) * settings.batch_size / len(text.labels), 6)
                point = {"step": step + 1, "epoch": epoch, "train_loss": mean}
                lines.write(json.dumps(point | {"seconds": round(time.monotonic() - started, 3)}) + "\n")
                losses = []
    logger.info(f"{settings.steps} steps, {mean:.4f} bits a character")
    return model


def save(model: nn.Module, settings: Settings, folder: Path) -> None:
    """Weights as arrays and what builds the model: nothing that could hold code."""
    folder.mkdir(exist_ok=True)
    np.savez(folder / "weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()})
    (folder / "model.json").write_text(json.dumps({"name": settings.model, "width": settings.width}) + "\n")


def noise_batch(settings: Settings) -> Text:
    """A batch of the right shape that needs no data."""
    rows = torch.arange(settings.batch_size * (LENGTH + 1)) * 7 % len(CHARACTERS)
    rows = rearrange(rows, "(b t) -> b t", b=settings.batch_size)
    return Text(rows[:, :-1], rows[:, 1:])


def dry_run(settings: Settings) -> None:
    """One step on a batch of noise. RuntimeError if the shapes do not fit or a parameter has no gradient."""
    Streams(0).begin_initialisation()
    model = build(settings.model, settings.width)
    optimiser = AdamW(model.parameters(), weight_decay=settings.weight_decay, clip=settings.clip)
    batch = noise_batch(settings)
    loss = bits(model(batch.inputs), batch.labels)
    torch.autograd.backward(loss)
    optimiser.step(settings.lr)
    logger.info(f"dry run: {loss.item():.4f} bits a character")


@torch.no_grad()
def summary(settings: Settings) -> dict[str, Any]:
    """Number of parameters, and name, kind and parameters of each layer."""
    model = build(settings.model, settings.width).eval()
    layers = [
        {"name": name, "type": type(layer).__name__, "parameters": sum(p.numel() for p in layer.parameters())}
        for name, layer in model.named_modules()
        if name and not list(layer.children())
    ]
    output = model(torch.zeros(1, LENGTH, dtype=torch.int64))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": layers,
        "input_shape": [LENGTH],
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
    """Train one model on the text."""

    settings: tyro.conf.OmitArgPrefixes[Settings]
    dry_run: bool = False
    """One batch of noise forwards and backwards; needs no data, leaves nothing."""
    summary: bool = False
    """Write summary.json, the parameters and shapes of the model."""


def run(command: Command) -> None:
    settings = command.settings
    if command.dry_run:
        dry_run(settings)
        return
    folder = Path(variable("AUTOLAB_TRIAL_DIR"))
    if command.summary:
        (folder / "summary.json").write_text(json.dumps(summary(settings), indent=1) + "\n")
        return
    streams = Streams(int(variable("AUTOLAB_SEED")))
    text = load(Path(variable("AUTOLAB_DATA")))
    model = train(settings, text, streams, folder / "history.jsonl")
    save(model, settings, folder / "model")
    said = {"parameters": sum(p.numel() for p in model.parameters()), "steps": settings.steps}
    (folder / "metrics.json").write_text(json.dumps(said) + "\n")


def main() -> None:
    """One line and exit 1 for wrong settings, data or numbers; a traceback for a model whose shapes do not fit."""
    torch.set_num_threads(1)  # sums on one thread have one order, hence one result
    try:
        file = os.environ.get("AUTOLAB_CONFIG", "")
        default = Command(from_file(Path(file)) if file else Settings())
        run(tyro.cli(Command, default=default))
    except (OSError, ValueError, ArithmeticError) as error:
        sys.exit(f"train.py: {error}")


if __name__ == "__main__":
    gc.freeze()  # imported modules live to the end: not to collect them again at exit saves a quarter of a second
    main()
