"""Coding agents that have a name (presets.yaml), and how the words of a command are filled in."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from autolab.errors import ResearcherError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.record import Record
from autolab.researchers.command.program_files import program_index
from autolab.sandbox import execute
from autolab.trials import interpreter

WITHIN_WORDS = ("prompt_file", "workspace", "stage", "model", "result_file", "time_limit_s", "folder")
WHOLE_WORDS = ("prompt", "files")
"""Placeholders that must be a word of their own."""

LONGEST_ARGUMENT = 128 * 1024 - 1
"""Bytes that Linux passes on in one argument."""

_PYTHON = re.compile(r"(python|pypy)(\d+(\.\d+)*)?")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_INSERT = """text=$(cat "$AUTOLAB_PROMPT_FILE"); at=$1; shift; n=0
for word; do n=$((n + 1)); [ "$n" = "$at" ] && word=$text; shift; set -- "$@" "$word"; done; exec "$@"
"""


class Preset(Record):
    """A command, and what it needs of the machine; presets.yaml describes the fields."""

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


def effective_preset(config: ResearcherConfig) -> Preset:
    """The command and its needs for a configuration. ResearcherError: a word of the command cannot be filled in."""
    preset = presets().get(config.name) or Preset(command=split_command(config.command))
    words = preset.command
    if config.model is not None:
        words += preset.model
    _require_placeholders(words, config.model)
    return preset.model_copy(
        update={
            "command": words,
            "env": (*preset.env, *config.env),
            "reads": (*preset.reads, *config.reads),
            "writes": (*preset.writes, *config.writes),
        }
    )


def _require_placeholders(words: Sequence[str], model: str | None) -> None:
    uses: dict[str, list[str]] = {}
    for word in words:
        for name in _names(word):
            uses.setdefault(name, []).append(word)
    placeholders = (*WHOLE_WORDS, *WITHIN_WORDS)
    for name in sorted(uses.keys() - set(placeholders)):
        names = ", ".join(f"{{{placeholder}}}" for placeholder in placeholders)
        raise ResearcherError(f"researcher: command: {{{name}}} is no placeholder; known: {names}; {_DOUBLED}")
    for name in WHOLE_WORDS:
        # A prompt inside another word could not be passed on by the shell; file names are a word each.
        if name in uses and uses[name] != [f"{{{name}}}"]:
            raise ResearcherError(f"researcher: command: {{{name}}} must occur once, as a word of its own")
    if model is None and "model" in uses:
        raise ResearcherError("researcher: command: it uses {model}, and no `model:` is given")
    # A model that the command ignores would stand in the record as the one that wrote the code.
    if model is not None and "model" not in uses:
        raise ResearcherError("researcher: command: `model:` is given, and the command does not use {model}")


_DOUBLED = "to write a brace as it is, double it"


def split_command(command: str | None) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command or ""))
    except ValueError as error:
        raise ResearcherError(f"researcher: command: {command!r}: {error}") from None
    if not words:
        raise ResearcherError('researcher: command needs `command: "program {prompt_file}"`')
    return words


def _names(word: str) -> list[str]:
    """The placeholders of a word. ResearcherError: it has a brace that belongs to none."""
    names = []
    for match in _PLACEHOLDER.finditer(word):
        # A lone brace is a typing error more often than text; doubled it is text without doubt.
        if match.group() in ("{", "}"):
            raise ResearcherError(f"researcher: command: {word!r}: a single brace; {_DOUBLED}")
        if match[1] is not None:
            names.append(match[1])
    return names


def argv(words: Sequence[str], values: Mapping[str, str], files: Sequence[str]) -> tuple[str, ...]:
    """The words filled in.

    A shell puts the prompt in its place just before the program starts. So no file on the way holds it, and nothing
    that fills placeholders of its own ever sees it.
    """
    arguments: list[str] = []
    prompt_position = 0
    for word in words:
        if word == "{files}":
            arguments += files
        elif word == "{prompt}":
            arguments.append(word)
            prompt_position = len(arguments)
        else:
            arguments.append(_fill(word, values))
    if not prompt_position:
        return tuple(arguments)
    return ("/bin/sh", "-c", _INSERT, "sh", str(prompt_position), *arguments)


def _fill(word: str, values: Mapping[str, str]) -> str:
    # In one pass, so that a value with braces in it is not filled in again; a doubled brace becomes one.
    return _PLACEHOLDER.sub(lambda match: values[match[1]] if match[1] else match.group()[0], word)


def sources(workspace: Path) -> list[str]:
    """The Python files of a workspace, for a program that needs their names; files in hidden folders are left out."""
    names = []
    for path in sorted(workspace.rglob("*.py")):
        relative = path.relative_to(workspace)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not path.is_file():
            continue
        name = str(relative)
        # A name must not be read as an option.
        if name.startswith("-"):
            name = f"./{name}"
        names.append(name)
    return names


@dataclass(frozen=True)
class StartedProgram:
    """How a command's program is started in a sandbox: its first words, and what it reads and must not read there."""

    words: tuple[str, ...]
    reads: tuple[str, ...]
    covers: tuple[str, ...] = ()


