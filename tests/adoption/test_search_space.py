"""What init says of ideas: the settings that the built-in researcher can change, or who else can look for some."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from autolab.adoption.repository import Repository
from autolab.adoption.search_space import search_space
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config


class OneScript:
    """A git that holds train.py."""

    def __init__(self, script: str) -> None:
        self._script = script

    def text(self, commit: str, path: str) -> str | None:
        return self._script if path == "train.py" else None


def line(tmp_path: Path, script: str, researcher: str = "offline") -> str:
    metric = {"primary": "val_loss", "direction": "minimize", "success_delta": 0.01}
    value = {"metric": metric, "train": {"command": "python train.py"}, "researcher": {"name": researcher}}
    config = Config.from_value(value, Config.FILE)
    return search_space(Repository(tmp_path, cast(Git, OneScript(script)), "", ()), config)


def test_the_first_settings_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    names = [f"lr{number}" for number in range(10)]
    script = "".join(f"{name} = 0.1\n" for name in names) + f"fit({', '.join(names)})\n"
    assert line(tmp_path, script) == (
        f"the built-in researcher can change {', '.join(names[:8])} and 2 more; a model or a coding agent can change"
        " all of the code"
    )


def test_a_program_without_a_known_setting_is_for_a_model_or_an_agent(tmp_path: Path) -> None:
    said = line(tmp_path, "print('val_loss: 1')\n")
    assert said.startswith("the built-in researcher finds no setting that it knows in the files that `python train.py`")
    assert "--model openai:NAME" in said and "--researcher claude" in said


@pytest.mark.parametrize("script", ["lr = 0.1\nfit(lr)\n", ""])
def test_another_researcher_needs_no_line(tmp_path: Path, script: str) -> None:
    assert line(tmp_path, script, researcher="scripted") == ""
