"""What is asked of two or more versions, and what is drawn or derived for it: stored once, never computed again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from autolab import files
from autolab.compare.versions import Version
from autolab.lab.schemas.config import Config, Count, Direction, Positive, StoppingRule
from autolab.lab.schemas.record import Record
from autolab.stats.metric_names import is_speed
from autolab.trials.inputs import TrialInputs
from autolab.trials.job import TrialCommands

Require = Literal["better", "not_worse"]
KEY = 16
"""Characters of a key."""


class OneAtATime(StrEnum):
    """Why no two trainings of a comparison run side by side."""

    ASKED = "asked"
    SPEED = "speed"
    SHARED = "shared"


class AskedVersion(Record):
    """A version as it was first asked about. `commit` is kept: a later call makes another commit of the same files.

    `words` name it on a command line; none for the working tree.
    """

    name: str
    label: str
    commit: str
    tree: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    words: tuple[str, ...] = ()


class AskedComparison(Record):
    """What is asked. `delta` is the least difference worth having in the metric's units, null: derived from the noise.

    `one_at_a_time`: why no two trainings run side by side; null: they may. `shared`: places that all of them write to.
    What may be spent is no part of it, so that
    the same question with a larger budget goes on.
    """

    FILE: ClassVar[str] = ".git/autolab/compare/<KEY>/question.json"

    base: AskedVersion
    candidates: tuple[AskedVersion, ...]
    metric: str
    direction: Direction
    delta: Positive | None
    alpha: float
    require: Require
    confirm: bool
    pairs: Count
    one_at_a_time: OneAtATime | None = None
    shared: tuple[str, ...] = ()


class Derived(Record):
    """What the base's noise gave: the difference that the pairs can resolve, in the metric's units, and from what."""

    FILE: ClassVar[str] = ".git/autolab/compare/<KEY>/derived.json"

    delta: Positive
    deviation: float
    """Of a pair's difference, as if the trials of a pair shared no noise."""
    scores: tuple[float, ...]


def asked(version: Version) -> AskedVersion:
    return AskedVersion(
        name=version.name,
        label=version.label,
        commit=version.commit,
        tree=version.tree,
        settings=version.settings,
        words=version.words,
    )


def with_speed(question: AskedComparison) -> AskedComparison:
    """The question; of a time or a speed no two trainings run side by side, whoever asks."""
    if question.one_at_a_time is OneAtATime.ASKED or not is_speed(question.metric):
        return question
    return question.model_copy(update={"one_at_a_time": OneAtATime.SPEED})


def key_of(question: AskedComparison, config: Config, inputs: TrialInputs) -> str:
    """The key of a comparison: what its trials depend on, and the question as asked, without commits and labels."""
    versions: list[JsonValue] = []
    for version in (question.base, *question.candidates):
        versions.append([version.tree, version.settings])
    parts: dict[str, JsonValue] = {
        "versions": versions,
        "command": TrialCommands.of(config.train.command, config).identity(inputs.user),
        "data": dict(inputs.data_sha256),
        "evaluator": inputs.evaluator_sha256,
        "environment": inputs.environment_identity,
        "containment": inputs.containment,
        "metric": [question.metric, question.direction],
        "delta": question.delta,
        "alpha": question.alpha,
        "require": question.require,
        "confirm": question.confirm,
        "pairs": question.pairs,
    }
    # Added only where it holds, so that comparisons from before are found again.
    if question.one_at_a_time is not None:
        parts["one_at_a_time"] = True
    return files.sha256_of(json.dumps(parts, sort_keys=True))[:KEY]


def stopping_rule(question: AskedComparison) -> StoppingRule:
    return StoppingRule(
        alpha=question.alpha,
        max_pairs=question.pairs,
        confirm_pairs=question.pairs,
        harm=True,
        require=question.require,
    )


def stored_question(path: Path, question: AskedComparison) -> AskedComparison:
    """The question as it was first asked under this key; stored now if this is the first time."""
    if path.exists():
        return AskedComparison.load(path, AskedComparison.FILE)
    files.write_whole(path, question.to_json())
    return question


def trees_of(versions: Sequence[AskedVersion]) -> str:
    """The text that seeds are drawn for."""
    return json.dumps([[version.tree, version.settings] for version in versions], sort_keys=True)
