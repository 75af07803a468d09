"""The lab's own source, as a chat model needs it to write edits: what there is, and as much of it as fits.

First a list of the files that a candidate may change, with their sizes, then whole files: those that the hypothesis
or the design names, then source, the smallest first. Data, pictures and other files that are no text are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from autolab.lab.git import Change
from autolab.lab.schemas.config import Config
from autolab.researchers import prompts
from autolab.text import one_line
from autolab.verifiers.paths import path_policy

LONGEST = 64 * 1024
"""Bytes of a file that could be quoted; a larger one is not source that a user wrote."""
_ROOM = prompts.LIMITS["files"]
_NAMES = 150
"""Characters that a path may take."""
_SOURCE = frozenset((".py", ".sh", ".toml", ".yaml", ".yml", ".json", ".cfg", ".ini"))
_DATA = frozenset((".csv", ".jsonl", ".npy", ".npz", ".parquet", ".pt", ".safetensors", ".tsv"))


def told(folder: Path, config: Config, wanted: str, *, unlocked: bool = False) -> str:
    """The files below `folder`, which is a commit's, in at most `prompts.LIMITS["files"]` characters.

    `wanted` is text in which files are named that matter most. `unlocked` as in `verifiers.path_policy`.
    """
    # A name that cannot be shown as it is could not be named in an answer either.
    paths = [path for path in _files(folder) if len(path) <= _NAMES and one_line(path) == path]
    mine = _changeable(paths, config, unlocked)
    sizes = {path: (folder / path).stat().st_size for path in mine}
    head = f"Files that you may change:\n{_listed(sizes)}\n"
    return head + _quoted(folder, _ordered(sizes, wanted), _ROOM - len(head))


def _listed(sizes: Mapping[str, int]) -> str:
    """A line a file, as many as half of the room holds."""
    lines: list[str] = []
    room = _ROOM // 2
    for path, size in sizes.items():
        line = f"{path} ({size:,} bytes)"
        room -= len(line) + 1
        if room < 0:
            return "\n".join([*lines, f"and {len(sizes) - len(lines)} more"])
        lines.append(line)
    return "\n".join(lines)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _changeable(paths: Collection[str], config: Config, unlocked: bool) -> list[str]:
    """Those that a candidate may change, data left out."""
    data = [PurePosixPath(config.data)] if config.data else []
    changes = [Change("M", path, "100644", "100644", "", "") for path in paths]
    found = path_policy(changes, config, unlocked=unlocked, existing=paths)
    refused = {finding.file for finding in found if finding.severity == "blocking"}
    return [path for path in paths if path not in refused and not _is_data(path, data)]


def _is_data(path: str, data: Iterable[PurePosixPath]) -> bool:
    pure = PurePosixPath(path)
    return pure.suffix in _DATA or any(pure.is_relative_to(place) for place in data)


def _ordered(sizes: Mapping[str, int], wanted: str) -> list[str]:
    """The paths worth quoting, the most relevant first."""

    def rank(path: str) -> tuple[bool, bool, int, str]:
        return not _named(path, wanted), PurePosixPath(path).suffix not in _SOURCE, sizes[path], path

    return sorted((path for path in sizes if 0 < sizes[path] <= LONGEST), key=rank)


def _named(path: str, text: str) -> bool:
    """Whether the text names a file, by its path or by its own name."""
    names = {re.escape(path), re.escape(PurePosixPath(path).name)}
    return re.search(rf"(?<![\w.-])(?:{'|'.join(sorted(names))})(?![\w-])", text) is not None


def _quoted(folder: Path, paths: Iterable[str], room: int) -> str:
    """Whole files as long as there is room, and the names of those for which there was none."""
    parts, left_out = [], []
    room -= 400  # for the names of what is left out
    for path in paths:
        text = _text(folder / path)
        if text is None:
            continue
        part = f"\n=== {path} ===\n{text.rstrip()}\n"
        if len(part) > room:
            left_out.append(path)
            continue
        room -= len(part)
        parts.append(part)
    names = ", ".join(left_out)
    short = names if len(names) <= 300 else f"{names[:300]}..."
    return "".join(parts) + (f"\n=== not quoted for want of room: {short} ===\n" if left_out else "")


def _text(path: Path) -> str | None:
    """The text of a file; None for one that is none."""
    raw = path.read_bytes()
    try:
        return None if b"\0" in raw else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
