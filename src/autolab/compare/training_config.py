"""With which configuration the versions run: the lab's, or what adoption finds out of a repository without a lab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar

from autolab import files
from autolab.adoption.detection import AdoptionRequest
from autolab.adoption.program_probe import ProbeView
from autolab.adoption.questions import Ask
from autolab.adoption.repository import main_checkout
from autolab.errors import LabError, UsageError
from autolab.lab.create import COMPARISONS
from autolab.lab.git import common_dir, find_root
from autolab.lab.git_reader import GitReader
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.record import Record
from autolab.trials.setting_flags import takes_flags

SETTINGS_VARIABLE = "AUTOLAB_CONFIG"
CODE = ("*.py", "*.ipynb", "*.sh", "*.R", "*.jl")
"""Files that may read the variable; documents speak of it."""


class SharedPlaces(Record):
    """Places outside of their own folders that the trainings write to: without containment all of them share these."""

    FILE: ClassVar[str] = ".git/autolab/compare/shared_places.json"

    paths: tuple[str, ...] = ()


class DetectionFlags(Record):
    """The flags with which the training was looked at, as texts, and the folder of the repository it was called in."""

    FILE: ClassVar[str] = ".git/autolab/compare/detection_flags.json"

    flags: dict[str, str]
    folder: str

    @classmethod
    def of(cls, request: AdoptionRequest, folder: str) -> DetectionFlags:
        nothing = type(request)()
        named = {}
        for field in fields(AdoptionRequest):
            value = getattr(request, field.name)
            # The least difference is a part of the question.
            if field.name != "delta" and value != getattr(nothing, field.name):
                named[field.name] = str(value)
        return cls(flags=named, folder=folder)

    def include(self, other: DetectionFlags) -> bool:
        """Whether a look with the other flags would find the same."""
        return self.folder == other.folder and other.flags.items() <= self.flags.items()


def training_config(
    place: Path,
    request: AdoptionRequest,
    tell: Callable[[str], None],
    ask: Ask | None = None,
    view: ProbeView | None = None,
) -> tuple[Path, Config]:
    """The root of the repository at `place`, and its configuration; in a lab its own.

    Outside of a lab the program is tried once and the result is kept; other flags try it again.
    UsageError: flags of the training in a lab. LabError: no git repository; what keeps the training from running.
    """
    root = find_root(place.resolve())
    if root is None:
        raise LabError(f"{place}: not in a git repository; compare takes two of its commits, or the working tree")
    if (common_dir(root) / "autolab" / "head").exists():
        if _names_training(request):
            raise UsageError("compare: this is a lab, whose .autolab/config.yaml has command, metric and data")
        lab = Lab.find(place)
        return lab.root, _with_flags_for_settings(lab.root, lab.config())
    path = common_dir(root) / "autolab" / COMPARISONS / "config.yaml"
    flags = DetectionFlags.of(request, str(place.resolve().relative_to(root)))
    known = _flags(root)
    if not path.exists() or (flags.flags and not (known is not None and known.include(flags))):
        # Only here: it loads most of the engine, for which an answer that is on record must not wait.
        from autolab.adoption.adopt import detect

        tell("looking at the training, once:")
        detection = detect(place, request, tell, ask, view)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The flags last: without them all is looked at again.
        files.write_whole(_places(root), SharedPlaces(paths=detection.shared).to_json())
        files.write_whole(path, detection.text)
        files.write_whole(_flags_path(root), flags.to_json())
    config = Config.load(path, ".git/autolab/compare/config.yaml")
    return root, _with_data_of_main_checkout(root, _with_flags_for_settings(root, config))


def _with_data_of_main_checkout(root: Path, config: Config) -> Config:
    """The configuration; data that a worktree lacks is that of its main checkout, as git copies only what it holds."""
    main, entries = main_checkout(root), []
    if main == root:
        return config
    for entry in config.data_entries:
        is_elsewhere = not entry.lies_outside and not (root / entry.path).exists() and (main / entry.path).exists()
        if is_elsewhere:
            entries.append(entry.model_copy(update={"path": str(main / entry.path), "at": entry.place}))
        else:
            entries.append(entry)
    return config.model_copy(update={"data": tuple(entries)})


def _with_flags_for_settings(root: Path, config: Config) -> Config:
    """The configuration; where no code reads the file of settings, they are flags of the command, and not lost."""
    git = GitReader(root)
    head = git.head()
    if config.train.settings == "flags" or head is None or git.mentions(head, SETTINGS_VARIABLE, CODE):
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"settings": "flags"})})


def places_of(root: Path) -> tuple[str, ...]:
    """The places of `SharedPlaces` that were seen when the training was looked at; a lab's was not."""
    path = _places(root)
    return SharedPlaces.load(path, SharedPlaces.FILE).paths if path.exists() else ()


def _flags(root: Path) -> DetectionFlags | None:
    """The flags of the last look; None: there was none."""
    path = _flags_path(root)
    return DetectionFlags.load(path, DetectionFlags.FILE) if path.exists() else None


def _flags_path(root: Path) -> Path:
    return common_dir(root) / "autolab" / COMPARISONS / "detection_flags.json"


def _places(root: Path) -> Path:
    return common_dir(root) / "autolab" / COMPARISONS / "shared_places.json"


def refuse_settings(config: Config) -> None:
    """UsageError: a setting would not reach the training, and both versions would be the same one."""
    if config.train.settings == "flags" and not takes_flags(config.train.command):
        raise UsageError(
            f"--set: the training command is a line for a shell, which passes no flag on: {config.train.command};"
            """ give it "$@" (sh -c 'make train && ./train "$@"' train), or compare a --patch"""
        )


def _names_training(request: AdoptionRequest) -> bool:
    """Whether a flag says something of the training; `--delta` is a part of the question."""
    return replace(request, delta=None) != type(request)()
