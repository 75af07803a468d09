"""With which configuration the versions of an agent are trained: the repository's, always contained at full."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autolab import files
from autolab.adoption.detection import AdoptionRequest
from autolab.compare.training_config import training_config
from autolab.errors import LabError
from autolab.lab.create import COMPARISONS
from autolab.lab.git import common_dir
from autolab.lab.schemas.config import Config
from autolab.trials import containment

LEVEL = "full"
_WHAT_COUNTS = ("train", "metric", "predict", "evaluate", "data", "executor")


@dataclass(frozen=True)
class AgentTraining:
    """`root`: the repository. `request`: what the user says of the training, `nothing`: a request that says nothing.

    An agent has no word in it: whoever starts the server says how a version is trained and judged.
    """

    root: Path
    request: AdoptionRequest
    nothing: AdoptionRequest

    @property
    def store(self) -> Path:
        return common_dir(self.root) / "autolab"

    @property
    def is_lab(self) -> bool:
        return (self.store / "head").exists()

    def identity(self) -> str:
        """Of how a version is trained and judged, by hash; empty if the training was not looked at yet."""
        if not self.is_lab and not self._config_path.exists():
            return ""
        if self._is_said_anew():
            return files.sha256_of(repr(self.request))
        _, config = training_config(self.root, self.nothing, _silent)
        return _identity(config)

    def config(self, tell: Callable[[str], None]) -> tuple[Config, str]:
        """The configuration and its identity. The first time outside of a lab the training is tried, for a minute.

        UsageError, LabError: what keeps it from running, and which flag of `autolab mcp` says more; or this machine
        cannot contain it.
        """
        able = containment.ability(self.store / COMPARISONS)
        if able.level != LEVEL:
            reason = f"containment: {LEVEL} cannot be had here, and an agent's code runs at no other: {able.why}"
            raise LabError(f"{reason}; {able.way}")
        is_said = self._is_said_anew()
        _, config = training_config(self.root, self.request if is_said else self.nothing, tell)
        if is_said:
            files.write_whole(self._said_path, repr(self.request))
        return config.model_copy(update={"containment": LEVEL}), _identity(config)

    @property
    def _config_path(self) -> Path:
        return self.store / COMPARISONS / "config.yaml"

    @property
    def _said_path(self) -> Path:
        return self.store / COMPARISONS / "queue" / "flags.txt"

    def _is_said_anew(self) -> bool:
        """Whether the flags say something that the stored configuration was not made with."""
        if self.request == self.nothing:
            return False
        return not self._said_path.exists() or self._said_path.read_text(encoding="utf-8") != repr(self.request)


def _identity(config: Config) -> str:
    value = config.value()
    return files.sha256_of(json.dumps({name: value.get(name) for name in _WHAT_COUNTS}, sort_keys=True))


def _silent(line: str) -> None:
    pass
