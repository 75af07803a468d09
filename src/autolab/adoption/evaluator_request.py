"""What the user says when a sealed evaluator is to be made for the lab of their own repository."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluatorRequest:
    """What the user says of the model; what is None is looked for in the training's sources.

    `model` is MODULE:CLASS, `checkpoint` the file or folder that the training saves, seen from where it runs.
    """

    model: str | None = None
    checkpoint: str | None = None
