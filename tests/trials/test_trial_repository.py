"""A trial that asks git gets its commit and its files, and nothing that is hidden from it: through the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lab_kit import HELPS, LabKit, make_lab, script

from autolab.files import sha256_of
from autolab.lab.git import Git
from autolab.lab.trial_repository import TrialRepository

pytestmark = pytest.mark.process

ASKS = '''
def asked():
    """What git says, and how many of the lab's secrets it gives away."""
    import subprocess

    def git(*words):
        return subprocess.run(["git", *words], capture_output=True).stdout

    def answers(*words):
        return bool(git(*words).strip())

    labels = git("rev-parse", "--quiet", "--verify", "HEAD:data/eval/labels.npy")
    ids = git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").decode().split()
    contents = b"".join(git("cat-file", "-p", name) for name in ids)
    head = git("rev-parse", "HEAD").decode().strip()
    return {
        "is_commit": head == os.environ["AUTOLAB_COMMIT"],
        "head": int(head[:8], 16),
        "is_dirty": answers("status", "--porcelain"),
        "has_train": answers("show", "HEAD:train.py"),
        "describes": git("describe", "--tags").decode().startswith("v1-"),
        "stolen": sum(
            (
                labels != b"",
                answers("show", "HEAD:data/eval/labels.npy"),
                answers("show", "HEAD:eval.py"),
                answers("show", "HEAD:dropped.py"),
                answers("rev-parse", "--quiet", "--verify", "HEAD~1"),
                answers("rev-parse", "--quiet", "--verify", "main:eval.py"),
                answers("log", "--all", "--format=%H", "--", "eval.py"),
                b"\\x93NUM" + b"PY" in contents,
                b"a secret of " + b"the history" in contents,
            )
        ),
    }


main()
'''


def asking_lab(folder: Path) -> LabKit:
    """A sealed lab, contained, whose history has a tag and a file that is no more, and whose training asks git."""
    train = {"command": "{python} -S -B train.py", "time_limit_s": 30, "repository": True}
    kit = make_lab(folder, script(HELPS), config={"train": train, "containment": "full"})
    (kit.root / "counter.txt").unlink()
    text = (kit.root / "train.py").read_text()
    text = text.replace('{"train_loss": 1.0 / width})', '{"train_loss": 1.0 / width, **asked()})', 1)
    (kit.root / "train.py").write_text(text.replace("\nmain()\n", ASKS))
    (kit.root / "dropped.py").write_text("# a secret of the history\n")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "asks git")
    kit.git("tag", "v1")
    kit.git("rm", "--quiet", "dropped.py")
    kit.git("commit", "--quiet", "--message", "without the file")
    return kit


def said(kit: LabKit) -> dict[str, list[dict[str, Any]]]:
    """Arm -> what its trainings wrote."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(kit.root.glob("experiments/*/runs/*/trials/*/*/train/metrics.json")):
        found.setdefault(path.parts[-4].rpartition("-")[0], []).append(json.loads(path.read_text()))
    return found


def test_git_knows_the_commit_of_each_arm_and_nothing_that_is_hidden(tmp_path: Path) -> None:
    kit = asking_lab(tmp_path)
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    answers = said(kit)
    heads = {arm: {answer.pop("head") for answer in found} for arm, found in answers.items()}
    right = {"is_commit": True, "is_dirty": False, "has_train": True, "describes": True, "stolen": 0}
    for found in answers.values():
        for answer in found:
            assert {name: answer[name] for name in right} == right
    mine, theirs = kit.git("rev-parse", "HEAD"), kit.git("rev-parse", "exp/h1-a-steeper-slope")
    assert heads["baseline"] == {int(mine[:8], 16)} and heads["steep"] == {int(theirs[:8], 16)}


def contents(folder: Path) -> str:
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    return sha256_of("".join(f"{path.relative_to(folder)} {path.read_bytes()!r}" for path in names))


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_the_same_export_makes_the_same_repository(tmp_path: Path, form: str) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    kit = LabKit(root, tmp_path / "count.txt")
    kit.git("init", "--quiet", f"--object-format={form}")
    (root / "train.py").write_text("SEED = 1\n")
    (root / "link.py").symlink_to("train.py")
    os.chmod(root / "train.py", 0o755)
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    git = Git(root)
    head = git.head() or ""
    export = tmp_path / "export"
    git.export(head, export)
    asked = TrialRepository.of(git, head, unchanged=["train.py"], ignored=["data"])
    asked.make(export, tmp_path / "one")
    asked.make(export, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    copy = LabKit(tmp_path / "copy", tmp_path / "count.txt")
    copy.root.mkdir()
    (copy.root / ".git").write_text(f"gitdir: {tmp_path / 'one'}\n")
    # As in a trial: the seed stands in the file, and the data is linked.
    (copy.root / "train.py").write_text("SEED = 12\n")
    (copy.root / "link.py").symlink_to("train.py")
    (copy.root / "data").symlink_to(tmp_path)
    assert copy.git("status", "--porcelain") == "" and copy.git("rev-parse", "HEAD").strip() == head
    (copy.root / "link.py").unlink()
    assert copy.git("status", "--porcelain") == " D link.py\n"
