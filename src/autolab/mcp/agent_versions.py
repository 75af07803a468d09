"""The two versions that an agent asks about, read at once: what is edited afterwards is another version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from autolab.compare.versions import Version, VersionRequest, resolve, settings_of
from autolab.errors import GitError, UsageError
from autolab.lab.git import Git


@dataclass(frozen=True)
class AgentVersions:
    """What an agent names: at most one of `candidate`, a revision, and `patch`, the text of a patch against `base`.

    `settings` alone are those of the base's own code; without anything it is the working tree.
    """

    base: str
    candidate: str = ""
    patch: str = ""
    settings: Mapping[str, JsonValue] = field(default_factory=dict)

    def read(self, git: Git) -> tuple[Version, Version]:
        """Base and candidate. UsageError, GitError: which of them is not there, or that they are the same."""
        if self.candidate and self.patch:
            raise UsageError("compare: candidate and patch name two versions; give one of them")
        words = settings_words(self.settings)
        settings = settings_of(words)
        if self.patch:
            base, other = self._patched(git)
        elif self.candidate:
            base, (other,) = resolve(git, VersionRequest(self.base, (self.candidate,)))
        else:
            base, (other,) = resolve(git, VersionRequest(self.base, settings=words))
            # Either the working tree or, with settings, the base's own code.
            return base, other
        if words:
            other = replace(other, label=f"{other.label}, {' '.join(words)}", settings=settings)
        return base, other

    def _patched(self, git: Git) -> tuple[Version, Version]:
        commit = git.resolve(self.base)
        if commit is None:
            way_out = "git log --oneline --all shows those there are"
            raise UsageError(f"base: {self.base!r} names no commit here; {way_out}")
        base = Version("baseline", self.base, commit, git.tree(commit))
        try:
            made = git.commit_of_patch(commit, patch_bytes(self.patch), "autolab compare")
        except GitError as error:
            raise GitError(f"patch: it does not apply to {self.base}: {error}") from None
        other = Version("candidate", "patch", made.sha, made.tree)
        if other.same_training(base):
            raise UsageError(f"patch: it leaves the files of {self.base} as they are")
        return base, other


def settings_words(settings: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Settings as `--set` takes them: `lr=0.003`."""
    return tuple(f"{name}={json.dumps(value)}" for name, value in settings.items())


def patch_bytes(patch: str) -> bytes:
    # A patch that was pasted may lack its last line feed, without which git does not read it.
    return f"{patch.rstrip(chr(10))}\n".encode(errors="surrogateescape")
