"""Layouts of repositories: submodules, subfolders, sources below src, programs of make; through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from adoption_kit import adopted, refused, repository
from lab_kit import LabKit

from autolab.errors import GitError
from autolab.lab import trial_python
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


PROGRAM = """\
#include <stdio.h>
#include <stdlib.h>
#define SEED 7
#ifndef LR
#define LR 0.5
#endif
int main(void) {
    srand(SEED);
    printf("val_loss: %f\\n", LR + rand() / (double) RAND_MAX / 100);
    return 0;
}
"""


@pytest.mark.process
def test_a_program_that_make_builds_runs_by_a_line_for_a_shell(tmp_path: Path) -> None:
    makefile = "CFLAGS = -O1 -DLR=0.25\ntrain: train.c\n\t$(CC) $(CFLAGS) -o train train.c\n"
    kit = repository(tmp_path / "mine", {"train.c": PROGRAM, "Makefile": makefile, ".gitignore": "train\n"})
    line = refused(kit, "--train-command", "make && ./train")
    advice = "write sh -c 'make && ./train', or name a committed script"
    assert line.endswith(f"&& is for a shell, and none runs the command; {advice}\n")
    # The advice, as it stands there.
    said = adopted(kit, "--train-command", "sh -c 'make && ./train'", "--metric", "val_loss")
    assert "train.seed_constants  train.c: #define SEED {seed}" in said
    measured = kit.autolab("calibrate")
    assert measured.code == 0 and "val_loss 0.25" in measured.out, measured.out + measured.err


PACKAGE = {
    "src/package/__init__.py": "",
    "src/package/model.py": "SCALE = 1.0\n",
    "src/package/train.py": 'from package.model import SCALE\n\nprint(f"val_loss: {SCALE:.4f}")\n',
}


@pytest.mark.process
def test_modules_below_src_are_found_without_an_installed_package(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", PACKAGE)
    options = ("--probe-seconds", "30", "--train-command", "python -m package.train")
    made = kit.autolab("init", "--from-existing", "--seed", "1", *options)
    assert made.code == 0, made.out + made.err
    assert "it does not find package, which lies in this repository: PYTHONPATH=src is set for it" in made.out
    assert Config.load(kit.root / Config.FILE).train.command == "env PYTHONPATH=src {python} -m package.train"
    assert "note: package: committed" not in made.out


@pytest.mark.process
def test_a_script_behind_a_launchers_module_is_the_program(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": "SEED = 1\nprint(f'val_loss: {SEED}')\n"})
    command = "python -m torch.distributed.run --nproc_per_node 1 train.py"
    assert "train.py: SEED = {seed}" in adopted(kit, "--train-command", command)


SMALL = """\
import argparse

from parts.scale import SCALE

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
seed = parser.parse_args().seed
rows = len(open("data/rows.bin").read())
print(f"val_loss: {SCALE / rows + seed % 97 * 0.0001:.6f}")
"""


def subfolder(kit: LabKit, folder: str) -> LabKit:
    """The same repository as one sees it who works in a folder of it."""
    return LabKit(kit.root / folder, kit.counter)


@pytest.mark.process
def test_a_program_in_a_subfolder_runs_there_and_paths_are_those_of_the_repository(tmp_path: Path) -> None:
    files = {
        "models/small/train.py": SMALL,
        "models/small/lib/parts/scale.py": "SCALE = 2.0\n",
        "eval.py": "",
        "models/small/eval.py": "",
        ".gitignore": "*.bin\n",
    }
    kit = repository(tmp_path / "mine", files)
    small = subfolder(kit, "models/small")
    (small.root / "data").mkdir()
    (small.root / "data" / "rows.bin").write_text("abcd")
    options = ("--seed", "1", "--probe-seconds", "30", "--delta", "0.05")
    made = small.autolab("init", "--from-existing", *options)
    assert made.code == 0, made.out + made.err
    config = Config.load(kit.root / Config.FILE)
    command = "env -C models/small PYTHONPATH=lib {python} train.py --seed {seed}"
    assert (config.train.command, config.data) == (command, "models/small/data")
    assert config.files.frozen[:2] == ("eval.py", "models/small/eval.py")
    assert "next: autolab loop" in made.out and not (small.root / ".autolab").exists()
    measured = small.autolab("calibrate")
    assert measured.code == 0 and "val_loss 0.50" in measured.out, measured.out + measured.err


@pytest.mark.process
def test_a_folder_that_git_does_not_hold_is_no_place_to_adopt(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": "print('val_loss: 1')\n"})
    (kit.root / "own").mkdir()
    ended = subfolder(kit, "own").autolab("init", "--from-existing", "--probe-seconds", "0")
    assert ended.code == 1 and "own: git does not hold this folder of " in ended.err


def test_where_a_command_runs_and_what_a_shell_gets_is_read_from_its_words() -> None:
    words = ["env", "-C", "a/b", "X=1", "sh", "-c", "make && ./train"]
    assert trial_python.env_prefix(words) == words[:4] and trial_python.command_folder(words) == "a/b"
    assert trial_python.shell_line(words) == "make && ./train"
    assert trial_python.env_prefix(["env", "python", "train.py"]) == []
    assert trial_python.command_folder(["env", "X=1", "python"]) == ""
    assert trial_python.shell_line(["bash", "run.sh"]) == ""
