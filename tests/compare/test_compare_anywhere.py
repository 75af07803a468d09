"""`autolab compare` in a repository that is no lab, and before and after it becomes one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from adoption_kit import DESCENT, clone, commit, repository
from lab_kit import Finished, LabKit

pytestmark = pytest.mark.process


def compare(kit: LabKit, *words: str) -> Finished:
    return kit.autolab("compare", *words, "--plain")


def answer_line(ended: Finished) -> str:
    (line,) = [line for line in ended.out.split("\n") if ": val loss " in line and " -> " in line]
    return line


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    return repository(tmp_path / "mine", {"train.py": DESCENT, "notes.md": "mine\n"})


def test_one_command_says_that_a_faster_step_is_better_and_writes_nothing_but_its_store(kit: LabKit) -> None:
    (kit.root / "train.py").write_text(DESCENT.replace("default=0.05", "default=0.2"))
    status = kit.git("status", "--porcelain")
    ended = compare(kit, "--metric", "val loss")
    assert ended.code == 0, ended.out + ended.err
    assert "another seed, another result" in ended.out
    answer = answer_line(ended)
    assert answer.startswith("better: val loss ") and "99% CI" in answer
    assert kit.git("status", "--porcelain") == status
    assert sorted(path.name for path in kit.root.iterdir()) == [".git", "notes.md", "train.py"]
    # The training is looked at once; a comment is none.
    (kit.root / "train.py").write_text(DESCENT + "# a comment\n")
    ended = compare(kit, "--json")
    assert ended.code == 5, ended.err
    value = json.loads(ended.out)
    assert (value["candidates"][0]["answer"], value["candidates"][0]["reason"]) == ("no gain", "no_change")
    assert "looking at the training" not in ended.err


def test_a_setting_becomes_a_flag_of_the_command_and_the_answer_is_there_for_a_merge_request(kit: LabKit) -> None:
    words = ("--set", "lr=0.2", "--plain", "--markdown")
    ended = kit.autolab("compare", "--metric", "val loss", *words, figures=True)
    assert ended.code == 0, ended.err
    (figure,) = kit.store.glob("compare/*/comparison.png")
    assert figure.read_bytes().startswith(b"\x89PNG")
    # Drawn once: there is no newer trial.
    drawn = figure.stat().st_mtime_ns
    assert kit.autolab("compare", *words).code == 0 and figure.stat().st_mtime_ns == drawn
    assert ended.out.startswith("**better**: val loss ")
    assert "| lr=0.2 |" in ended.out
    assert compare(kit, "--set", "lr=0.001").code == 7


def test_a_lab_is_made_of_a_repository_with_comparisons_which_stay(kit: LabKit) -> None:
    assert compare(kit, "--metric", "val loss", "--set", "lr=0.2").code == 0
    stored = sorted(path.name for path in (kit.store / "compare").iterdir())
    made = kit.autolab("init", "--from-existing", "--metric", "val loss", "--probe-seconds", "0")
    assert made.code == 0, made.out + made.err
    # A comparison has a difference of its own, which is none of the lab.
    assert "success_delta  0.01  (" in made.out, made.out
    assert sorted(path.name for path in (kit.store / "compare").iterdir()) == stored
    ended = compare(kit, "--metric", "val loss")
    assert ended.code == 2 and ".autolab/config.yaml has command, metric and data" in ended.err
    # No code of it reads a file of settings.
    assert compare(kit, "--set", "lr=0.2").code == 0


def test_a_candidate_that_fails_is_named_with_its_error(kit: LabKit) -> None:
    (kit.root / "train.py").write_text("raise SystemExit('no such layer')\n")
    ended = compare(kit, "--metric", "val loss")
    assert ended.code == 1
    assert "candidate-s0: failed" in ended.err and "no such layer" in ended.err
    assert len(ended.err.strip().split("\n")) == 1
    (kit.root / "train.py").write_text(DESCENT.replace("val loss", "test loss"))
    ended = compare(kit)
    assert ended.code == 1
    assert "val loss" in ended.err and "Traceback" not in ended.err


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    ended = LabKit(tmp_path, tmp_path / "count.txt").autolab("compare")
    assert (ended.code, ended.out) == (1, "")
    assert "not in a git repository" in ended.err


def test_the_same_flags_try_the_training_once_and_others_try_it_again(kit: LabKit) -> None:
    words = ("--metric", "val loss", "--set", "lr=0.2")
    first = compare(kit, *words)
    assert first.code == 0 and "looking at the training" in first.out
    again = compare(kit, *words)
    assert again.code == 0 and "looking at the training" not in again.out
    assert answer_line(again) == answer_line(first)
    other = compare(kit, *words, "--reduce", "min")
    assert "looking at the training" in other.out


def refused(kit: LabKit, *words: str, code: int) -> str:
    """The one line of a refusal that comes before the training is looked at."""
    ended = compare(kit, *words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1), ended.out + ended.err
    return ended.err


def test_a_repository_without_two_versions_is_refused_before_anything_runs(kit: LabKit, tmp_path: Path) -> None:
    bare = LabKit(tmp_path / "bare.git", kit.counter)
    kit.git("clone", "--quiet", "--bare", ".", str(bare.root))
    assert "a bare repository, which has no checkout; git clone it" in refused(bare, code=1)
    (tmp_path / "unborn").mkdir()
    unborn = LabKit(tmp_path / "unborn", kit.counter)
    unborn.git("init", "--quiet")
    assert "has no commit yet" in refused(unborn, code=1)
    commit(kit, {"notes.md": "second\n"})
    shallow = clone(kit, tmp_path / "shallow", "--depth", "1")
    assert "git fetch --unshallow" in refused(shallow, "HEAD~1", code=2)
    assert "'HEAD~7' names no commit here; git log" in refused(kit, "HEAD~7", code=2)


def test_a_working_tree_that_is_no_version_is_refused_with_the_way_out(kit: LabKit, tmp_path: Path) -> None:
    kit.git("switch", "--quiet", "-c", "other")
    commit(kit, {"notes.md": "other\n"})
    kit.git("switch", "--quiet", "main")
    commit(kit, {"notes.md": "main\n"})
    merge = subprocess.run(["git", "merge", "other"], cwd=kit.root, capture_output=True, check=False)
    assert merge.returncode == 1
    assert "notes.md: unmerged in the working tree; resolve the conflict, or name a version" in refused(kit, code=2)
    kit.git("merge", "--abort")
    part = repository(tmp_path / "part", {"layers.py": "WIDTH = 1\n"})
    kit.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part.root), "part")
    kit.git("commit", "--quiet", "--message", "part")
    (kit.root / "part" / "layers.py").write_text("WIDTH = 2\n")
    assert "part: a submodule with changes: commit them there, and git add part" in refused(kit, code=1)


def test_without_a_training_command_the_flag_is_named(tmp_path: Path) -> None:
    kit = repository(tmp_path / "notes", {"notes.md": "no training\n"})
    (kit.root / "notes.md").write_text("changed\n")
    ended = compare(kit)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.out + ended.err
    assert "--train-command: missing" in ended.err


FILES = """\
import os
import random

