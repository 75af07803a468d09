"""Settings of an arm as flags of the training's command, for programs that read no settings file. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pydantic import JsonValue

from autolab.lab.trial_python import env_prefix

_KEY_VALUE = re.compile(r"\+*[A-Za-z_][\w.-]*=.*", re.S)
_SHELLS = ("sh", "bash", "dash", "zsh")
_ARGUMENT = re.compile(r"\$(?:[@*1-9]|\{[@*1-9]\})")


def with_flags(words: Sequence[str], settings: Mapping[str, JsonValue]) -> list[str]:
    """The command's words with each setting in place of the flag of its name, or behind all others.

    A flag is written as the command writes others: `--lr=0.1`, `--lr 0.1`, or `lr=0.1` as Hydra has it. Dashes and
    underscores are the same in a name.
    """
    # What stands before the program belongs to its environment.
    prefix = env_prefix(words)
    changed = list(words[len(prefix) :])
    for name, value in settings.items():
        _put(changed, name, _text(value))
    return [*prefix, *changed]


def takes_flags(command: str) -> bool:
    """Whether what is added to the command reaches the training: a line for a shell, `sh -c '...'`, gets none of it."""
    words = shlex.split(command)
    words = words[len(env_prefix(words)) :]
    if len(words) < 3 or PurePosixPath(words[0]).name not in _SHELLS or not words[1].startswith("-"):
        return True
    return not words[1].endswith("c") or _ARGUMENT.search(words[2]) is not None


def _put(words: list[str], name: str, value: str) -> None:
    for index, word in enumerate(words):
        head, equals, _ = word.partition("=")
        if _plain(head) != _plain(name) or not (equals or head.startswith("-")):
            continue
        if equals:
            words[index] = f"{head}={value}"
        elif index + 1 < len(words):
            words[index + 1] = value
        else:
            words.append(value)
        return
    has_flags = any(word.startswith("--") for word in words)
    if not has_flags and any(_KEY_VALUE.fullmatch(word) for word in words):
        words.append(f"{name}={value}")
    else:
        words.append(f"--{name.lstrip('-')}={value}")


def _plain(name: str) -> str:
    return name.lstrip("-+").replace("-", "_")


def _text(value: JsonValue) -> str:
    """As a person would write it on a command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    return json.dumps(value)
