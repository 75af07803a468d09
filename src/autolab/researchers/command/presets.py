"""Coding agents that are known by name (presets.yaml), and how the words of any command are filled in."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from autolab.errors import ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.record import Record

WITHIN_WORDS = ("prompt_file", "workspace", "stage", "model", "result_file", "time_limit_s", "folder")
WHOLE_WORDS = ("prompt", "files")
"""Placeholders that have to be a word of their own."""

LONGEST_ARGUMENT = 128 * 1024 - 1
"""Bytes that Linux passes on in one argument."""

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_INSERT = """text=$(cat "$AUTOLAB_PROMPT_FILE"); at=$1; shift; n=0
for word; do n=$((n + 1)); [ "$n" = "$at" ] && word=$text; shift; set -- "$@" "$word"; done; exec "$@"
"""


class Preset(Record):
    """A command, and what it needs of the machine that it runs on; presets.yaml says what each field is."""

    command: tuple[str, ...]
    model: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    given: dict[str, str] = Field({})
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    usage: Literal["claude_json", "codex_json", "mini"] | None = None
    install: str = ""
    checked: str = ""


class Presets(Record):
    presets: dict[str, Preset]


@cache
def presets() -> dict[str, Preset]:
    return Presets.load(Path(__file__).with_name("presets.yaml")).presets


def settled(config: ResearcherConfig) -> Preset:
    """What is run for a configuration, with the words for its model. ResearcherError on words that cannot be filled."""
    known = presets().get(config.name)
    preset = known or Preset(command=_split(config.command))
    words = (*preset.command, *(preset.model if config.model is not None else ()))
    named = {name for word in words for name in _names(word)}
    for name in sorted(named - {*WITHIN_WORDS, *WHOLE_WORDS}):
        placeholders = ", ".join(f"{{{one}}}" for one in (*WHOLE_WORDS, *WITHIN_WORDS))
        raise ResearcherError(
            f"researcher: command: {{{name}}} is no placeholder; there are: {placeholders}; {_DOUBLED}"
        )
    for name in WHOLE_WORDS:
        holding = [word for word in words if name in _names(word)]
        if holding and holding != [f"{{{name}}}"]:
            raise ResearcherError(f"researcher: command: {{{name}}} has to stand once, as a word of its own")
    if (config.model is None) == ("model" in named):
        lacks = (
            "{model} stands in it, and no `model:` is given"
            if config.model is None
            else "`model:` has no {model} in it"
        )
        raise ResearcherError(f"researcher: command: {lacks}")
    return preset.model_copy(
        update={
            "command": words,
            "env": (*preset.env, *config.env),
            "reads": (*preset.reads, *config.reads),
            "writes": (*preset.writes, *config.writes),
        }
    )


_DOUBLED = "write a brace that is meant as it stands twice"


def _split(command: str | None) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command or ""))
    except ValueError as error:
        raise ResearcherError(f"researcher: command: {command!r}: {error}") from None
    if not words:
        raise ResearcherError('researcher: command needs `command: "program {prompt_file}"`')
    return words


def _names(word: str) -> list[str]:
    """The placeholders of a word. ResearcherError on a brace that belongs to none."""
    found = list(_PLACEHOLDER.finditer(word))
    if any(match.group() in ("{", "}") for match in found):
        raise ResearcherError(f"researcher: command: {word!r}: a single brace; {_DOUBLED}")
    return [match[1] for match in found if match[1] is not None]


def argv(words: Sequence[str], values: Mapping[str, str], files: Sequence[str]) -> tuple[str, ...]:
    """The words filled in. The prompt is read by a shell as late as the program starts: no place on the way, and none
    that fills placeholders of its own, ever holds it."""
    filled: list[str] = []
    prompt = 0
    for word in words:
        if word == "{files}":
            filled += files
            continue
        if word == "{prompt}":
            prompt = len(filled) + 1
        filled.append(word if word == "{prompt}" else _fill(word, values))
    return ("/bin/sh", "-c", _INSERT, "sh", str(prompt), *filled) if prompt else tuple(filled)


def _fill(word: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]] if match[1] else match.group()[0], word)


def sources(workspace: Path) -> list[str]:
    """The Python files of a workspace, for a program that has to be told of them."""
    found = (path.relative_to(workspace) for path in sorted(workspace.rglob("*.py")) if path.is_file())
    shown = [str(path) for path in found if not any(part.startswith(".") for part in path.parts)]
    return [f"./{name}" if name.startswith("-") else name for name in shown]  # a name is never an option


def program(preset: Preset, name: str, workspace: Path, path: str | None) -> str:
    """Where the command's program lies. ResearcherError, with the way to install it, where it cannot be run."""
    word = preset.command[0]
    found = shutil.which(workspace / word if "/" in word else word, path=path)
    if found is None:
        way = f"; install it: {preset.install}" if preset.install else ""
        raise ResearcherError(f"researcher: {name}: {word}: no such program, or not one that may be run{way}")
    return str(found)


def installation(program: str) -> tuple[str, ...]:
    """What a program needs to see of itself to start: its file, the virtual environment or the node_modules around it,
    and the Python or node that runs these."""
    real = Path(os.path.realpath(program))
    places = [program, str(real)]
    for venv in {Path(program).parent.parent, real.parent.parent}:
        settings = venv / "pyvenv.cfg"
        if settings.is_file():
            home = re.search(r"(?m)^home *= *(.+)$", settings.read_text(encoding="utf-8", errors="replace"))
            places += [str(venv), *([str(Path(os.path.realpath(home[1].strip())).parent)] if home else [])]
    if "node_modules" in real.parts:
        node = shutil.which("node")
        places.append(str(Path(*real.parts[: real.parts.index("node_modules") + 1])))
        places += [node, os.path.realpath(node)] if node else []
    return tuple(places)
