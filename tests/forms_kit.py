"""Small repositories of every form, adopted as their user would: the command line, the first run, seeds, an idea."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_kit import LabKit

from autolab.lab.schemas.config import Config

LR = r"step size \((?:[\w.]+\.)?(?:lr|LR) 0\.1 -> "
"""The first idea for a program whose knob is its learning rate."""


@dataclass(frozen=True)
class Refusal:
    """A command that is refused, and what its user does then.

    `line` is searched in the one line that says why, `listed` in what was printed before it. `done`: the program that
    the line asks for, run in the repository.
    """

    options: str
    line: str
    listed: str = ""
    code: int = 1
    done: str = ""


@dataclass(frozen=True)
class Form:
    """A repository, and the commands that its user gives: those that are refused, then the one that makes the lab.

    `files` are committed, `ignored` lie in the checkout, `outside` beside it. In options and settings `{folder}` is
    that of the checkout and what lies beside it. `prepared` is run in it before the first command.
    """

    files: Mapping[str, str]
    options: str | None = ""
    """Of the command that succeeds; None: there is none."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of config.yaml, by their keys joined with points."""
    refusals: tuple[Refusal, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
    prepared: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    says: str = ""
    """What the command that succeeds prints besides."""
    seeds_differ: bool = True
    idea: str = LR
    """What the built-in researcher's first hypothesis is called; empty: it has no knob here."""


def show(form: Form, folder: Path) -> None:
    """Adopt the repository of a form in a new folder, calibrate it, and ask for an idea; each must do as the form says.

    AssertionError: what it did instead, with all that it printed.
    """
    kit = _make(form, folder / "mine")
    for refusal in form.refusals:
        _refused(kit, form, refusal)
    if form.options is None:
        return
    before = files_of(kit.root)
    made = kit.autolab(*_words(kit, form.options), **_env(kit, form))
    assert made.code == 0 and made.err == "", made.out + made.err
    assert re.search(form.says, made.out), made.out
    after = files_of(kit.root)
    assert {path: after.get(path) for path in before} == before, "the user's files stay as they are"
    _check_settings(kit, form)
    _check_calibration(kit, form)
    _check_idea(kit, form)


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of a checkout, git's own apart; of a link where it leads."""
    content = {}
    for path in root.rglob("*"):
        name = path.relative_to(root)
        if name.parts[0] == ".git":
            continue
        if path.is_symlink():
            content[str(name)] = os.readlink(path).encode()
        elif path.is_file():
            content[str(name)] = path.read_bytes()
    return content


def _make(form: Form, root: Path) -> LabKit:
    root.mkdir(parents=True)
    _write(root, form.files)
    kit = LabKit(root, root.parent / "count.txt")
    kit.git("init", "--quiet", "--initial-branch", "main")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    _write(root, form.ignored)
    _write(root.parent, form.outside)
    if form.prepared:
        _run(kit, form.prepared)
    assert kit.git("status", "--porcelain") == "", "all but what is ignored is committed"
    return kit


def _write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)


def _run(kit: LabKit, line: str) -> None:
    ended = subprocess.run(shlex.split(line), cwd=kit.root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _filled(kit: LabKit, text: str) -> str:
    return text.replace("{folder}", str(kit.root.parent))


def _words(kit: LabKit, options: str) -> list[str]:
    given = shlex.split(_filled(kit, options))
    return ["init", "--from-existing", "--seed", "1", *given]


def _env(kit: LabKit, form: Form) -> dict[str, str]:
    return {name: _filled(kit, value) for name, value in form.env.items()}


def _refused(kit: LabKit, form: Form, refusal: Refusal) -> None:
    before = files_of(kit.root)
    ended = kit.autolab(*_words(kit, refusal.options), **_env(kit, form))
    assert ended.code == refusal.code, ended.out + ended.err
    assert ended.err.count("\n") == 1 and "Traceback" not in ended.out, ended.out + ended.err
    assert re.search(refusal.line, ended.err), ended.err
    assert re.search(refusal.listed, ended.out), ended.out
    assert files_of(kit.root) == before and not kit.store.exists(), "a refusal writes nothing"
    if refusal.done:
        _run(kit, refusal.done)


def _check_settings(kit: LabKit, form: Form) -> None:
    config = Config.load(kit.root / Config.FILE).model_dump()
    for key, expected in form.settings.items():
        value: Any = config
        for part in key.split("."):
            value = value[part]
        if isinstance(expected, str):
            expected = _filled(kit, expected)
        assert value == expected, f"{key}: {value!r}"


def _check_calibration(kit: LabKit, form: Form) -> None:
    """Four trainings: trials read the metric, the same seed gives the same result, and others give another."""
    with (kit.root / Config.FILE).open("a") as file:
        file.write("calibrate: {seeds: 3}\n")
    ended = kit.autolab("calibrate", "--json", **_env(kit, form))
    assert ended.code == 0, ended.out + ended.err
    calibration = json.loads(ended.out)
    assert calibration["deterministic"], ended.out
    assert calibration["seeds_differ"] is form.seeds_differ, ended.out


def _check_idea(kit: LabKit, form: Form) -> None:
    if not form.idea:
        return
    # One idea alone, tested to its end: those of a batch are points between its doses.
    config = kit.root / Config.FILE
    config.write_text(re.sub(r"(?m)^test: \{", "test: {mode: each, ", config.read_text()))
    ended = kit.autolab("run", "--plain", **_env(kit, form))
    assert ended.code == 0 and re.search(rf"\nh1: .*{form.idea}", ended.out), ended.out + ended.err
