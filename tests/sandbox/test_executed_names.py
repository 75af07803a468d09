"""What a training leaves is never run by git or pytest on the host, in a template's lab and in an adopted one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from lab_kit import LabKit, implementation, iteration, make_lab, script

from autolab.lab import pytest_guard
from autolab.sandbox.executed_names import not_a_result, runs_by_itself

LEFT = {
    ".git/HEAD": "ref: refs/heads/main\n",
    ".git/config": "[core]\n\trepositoryformatversion = 0\n\tfsmonitor = CANARY\n",
    ".git/objects/x": "",
    ".git/refs/x": "",
    "HEAD": "ref: refs/heads/main\n",
    "config": "[core]\n\tfsmonitor = CANARY\n\tworktree = .\n",
    "objects/x": "",
    "refs/x": "",
    "conftest.py": "open(CANARY_PATH, 'w')\n",
    "test_x.py": "open(CANARY_PATH, 'w')\n",
    "pytest.ini": "[pytest]\n",
    ".envrc": "CANARY\n",
    ".vscode/tasks.json": "{}",
    ".gitmodules": "[submodule]\n",
}
"""By which git and pytest run a canary where the folder is looked at; an index lets `git status` ask fsmonitor."""
LEAVES = """4.0

import os, pathlib, sys

if not sys.argv[1:]:
    here = pathlib.Path(os.environ["AUTOLAB_TRIAL_DIR"])
    for name, text in LEFT.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
"""


def canary(folder: Path) -> Path:
    """A program that leaves a mark when it is run; its mark is `<folder>/canary.ran`."""
    program = folder / "canary"
    program.write_text(f'#!/bin/sh\ntouch "{folder}/canary.ran"\n')
    program.chmod(0o755)
    return program


def files_left(folder: Path) -> dict[str, str]:
    program, mark = canary(folder), folder / "canary.ran"
    return {
        name: text.replace("CANARY_PATH", repr(str(mark))).replace("CANARY", str(program))
        for name, text in LEFT.items()
    }


def run(*words: str, at: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(words, cwd=at, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def pytest_at(root: Path, *words: str) -> str:
    return run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, at=root)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    """A lab whose candidate's trainings left all of it, with what its worktree holds besides."""
    folder = tmp_path_factory.mktemp("left")
    code = LEAVES.replace("LEFT", repr(files_left(folder)))
    kit = make_lab(folder, script(iteration(implementation=implementation(code))))
    done = kit.autolab("loop", "--max-iterations", "1")
    assert done.code == 0, done.err
    worktree = next((kit.root / "5_worktrees").glob("*/models")).parent
    (worktree / "test_candidate.py").write_text(f"open({str(folder / 'canary.ran')!r}, 'w')\n")
    return kit


def folders_of_trials(kit: LabKit) -> list[Path]:
    found = sorted(kit.root.glob("experiments/[0-9]*/runs/*/trials/*-s*/a1/train"))
    return [folder for folder in found if (folder.parent / "not_results.zip").exists()]


@pytest.mark.process
def test_git_status_and_pytest_run_nothing_of_what_a_training_left(left: LabKit) -> None:
    folders = folders_of_trials(left)
    assert len(folders) >= 3
    for folder in folders:
        run("git", "status", at=folder)
        run("git", "status", at=folder / "objects")
        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert names == {"metrics.json", "history.jsonl", "weights.json", "config", "x"}
    pytest_at(left.root)
    pytest_at(left.root, "experiments")
    assert not (left.root.parent / "canary.ran").exists()


@pytest.mark.process
def test_what_was_left_lies_in_one_archive_and_is_named(left: LabKit) -> None:
    folder = folders_of_trials(left)[0].parent
    with zipfile.ZipFile(folder / "not_results.zip") as archive:
        kept = set(archive.namelist())
    assert kept == {
        f"train/{name}" for name in LEFT if name.rpartition("/")[2] not in ("config", "x") or ".git/" in name
    }
    told = {one["path"]: one["reason"] for one in json.loads((folder / "left_out.json").read_text())["left_out"]}
    assert told.keys() == kept and "git runs what it names" in told["train/.git/config"]