random.seed(int(os.environ["AUTOLAB_SEED"]))
assert not os.path.exists("ignored.py"), "a file that git ignores"
print(f"val loss {(not os.path.exists('extra.py')) + random.random() / 10:.4f}")
"""


def test_untracked_files_belong_to_the_candidate_and_ignored_ones_do_not(tmp_path: Path) -> None:
    kit = repository(tmp_path / "own", {"train.py": FILES, ".gitignore": "ignored.py\n"})
    for name in ("extra.py", "ignored.py"):
        (kit.root / name).write_text("")
    ended = compare(kit, "--metric", "val loss", "--probe-seconds", "0")
    assert ended.code == 0, ended.out + ended.err
    assert "better: val loss " in ended.out


def test_the_difference_that_the_noise_gave_is_drawn_once(kit: LabKit) -> None:
    (kit.root / "train.py").write_text(DESCENT.replace("default=0.05", "default=0.2"))
    ended = compare(kit, "--metric", "val loss", "--probe-seconds", "0", "--budget", "5 trials", "--json")
    assert ended.code == 6, ended.err
    first = json.loads(ended.out)
    (derived,) = kit.store.glob("compare/*/derived.json")
    stored = json.loads(derived.read_text())
    assert stored["delta"] == first["delta"]
    # A call that measured the noise again would write it anew.
    derived.write_text(json.dumps(stored | {"delta": 0.25}))
    again = compare(kit, "--json")
    assert json.loads(again.out)["delta"] == 0.25, again.err
    assert derived.read_text() == json.dumps(stored | {"delta": 0.25})
