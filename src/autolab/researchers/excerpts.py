"""The lab's own source, as a chat model needs it to write edits: which files there are, and as many of them as fit.

First a list of the files that a candidate may change, with their sizes; then whole files: those that the hypothesis or
the design names, then source, the smallest first. Data, pictures and other files that are not text are left out.
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
"""Bytes of a file that may be quoted; a larger file is not source that a user wrote."""
_ROOM = prompts.LIMITS["files"]
_ROOM_FOR_NAMES = 400
"""Characters kept free for the names of files that are not quoted."""
_LONGEST_NAME = 150
_SOURCE = frozenset((".py", ".sh", ".toml", ".yaml", ".yml", ".json", ".cfg", ".ini"))
_DATA = frozenset((".csv", ".jsonl", ".npy", ".npz", ".parquet", ".pt", ".safetensors", ".tsv"))


def told(folder: Path, config: Config, wanted: str, *, unlocked: bool = False) -> str:
    """The files below `folder`, which is a commit's, in at most `prompts.LIMITS["files"]` characters.

    `wanted` is a text that names the files that matter most. `unlocked` as in `verifiers.path_policy`.
    """
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    # A name that cannot be shown as it is could not be named in an answer either.
    paths = [path for path in paths if len(path) <= _LONGEST_NAME and one_line(path) == path]
    sizes = {path: (folder / path).stat().st_size for path in _changeable(paths, config, unlocked)}
    head = f"Files that you may change:\n{_listed(sizes)}\n"
    return head + _quoted(folder, _ordered(sizes, wanted), _ROOM - len(head))


def _listed(sizes: Mapping[str, int]) -> str:
    """One line a file, in at most half of the room."""
    lines: list[str] = []
    room = _ROOM // 2
    for path, size in sizes.items():
        line = f"{path} ({size:,} bytes)"
        room -= len(line) + 1
        if room < 0:
            lines.append(f"and {len(sizes) - len(lines)} more")
            break
        lines.append(line)
    return "\n".join(lines)


def _changeable(paths: Collection[str], config: Config, unlocked: bool) -> list[str]:
    """The files that a candidate may change, without data."""
    changes = [Change("M", path, "100644", "100644", "", "") for path in paths]
    findings = path_policy(changes, config, unlocked=unlocked, existing=paths)
    # The policy is asked as for a change of each file, so that this list and the gate never disagree.
    refused = {finding.file for finding in findings if finding.severity == "blocking"}
    return [path for path in paths if path not in refused and not _is_data(PurePosixPath(path), config.data)]


def _is_data(path: PurePosixPath, data: str | None) -> bool:
    return path.suffix in _DATA or (data is not None and path.is_relative_to(data))


def _ordered(sizes: Mapping[str, int], wanted: str) -> list[str]:
    """The paths worth quoting, the most relevant first."""

    def rank(path: str) -> tuple[bool, bool, int, str]:
        return not _names(wanted, path), PurePosixPath(path).suffix not in _SOURCE, sizes[path], path

    return sorted((path for path, size in sizes.items() if 0 < size <= LONGEST), key=rank)


def _names(text: str, path: str) -> bool:
    """Whether the text names a file, by its path or by its last part."""
    name = re.escape(PurePosixPath(path).name)
    return re.search(rf"(?<![\w.-])(?:{re.escape(path)}|{name})(?![\w-])", text) is not None


def _quoted(folder: Path, paths: Iterable[str], room: int) -> str:
    """Whole files while there is room, then the names of the files that did not fit."""
    quoted, left_out = "", []
    room -= _ROOM_FOR_NAMES
    for path in paths:
        text = _text(folder / path)
        if text is None:
            continue
        part = f"\n=== {path} ===\n{text.rstrip()}\n"
        if len(quoted) + len(part) > room:
            left_out.append(path)  # a smaller file may still fit
        else:
            quoted += part
    if not left_out:
        return quoted
    names = ", ".join(left_out)
    if len(names) > 300:
        names = f"{names[:300]}..."
    return f"{quoted}\n=== not quoted for want of room: {names} ===\n"


def _text(path: Path) -> str | None:
    """The text of a file; None if the file is not text."""
    content = path.read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