@pytest.mark.process
def test_the_canary_runs_where_the_files_lie_as_they_were(tmp_path: Path) -> None:
    """The positive control: stored as they are, each of git and pytest runs it."""
    for number, command in enumerate((["git", "status"], [sys.executable, "-m", "pytest", "-q"])):
        folder = tmp_path / str(number)
        (folder / "trial").mkdir(parents=True)
        for name, text in files_left(folder).items():
            (folder / "trial" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "trial" / name).write_text(text)
        run(*command, at=folder / "trial")
        assert (folder / "canary.ran").exists(), command


@pytest.mark.process
def test_verify_names_what_an_older_version_stored_and_a_guard_that_was_changed(left: LabKit) -> None:
    assert left.autolab("verify").code == 0, left.autolab("verify").out
    old = folders_of_trials(left)[0] / "model" / ".envrc"
    old.write_text("x")
    guard = left.root / "experiments" / "conftest.py"
    guard.write_text("print('mine')\n")
    said = left.autolab("verify")
    assert said.code == 1
    assert "model/.envrc: a trial left it, and programs run it by themselves; move it away" in said.out
    assert "experiments/conftest.py: missing or changed" in said.out
    old.unlink()
    assert left.autolab("doctor", "--fix").code == 0
    assert guard.read_text() == pytest_guard.TEXT and left.autolab("verify").code == 0


@pytest.mark.process
def test_an_adopted_repository_keeps_its_own_configuration_of_pytest(tmp_path: Path) -> None:
    """Its own tests run as before, also those that import from their conftest.py; nothing of a candidate's does."""
    root = tmp_path / "repo"
    (root / "tests").mkdir(parents=True)
    files = {
        "train.py": "print('loss: 1')\n",
        "pytest.ini": "[pytest]\nnorecursedirs = nothing\n",
        "tests/conftest.py": "import pytest\nHELP = 1\n\n\n@pytest.fixture\ndef one():\n    return 1\n",
        "tests/test_mine.py": "from conftest import HELP\n\n\ndef test_mine(one):\n    assert HELP == one\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "begin"]):
        assert "fatal" not in run("git", *words, at=root)
    kit = LabKit(root, tmp_path / "count")
    done = kit.autolab("init", "--from-existing", str(root), "--metric", "loss")
    assert done.code == 0, done.err
    for place in ("experiments/x/runs/r/trials", "5_worktrees/h1/tests"):
        (root / place).mkdir(parents=True)
        (root / place / "test_theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        (root / place / "conftest.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for words in ((), ("experiments", "5_worktrees", "tests"), ("--import-mode=importlib", "-k", "theirs")):
        said = pytest_at(root, *words)
        assert not (tmp_path / "ran").exists(), said
        if "-k" not in words:
            assert "1 passed" in said, said
    assert {name: (root / name).read_text() for name in files} == files
    assert "conftest.py" not in run("git", "status", "--porcelain", "-uall", at=root).replace(
        "5_worktrees", ""
    ).replace("experiments/x", "")


@pytest.mark.process
def test_a_template_says_so_in_a_configuration_of_its_own(tmp_path: Path) -> None:
    kit = LabKit(tmp_path, tmp_path / "count")
    assert kit.autolab("init", "lab", "--template", "empty").code == 0
    (tmp_path / "lab" / "experiments" / "conftest.py").unlink()
    (tmp_path / "lab" / "experiments" / "test_theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    pytest_at(tmp_path / "lab")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "path",
    ["metrics.json", "model/weights.pt", "model/config.json", "plot.png", "a/b.npy", "x.csv", "notes.md", "head.npy"],
)
def test_results_are_results(path: str) -> None:
    assert not_a_result(path) is None and runs_by_itself(path) is None


def test_everything_that_a_commit_may_not_hold_is_no_result_either() -> None:
    for path in ("conftest.py", ".git/x", "a/.envrc", "a.pth", "b.so", "hooks/pre-push", "x/HEAD", ".Husky/x", "A.PTH"):
        assert runs_by_itself(path) and not_a_result(path), path
