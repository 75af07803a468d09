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


def quotation(folder: Path, config: Config, request: str, *, unlocked: bool = False) -> str:
    """The files below `folder`, which is a commit's, in at most `prompts.LIMITS["files"]` characters.

    `request` is a text that names the files that matter most. `unlocked` as in `verifiers.path_policy`.
    """
    paths = []
    for file in folder.rglob("*"):
        path = str(file.relative_to(folder))
        # A name that cannot be shown as it is could not be named in an answer either.
        is_plain = len(path) <= _LONGEST_NAME and one_line(path) == path
        if is_plain and file.is_file():
            paths.append(path)
    paths.sort()
    sizes = {path: (folder / path).stat().st_size for path in _changeable(paths, config, unlocked)}
    head = f"Files that you may change:\n{_list(sizes)}\n"
    return head + whole_files(folder, _by_relevance(sizes, request), _ROOM - len(head))


def _list(sizes: Mapping[str, int]) -> str:
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
    # The policy checks a change of each file, so that this list and the gate never disagree.
    changes = [Change("M", path, "100644", "100644", "", "") for path in paths]
    findings = path_policy(changes, config, unlocked=unlocked, existing=paths)
    refused = {finding.file for finding in findings if finding.severity == "blocking"}
    data = config.data_in_repository
    return [path for path in paths if path not in refused and not _is_data(PurePosixPath(path), data)]


def _is_data(path: PurePosixPath, data: Collection[str]) -> bool:
    return path.suffix in _DATA or any(path.is_relative_to(folder) for folder in data)


def _by_relevance(sizes: Mapping[str, int], request: str) -> list[str]:
    """The paths worth quoting, the most relevant first."""
    ranks = []
    for path, size in sizes.items():
        if 0 < size <= LONGEST:
            # False sorts before True. The path comes last: files of one size have a fixed order.
            is_source = PurePosixPath(path).suffix in _SOURCE
            ranks.append((not _names(request, path), not is_source, size, path))
    return [path for *_, path in sorted(ranks)]


def _names(text: str, path: str) -> bool:
    """Whether the text names a file, by its path or by its last part."""
    name = re.escape(PurePosixPath(path).name)
    return re.search(rf"(?<![\w.-])(?:{re.escape(path)}|{name})(?![\w-])", text) is not None


def whole_files(folder: Path, paths: Iterable[str], room: int) -> str:
    """The files of these names below `folder`, whole, while there is room; then the names of those that did not fit.

    The first names are taken first, and all are shown in the order of their names: so the same files give the same
    text, whatever they were chosen for, and a service that keeps the beginnings of prompts need not read it again.
    """
    parts: dict[str, str] = {}
    left_out = []
    room -= _ROOM_FOR_NAMES
    for path in paths:
        content = _text(folder / path)
        if content is None:
            continue
        part = f"\n=== {path} ===\n{content.rstrip()}\n"
        # Never a part of a file: an edit must quote text that is there once. A smaller file may still fit.
        if len(part) > room:
            left_out.append(path)
        else:
            parts[path] = part
            room -= len(part)
    text = "".join(parts[path] for path in sorted(parts))
    if not left_out:
        return text
    names = ", ".join(left_out)
    if len(names) > 300:
        names = f"{names[:300]}..."
    return f"{text}\n=== not quoted for want of room: {names} ===\n"


def _text(path: Path) -> str | None:
    """The text of a file; None if the file is not text."""
    content = path.read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
