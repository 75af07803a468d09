"""States of git: what a lab can work with is adopted; what it cannot is refused at `init` with the way out."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from adoption_kit import TRAIN, adopted, clone, commit, refused, repository
from lab_kit import LabKit, decision, design, docs, hypothesis, iteration, script

from autolab.lab import refs
from autolab.lab.schemas.config import Config
from autolab.loop import snapshot
from autolab.trials import champion

pytestmark = pytest.mark.process
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 4096\n".format("0" * 64)


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    return repository(tmp_path / "mine", {"train.py": TRAIN})


# refs


@pytest.mark.parametrize(
    ("ref", "line"),
    [
        ("refs/heads/exp", "the branch exp keeps git from making a lab's exp/; rename it: git branch -m exp NEW_NAME"),
        ("refs/heads/autolab", "the branch autolab keeps git from making a lab's autolab/;"),
        ("refs/heads/autolab/champion/old", "keeps git from making a lab's autolab/champion; rename it"),
        ("refs/heads/autolab/champion", "git branch -m autolab/champion NEW_NAME"),
        ("refs/autolab", "git update-ref -d refs/autolab"),
        ("refs/autolab/keep", "keeps git from making a lab's refs/autolab/keep/"),
        ("refs/autolab/log/mine", "keeps git from making a lab's refs/autolab/log"),
    ],
)
def test_a_ref_in_the_way_is_refused_loose_and_packed(kit: LabKit, ref: str, line: str) -> None:
    kit.git("update-ref", ref, "HEAD")
    assert line in refused(kit)
    kit.git("pack-refs", "--all")
    assert line in refused(kit)


def test_the_way_out_of_a_branch_in_the_way_works(kit: LabKit) -> None:
    kit.git("branch", "exp")
    way_out = re.search(r"git branch -m exp NEW_NAME", refused(kit))
    assert way_out
    kit.git(*way_out[0].split()[1:])
    adopted(kit)


def test_a_damaged_ref_in_the_way_is_refused(kit: LabKit) -> None:
    """git does not list it, and cannot make a file below it."""
    (kit.root / ".git" / "refs" / "heads" / "exp").write_text("")
    assert "refs/heads/exp: a damaged ref, and a lab makes refs below it: move it away" in refused(kit)


def test_tags_and_branches_of_other_names_are_in_nobodys_way(kit: LabKit) -> None:
    for name in ("exp", "autolab"):
        kit.git("tag", name)
    kit.git("branch", "experiments")
    adopted(kit)


def test_a_branch_that_came_later_is_told_by_doctor_and_by_the_loop(kit: LabKit) -> None:
    adopted(kit)
    assert "keeps git" not in kit.autolab("doctor").out
    kit.git("branch", "exp")
    line = "the branch exp keeps git from making a lab's exp/"
    for command in (("doctor",), ("loop", "--max-iterations", "1")):
        ended = kit.autolab(*command)
        assert ended.code != 0 and line in ended.out + ended.err
    assert not list((kit.root / "experiments").glob("*_h*"))


def test_the_names_that_are_checked_are_those_that_are_made() -> None:
    assert (champion.BRANCH, snapshot.LOG) == (refs.CHAMPION, refs.LOG)
    assert all(ref.startswith(refs.OWN_REFS) for ref in (refs.CHAMPION, refs.LOG, "refs/heads/exp/h1-slug"))


# clones that lack something


def test_a_shallow_sparse_clone_with_converted_lines_runs_an_iteration_and_publishes(tmp_path: Path) -> None:
    """Files that git would leave out of an archive are in the trials' code, and line ends are the commit's."""
    train = TRAIN.replace("LR = 1.0", 'LR = len(open("docs/one.txt", "rb").read())')
    source = repository(tmp_path / "source", {"train.py": train, "docs/one.txt": "1", "far/away.txt": "far\n"})
    commit(source, {".gitattributes": "docs export-ignore\n"})
    kit = clone(source, tmp_path / "mine", "--depth", "1", "--sparse", "--config", "core.autocrlf=true")
    kit.git("sparse-checkout", "set", "docs")
    assert b"\r\n" in (kit.root / "train.py").read_bytes() and not (kit.root / "far").exists()
    assert (kit.root / ".git" / "shallow").exists()
    assert kit.git("status", "--porcelain") == ""
    assert "val_loss" in adopted(kit)
    edit = {"path": "train.py", "search": "LR = len", "replace": "LR = 0.5 * len"}
    answers = script(
        iteration(
            hypothesis=hypothesis("Half"),
            design=design("half"),
            implementation={"output": {"plan": "One edit.", "edits": [edit]}},
            update_docs=docs(None, no_changes="nothing for a paper"),
            decide_repeat=decision("new_hypothesis"),
        )
    )
    path, settings = tmp_path / "script.yaml", kit.root / Config.FILE
    path.write_text(yaml.safe_dump(answers))
    quicker = "test: {mode: each, rule: fixed, alpha: 0.005, max_pairs: 5, confirm_pairs: 5}"
    text = re.sub(r"(?m)^test: .*", quicker, settings.read_text())
    settings.write_text(text.replace("success_delta: 0.01", "success_delta: 0.1"))
    ended = kit.autolab("loop", "--max-iterations", "1", "--researcher", "scripted", "--script", str(path))
    assert ended.code == 0 and "verdict: supported" in ended.out, ended.out + ended.err
    assert "committed" in kit.autolab("publish").out
    assert not (kit.root / "far").exists()
    assert [line for line in kit.git("status", "--porcelain").splitlines() if not line.startswith("??")] == []
    assert "far/away.txt" in kit.git("ls-tree", "-r", "--name-only", "HEAD")


def test_what_a_partial_clone_has_not_fetched_is_refused_and_the_way_out_fetches_it(tmp_path: Path) -> None:
    source = repository(tmp_path / "source", {"train.py": TRAIN, "far/away.txt": "far\n", "far/off.txt": "off\n"})
    commit(source, {".gitattributes": "far export-ignore\n"})
    kit = clone(source, tmp_path / "mine", "--filter=blob:none", "--sparse")
    line = refused(kit)
    assert "far/away.txt and 1 more: not fetched into this partial clone" in line
    way_out = line.partition("to fetch it: ")[2]
    subprocess.run(["sh", "-c", way_out], cwd=kit.root, check=True)
    adopted(kit)
    assert "not fetched" not in kit.autolab("doctor").out
    commit(source, {"far/new.txt": "new\n", "train.py": TRAIN + "# newer\n"})
    kit.git("pull", "--quiet")
    assert "far/new.txt: not fetched into this partial clone" in kit.autolab("doctor").out


def test_a_whole_partial_clone_is_adopted(tmp_path: Path) -> None:
    source = repository(tmp_path / "source", {"train.py": TRAIN, "far/away.txt": "far\n"})
    adopted(clone(source, tmp_path / "mine", "--filter=blob:none"))


def test_a_script_outside_of_a_sparse_checkout_is_refused_with_the_way_out(tmp_path: Path) -> None:
    source = repository(tmp_path / "source", {"far/train.py": TRAIN, "other.txt": "1\n"})
    kit = clone(source, tmp_path / "mine", "--sparse")
    line = refused(kit, "--train-command", "python far/train.py")
    assert "far/train.py: committed, and not in this sparse checkout; git sparse-checkout add far" in line
    kit.git("sparse-checkout", "add", "far")
    adopted(kit, "--train-command", "python far/train.py")


def test_a_branch_without_a_commit_beside_one_with_commits(kit: LabKit) -> None:
    kit.git("switch", "--quiet", "--orphan", "new")
    assert "the branch new has no commit; experiments start from one: git switch main" in refused(kit)


# what git was told not to show


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_change_that_is_hidden_from_git_is_refused(kit: LabKit, flag: str) -> None:
    kit.git("update-index", flag, "train.py")
    (kit.root / "train.py").write_text(TRAIN + "# changed\n")
    assert "train.py: changed since the last commit" in refused(kit)
    (kit.root / "train.py").write_text(TRAIN)
    adopted(kit)


@pytest.mark.parametrize("ignored", ["", "experiments/\n"])
def test_a_folder_for_the_record_that_has_files_of_the_users_is_refused(kit: LabKit, ignored: str) -> None:
    commit(kit, {".gitignore": f"*.pyc\n{ignored}"})
    (kit.root / "experiments").mkdir()
    (kit.root / "experiments" / "mine.txt").write_text("mine\n")
    assert "experiments: has files that git does not hold" in refused(kit)
    (kit.root / "experiments" / "mine.txt").unlink()
    adopted(kit)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user_is_refused_as_git_refuses_it(kit: LabKit, tmp_path: Path) -> None:
    home = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig")}
    subprocess.run(["chown", "-R", "65534:65534", str(kit.root)], check=True)
    line = refused(kit, **home)
    way_out = f"git config --global --add safe.directory {kit.root}"
    assert "belongs to another user" in line and way_out in line
    subprocess.run(way_out.split(), env={**os.environ, **home}, check=True)
    adopted(kit, **home)
    assert "belongs to another user" not in kit.autolab("doctor", **home).out
    (tmp_path / "gitconfig").unlink()
    assert "belongs to another user" in kit.autolab("doctor", **home).out


# filters


def test_a_pointer_that_the_program_reads_is_refused_and_others_are_named(tmp_path: Path) -> None:
    train = TRAIN + 'DATA = open("data/train.bin", "rb")\n'
    kit = repository(tmp_path / "mine", {"train.py": train, "data/train.bin": POINTER, "docs/logo.png": POINTER})
    commit(kit, {".gitattributes": "*.bin filter=lfs\n*.png filter=lfs\n"})
    line = refused(kit)
    assert "data/train.bin: kept in Git LFS" in line and "--data FOLDER" in line
    commit(kit, {"train.py": TRAIN})
    notes = [line for line in adopted(kit).splitlines() if "before the filter lfs" in line]
    assert len(notes) == 1 and "data/train.bin, docs/logo.png" in notes[0]


def test_code_that_a_filter_changes_is_refused(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {".gitattributes": "*.py filter=loud\n"})
    kit.git("config", "filter.loud.clean", "sed s/SEED/seed/g")
    kit.git("config", "filter.loud.smudge", "sed s/seed/SEED/g")
    commit(kit, {"train.py": TRAIN, "other.py": "SEED = 1\n"})
    # As new as the index, so that git looks at the files again: without the filter they would count as changed.
    (kit.root / "other.py").touch()
    line = refused(kit)
    assert "other.py, train.py: the filter loud changes them at checkout" in line and "--renormalize" in line


# a program that asks git


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ('COMMIT = subprocess.check_output(["git", "rev-parse", "HEAD"])', '"git", "rev-parse"'),
        ('COMMIT = os.popen("git describe --always").read()', '"git describe'),
        ("import git", "import git"),
        ("import gitlab_like", ""),
    ],
)
def test_the_trials_of_a_program_that_asks_git_get_a_repository(tmp_path: Path, line: str, call: str) -> None:
    kit = repository(tmp_path / "mine", {"train.py": f"{TRAIN}{line}\n"})
    said = [row for row in adopted(kit).splitlines() if row.startswith("  train.repository")]
    assert len(said) == bool(call)
    assert all(f"true  (train.py: {call}; " in row for row in said)
