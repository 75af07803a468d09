"""Read-only exports of commits: the code that trials run, the evaluator, the data that git holds.

Exports are addressed by git's own object ids and can be made again at any time. Each is sealed when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from autolab import files
from autolab.errors import LabError
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.trial_repository import TrialRepository
from autolab.trials.interpreter import Redirection, spellings
from autolab.trials.seal import Seals
from autolab.trials.seed_constants import SeedConstant


@dataclass(frozen=True)
class CodeExport:
    """One commit's code as trials run it. `imports` is the folder that sends imports of the repository's own package
    to the export; None where the package is not installed. `repository` is the git directory that the export's `.git`
    names; None where trials get none."""

    commit: str
    tree: str
    folder: Path
    imports: Path | None = None
    repository: Path | None = None


class Changing(NamedTuple):
    """What differs in a trial's copy of the code: committed files that it changes or begins without, and other paths
    that it makes."""

    files: tuple[str, ...]
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, config: Config) -> Changing:
        """What `job.training` does to a copy."""
        changed = [SeedConstant.of(entry).file for entry in config.train.seed_constants]
        made = [entry.place for entry in config.data_entries if entry.is_relative and not entry.in_home]
        if config.train.in_copy and config.train.metrics not in ("stdout", "stderr"):
            changed.append(config.train.metrics)
            made.append(config.train.metrics)
        if config.train.in_copy and config.predict is not None and config.predict.model:
            changed.append(config.predict.model)
            made.append(config.predict.model)
        return cls(tuple(changed), tuple(made))


class DataFolder(NamedTuple):
    """A folder of data as trials read it, and the hash of its content: git's, or `Seal.sha256` of the user's own."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Exporter:
    """Exports what `git` holds to `folder`, and seals all that trials share. `root` is the checkout."""

    git: Git
    root: Path
    folder: Path
    seals: Seals

    def code(
        self, commits: Mapping[str, str], hidden: Sequence[str], changing: Changing | None = None
    ) -> dict[str, CodeExport]:
        """The code of each commit (name of the code -> commit), without the paths in `hidden`.

        With `changing`, each is a work tree of a git repository of its own.
        """
        # Another list of hidden paths makes another export of the same tree.
        suffix = files.sha256_of("\n".join(hidden))[:8]
        code = {}
        for name, commit in commits.items():
            tree = self.git.tree(commit)
            folder = self.folder / f"code-{tree}-{suffix}"
            if changing is None:
                self.git.export(commit, folder, None, hidden)
                code[name] = CodeExport(commit, tree, folder)
            else:
                code[name] = self._with_repository(CodeExport(commit, tree, folder), hidden, changing)
            self.seals.add(f"code of the {name}", code[name].folder)
        return code

    def _with_repository(self, plain: CodeExport, hidden: Sequence[str], changing: Changing) -> CodeExport:
        """The export in a folder of its own, whose `.git` names a repository beside it."""
        asked = TrialRepository.of(self.git, plain.commit, changing.files, changing.ignored)
        # The path of the repository stands in the export, so a lab that was moved makes both again.
        key = files.sha256_of(f"{asked.key} {self.folder}")[:8]
        folder = plain.folder.with_name(f"{plain.folder.name}-{key}")
        repository = folder.with_name(f"repository-{folder.name.removeprefix('code-')}")
        self.git.export(plain.commit, folder, None, hidden)
        if not (folder / ".git").exists():
            folder.chmod(0o755)
            files.write_whole(folder / ".git", f"gitdir: {repository}\n", mode=0o444)
            folder.chmod(0o555)
        asked.make(folder, repository)
        self.seals.add(f"repository of {plain.commit[:12]}", repository)
        return replace(plain, folder=folder, repository=repository)

    def with_imports(
        self, code: Mapping[str, CodeExport], redirection: Redirection, python_path: str
    ) -> dict[str, CodeExport]:
        """The exports, each with a folder whose `sitecustomize.py` sends imports from the checkout to it.

        `python_path` is the user's PYTHONPATH. Where nothing would be imported from the checkout, nothing is added.
        """
        roots = spellings(self.root)
        if not redirection and not any(root in python_path for root in roots):
            return dict(code)
        redirected = {}
        for name, export in code.items():
            text = redirection.text(roots, export.folder)
            # Named by its content too, so that another redirection makes another folder.
            digest = files.sha256_of(text)[:8]
            folder = export.folder.with_name(f"imports-{export.folder.name.removeprefix('code-')}-{digest}")
            path = folder / "sitecustomize.py"
            if not path.exists():
                files.write_whole(path, text, mode=0o644)
                # Whatever the umask: if root started the lab, a trial runs as another user.
                folder.chmod(0o755)
            self.seals.add(f"import paths of the {name}", folder)
            redirected[name] = replace(export, imports=folder)
        return redirected

    def data(self, commit: str, path: str, *, may_be_partial: bool = False) -> DataFolder:
        """A data folder as the commit has it, or as it lies on disk if git does not hold it.

        With `may_be_partial` also as it lies on disk if it has files that the commit has not: a committed README beside
        data that git ignores.
        """
        git_object = require_folder(self.git, self.root, commit, path)
        if not git_object or (may_be_partial and self._has_more_files(commit, path)):
            # Read where it lies: data that git does not hold is often too large for a copy.
            folder = self.root / path
            return DataFolder(folder, self.seals.add_own(path, folder))
        # Named by its path too: two splits may hold the same rows.
        digest = files.sha256_of(path)[:8]
        return DataFolder(self._export(commit, path, f"data-{git_object}-{digest}", path), git_object)

    def _has_more_files(self, commit: str, path: str) -> bool:
        """Whether a folder of the checkout has files that the commit has not; hidden ones and caches do not count."""
        committed = set(self.git.files(commit))
        for file in (self.root / path).rglob("*"):
            name = file.relative_to(self.root)
            is_aside = any(part.startswith((".", "__pycache__")) for part in name.parts)
            if not is_aside and file.is_file() and str(name) not in committed:
                return True
        return False

    def file(self, commit: str, path: str, label: str) -> Path:
        """A committed file; `label` is its name in messages. LabError: the commit does not have it."""
        git_object = require_committed(self.git, commit, path)
        return self._export(commit, path, f"file-{git_object}", label)

    def _export(self, commit: str, path: str, name: str, label: str) -> Path:
        folder = self.folder / name
        self.git.export(commit, folder, [path], [])
        self.seals.add(label, folder / path)
        return folder / path


def require_folder(git: Git, root: Path, commit: str, path: str) -> str | None:
    """The folder's object id in the commit; None if it lies on disk alone. LabError: it is in neither."""
    git_object = None
    if not Path(path).is_absolute():
        git_object = git.has_path(commit, path)
    # A single file is data too.
    if not git_object and not (root / path).exists():
        way = "run `python prepare.py` in the lab" if (root / "prepare.py").is_file() else "put the data there"
        raise LabError(f".autolab/config.yaml: {path}: no such file or folder, neither in git nor in the lab; {way}")
    return git_object


def require_committed(git: Git, commit: str, path: str) -> str:
    """The evaluator's object id in the commit; LabError if the commit does not have it."""
    git_object = git.has_path(commit, path)
    if not git_object:
        raise LabError(f".autolab/config.yaml: evaluate.script: {path} is not in commit {commit[:12]}; commit it")
    return git_object
