"""The versions of a training that are compared: commits, the working tree, patches, and settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from autolab.adoption.repository import distrust
from autolab.errors import GitError, LabError, RecordError, UsageError
from autolab.lab.git import Git, find_root
from autolab.lab.schemas.record import parse_yaml

WORKING_TREE, ITSELF = "working tree", "itself"
_NOTHING = b"""\
diff --git a/.autolab-aa b/.autolab-aa
new file mode 100644
index 0000000..e69de29
"""
"""An empty file more: another tree, so that a version runs beside itself, and the same training."""
_MESSAGE = "autolab compare"
SHORT = 12
"""Characters of a commit's id where a reader sees it."""
_ARM_NAME = 24
_NAME = re.compile(r"[^A-Za-z0-9]+")
_SETTING = re.compile(r"([A-Za-z_][\w.-]*)=(.+)", re.S)


@dataclass(frozen=True)
class Version:
    """One version of the code and of its settings.

    `name` is that of its arm, `label` what the user calls it. `commit` may be on no branch. `tree` is that of its
    files: equal trees are equal code. `words` name it on a command line, wherever that is; none for the working tree.
    """

    name: str
    label: str
    commit: str
    tree: str
    settings: dict[str, JsonValue] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def same_training(self, other: Version) -> bool:
        return (self.tree, self.settings) == (other.tree, other.settings)


@dataclass(frozen=True)
class VersionRequest:
    """What the user names: revisions, patches against the base, and one set of settings `KEY=VALUE`.

    With `aa` the base is compared with itself, and nothing else is named.
    """

    base: str
    candidates: tuple[str, ...] = ()
    patches: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    aa: bool = False


def open_checkout(place: Path) -> Git:
    """The repository whose versions are compared. LabError: there is none, or none with a commit that git trusts."""
    root = find_root(place.resolve())
    if root is None and (place / "objects").is_dir() and (place / "HEAD").is_file():
        raise LabError(f"{place.resolve()}: a bare repository, which has no checkout; git clone it, and compare there")
    if root is None:
        raise LabError(f"{place}: not in a git repository; compare takes two of its commits, or the working tree")
    git = Git(root)
    if git.distrusted():
        raise LabError(distrust(root))
    if git.head() is None:
        raise LabError(f"{root}: has no commit yet, and versions are compared with one: commit the training program")
    return git


def resolve(
    git: Git, request: VersionRequest, as_committed: Callable[[str], bool] = lambda path: False
) -> tuple[Version, list[Version]]:
    """The base and the candidates; without any named, the working tree.

    `as_committed`: paths of the working tree whose changes make no other version.
    UsageError: a revision is unknown, a setting or a patch cannot be read, or a candidate is the base itself.
    GitError: a patch does not apply; the working tree cannot be a commit.
    """
    base = _of_revision(git, request.base, "baseline")
    if request.aa:
        if request.candidates or request.patches or request.settings:
            raise UsageError("--aa: compares BASE with itself; leave the other versions out")
        commit = git.commit_of_patch(base.commit, _NOTHING, _MESSAGE)
        return base, [Version("itself", ITSELF, commit.sha, commit.tree, words=("--aa",))]
    candidates: list[Version] = []
    for revision in request.candidates:
        candidates.append(_of_revision(git, revision, _arm(revision, candidates)))
    for patch in request.patches:
        candidates.append(_of_patch(git, base, patch, _arm(patch.stem, candidates)))
    if request.settings:
        settings = settings_of(request.settings)
        label = " ".join(request.settings)
        words = ("--set", *request.settings)
        candidates.append(Version(_arm(label, candidates), label, base.commit, base.tree, settings, words))
    if not candidates:
        _refuse_conflicts(git)
        commit = git.commit_of_checkout(_MESSAGE, as_committed)
        candidates.append(Version("candidate", WORKING_TREE, commit.sha, commit.tree))
    for candidate in candidates:
        if candidate.same_training(base):
            raise UsageError(_nothing_to_compare(candidate, base))
    return base, candidates


def _refuse_conflicts(git: Git) -> None:
    conflicts = git.unmerged()
    if conflicts:
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        raise UsageError(
            f"compare: {conflicts[0]}{more}: unmerged in the working tree; resolve the conflict, or name a version"
        )


def _nothing_to_compare(candidate: Version, base: Version) -> str:
    if candidate.label == WORKING_TREE:
        return f"compare: the working tree has no change against {base.label}; name a version, --patch or --set"
    return f"compare: {candidate.label} has the files of {base.label}; --aa compares a version with itself"


def _of_revision(git: Git, revision: str, name: str) -> Version:
    commit = git.resolve(revision)
    if commit is None and git.is_shallow():
        raise UsageError(
            f"compare: {revision!r} names no commit here, and this clone lacks older ones: git fetch --unshallow"
        )
    if commit is None:
        raise UsageError(f"compare: {revision!r} names no commit here; git log --oneline --all shows those there are")
    return Version(name, revision, commit, git.tree(commit), words=(commit[:SHORT],))


def _of_patch(git: Git, base: Version, patch: Path, name: str) -> Version:
    try:
        text = patch.read_bytes()
    except OSError as error:
        raise UsageError(f"--patch: {patch} cannot be read: {error.strerror}") from None
    try:
        commit = git.commit_of_patch(base.commit, text, _MESSAGE)
    except GitError as error:
        raise GitError(f"--patch: {patch} does not apply to {base.label}: {error}") from None
    return Version(name, patch.name, commit.sha, commit.tree, words=("--patch", patch.name))


def settings_of(words: Sequence[str]) -> dict[str, JsonValue]:
    """Settings from words `KEY=VALUE`, each value read as YAML. UsageError: a word that is none, or a value."""
    settings: dict[str, JsonValue] = {}
    for word in words:
        match = _SETTING.fullmatch(word)
        if match is None:
            raise UsageError(f"--set: {word!r} is not KEY=VALUE, such as lr=0.003")
        if match[1] in settings:
            raise UsageError(f"--set: {match[1]} is given twice; all settings together make one candidate")
        try:
            settings[match[1]], _ = parse_yaml(match[2], "--set")
        except RecordError as error:
            raise UsageError(f"{error} ({word!r})") from None
    return settings


def _arm(label: str, others: Sequence[Version]) -> str:
    """The name of an arm: letters, digits and dashes, none twice."""
    name = _NAME.sub("-", label).strip("-").lower()
    if len(name) > _ARM_NAME:
        # The end says more: a setting's value comes last.
        name = name[-_ARM_NAME:].strip("-")
    name = name or "candidate"
    taken = {"baseline", *(other.name for other in others)}
    number = 2
    unique = name
    while unique in taken:
        unique = f"{name}-{number}"
        number += 1
    return unique