def program(preset: Preset, name: str, workspace: Path, path: str | None) -> str:
    """The path of the command's program. ResearcherError, with the way to install it: it cannot be run."""
    words = preset.command
    word = words[program_index(words)]
    # A path is one in the workspace, which is where the program runs; a name is looked up on PATH.
    executable = shutil.which(workspace / word if "/" in word else word, path=path)
    if executable is None:
        way = f"; install it: {preset.install}" if preset.install else ""
        raise ResearcherError(f"researcher: {name}: {word}: no such program, or not one that may be run{way}")
    return str(executable)


def started_program(word: str, executable: str, lab: Path | None, path: str | None) -> StartedProgram:
    """How the program `executable`, which the command calls `word`, is started, with all that it needs to see.

    A Python that is only named (`python3`, also after `#!/usr/bin/env`) may be a script that looks for it, as those of
    pyenv are. So that Python itself is asked where it is, and started. LabError: it does not start.
    """
    reads = installation(executable)
    if _is_python(executable):
        python = _python(executable, lab)
        return StartedProgram(python.words, (*reads, *python.reads), python.covers)
    runner, *options = _first_line(executable)
    if os.path.basename(runner) == "env":
        named = [option for option in options if option != "-S"]
        runner, options = (shutil.which(named[0], path=path) if named else None) or "", named[1:]
    if not runner:
        return StartedProgram((word,), reads)
    if not _is_python(runner):
        return StartedProgram((word,), (*reads, *installation(runner)))
    python = _python(runner, lab)
    return StartedProgram((*python.words, *options, executable), (*reads, *python.reads), python.covers)


def _first_line(executable: str) -> list[str]:
    """The words behind `#!` in a script's first line; an empty word if it has none."""
    with open(executable, "rb") as file:
        start = file.read(512)
    if not start.startswith(b"#!"):
        return [""]
    return os.fsdecode(start[2:].partition(b"\n")[0]).split() or [""]


def _is_python(program: str) -> bool:
    return _PYTHON.fullmatch(os.path.basename(program)) is not None


def _python(program: str, lab: Path | None) -> StartedProgram:
    """The Python behind a name, and what it reads: its environment and what is installed in that from elsewhere."""
    # That of a virtual environment is none that looks for another; its settings say what it needs.
    if (Path(program).parent.parent / "pyvenv.cfg").is_file():
        return StartedProgram((program,), installation(program))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "python.txt"
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        argv = [program, "-I", "-c", "import sys; print(sys.executable)"]
        ended = execute.run(argv, log.parent, environment, log, interpreter.ANSWER_LIMIT_S)
        executable = os.fsdecode(log.read_bytes().strip().rpartition(b"\n")[2])
    if not ended.ok or not os.path.isfile(executable):
        raise ResearcherError(f"researcher: {program}: this Python does not start: {ended.last_line or 'no message'}")
    # Without a lab there is nothing that it must not see.
    places = interpreter.places(Path(executable), lab or Path(os.devnull))
    return StartedProgram((executable,), (executable, *places.reads), places.covers)


def installation(program: str) -> tuple[str, ...]:
    """What a program needs to see of itself to start.

    Its file, the virtual environment or the node_modules around it, and the Python or node that runs these.
    """
    real = Path(os.path.realpath(program))
    places = [program, str(real)]
    # The program may be a link into a virtual environment, or lie in one: look around both.
    for venv in {Path(program).parent.parent, real.parent.parent}:
        settings = venv / "pyvenv.cfg"
        if not settings.is_file():
            continue
        places.append(str(venv))
        home = re.search(r"(?m)^home *= *(.+)$", settings.read_text(encoding="utf-8", errors="replace"))
        if home:
            places.append(os.path.dirname(os.path.realpath(home[1].strip())))
    if "node_modules" in real.parts:
        depth = real.parts.index("node_modules") + 1
        places.append(str(Path(*real.parts[:depth])))
        node = shutil.which("node")
        if node:
            places += [node, os.path.realpath(node)]
    return tuple(places)
