"""Layouts of repositories: submodules, subfolders, sources below src, programs of make; through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from adoption_kit import adopted, refused, repository
from lab_kit import LabKit

from autolab.errors import GitError
from autolab.lab.git import Change, Git
from autolab.lab.schemas.config import Config
from autolab.verifiers.paths import path_policy

TRAIN = """\
import os

from library.inner.scale import SCALE

SEED = int(os.environ.get("AUTOLAB_SEED", "0"))
print(f"val_loss: {SCALE + SEED % 97 * 0.0001:.6f}")
"""


def add_submodule(kit: LabKit, source: LabKit, name: str) -> None:
    kit.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(source.root), name)
    kit.git("commit", "--quiet", "--message", f"with {name}")


def nested(folder: Path) -> LabKit:
    """A repository whose submodule `library` has one of its own, `inner`; both are checked out."""
    inner = repository(folder / "inner", {"scale.py": "SCALE = 1.0\n"})
    library = repository(folder / "library", {"secret/answers.txt": "hidden\n"})
    add_submodule(library, inner, "inner")
    kit = repository(folder / "mine", {"train.py": TRAIN})
    add_submodule(kit, library, "library")
    return kit


def fetch_submodules(kit: LabKit) -> None:
    kit.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive")


@pytest.mark.process
def test_trials_get_the_files_of_submodules_as_their_commits_have_them(tmp_path: Path) -> None:
    kit = nested(tmp_path)
    line = refused(kit)
    assert "library/inner: a submodule whose commit " in line and "git submodule update --init --recursive" in line
    fetch_submodules(kit)
    # What was changed there and not committed is no part of an export.
    (kit.root / "library" / "inner" / "scale.py").write_text("SCALE = 9.0\n")
    adopted(kit, "--metric", "val_loss")
    measured = kit.autolab("calibrate")
    assert measured.code == 0 and "val_loss 1.00" in measured.out, measured.out + measured.err


@pytest.mark.process
def test_an_export_hides_and_selects_files_of_submodules_too(tmp_path: Path) -> None:
    kit = nested(tmp_path)
    fetch_submodules(kit)
    git, place = Git(kit.root), tmp_path / "exports"
    git.export("HEAD", place / "all", None, ["library/secret"])
    names = sorted(str(path.relative_to(place / "all")) for path in (place / "all").rglob("*") if path.is_file())
    assert names == [".gitmodules", "library/.gitmodules", "library/inner/scale.py", "train.py"]
    git.export("HEAD", place / "one", ["library/inner/scale.py"])
    assert [path.name for path in (place / "one").rglob("*") if path.is_file()] == ["scale.py"]
    # Its `.git` file leads elsewhere: nothing of that repository is read.
    (kit.root / "library" / ".git").write_text(f"gitdir: {tmp_path / 'library' / '.git'}\n")
    with pytest.raises(GitError, match="library: a submodule whose commit"):
        git.export("HEAD", place / "elsewhere")


def test_a_candidate_puts_nothing_into_a_submodule() -> None:
    config = Config.from_value({"metric": {"primary": "a", "direction": "minimize", "success_delta": 1}}, Config.FILE)
    existing = ["library", "train.py", "models/a.py"]
    added = [Change("A", path, "000000", "100644", "", "") for path in ("library/new.py", "models/b.py")]
    moved = [Change("M", "library", "160000", "160000", "", "")]
    messages = [finding.message for finding in path_policy([*added, *moved], config, existing=existing)]
    assert messages == [
        "library/new.py: lies in library, which is a submodule or a file; its files stay as its commit has them",
        "library: submodule; it stays at its commit",
    ]
