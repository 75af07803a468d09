"""`autolab compare` in a repository that is no lab, and before and after it becomes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adoption_kit import repository
from lab_kit import Finished, LabKit

pytestmark = pytest.mark.process

TRAIN = """\
import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
random.seed(options.seed)
weight = 5.0
for step in range(20):
    weight -= options.lr * (2 * weight + random.gauss(0, 0.2))
print(f"train loss {weight:.5f}, val loss {abs(weight) + 0.5 + random.gauss(0, 0.02):.5f}")
"""


def compare(kit: LabKit, *words: str) -> Finished:
    return kit.autolab("compare", *words, "--plain")


def answer_line(ended: Finished) -> str:
    (line,) = [line for line in ended.out.split("\n") if ": val loss " in line and " -> " in line]
    return line


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    return repository(tmp_path / "mine", {"train.py": TRAIN, "notes.md": "mine\n"})


def test_one_command_says_that_a_faster_step_is_better_and_writes_nothing_but_its_store(kit: LabKit) -> None:
    (kit.root / "train.py").write_text(TRAIN.replace("default=0.05", "default=0.2"))
    status = kit.git("status", "--porcelain")
    ended = compare(kit, "--metric", "val loss")
    assert ended.code == 0, ended.out + ended.err
    assert "another seed, another result" in ended.out
    answer = answer_line(ended)
    assert answer.startswith("better: val loss ") and "99% CI" in answer
    assert kit.git("status", "--porcelain") == status
    assert sorted(path.name for path in kit.root.iterdir()) == [".git", "notes.md", "train.py"]
    # The training is looked at once; a comment is none.
    (kit.root / "train.py").write_text(TRAIN + "# a comment\n")
    ended = compare(kit, "--json")
    assert ended.code == 5, ended.err
    value = json.loads(ended.out)
    assert (value["candidates"][0]["answer"], value["candidates"][0]["reason"]) == ("no gain", "no_change")
    assert "looking at the training" not in ended.err


def test_a_setting_becomes_a_flag_of_the_command_and_the_answer_is_there_for_a_merge_request(kit: LabKit) -> None:
    ended = compare(kit, "--metric", "val loss", "--set", "lr=0.2", "--markdown")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("**better**: val loss ")
    assert "| lr=0.2 |" in ended.out
    assert compare(kit, "--set", "lr=0.001").code == 7


def test_a_lab_is_made_of_a_repository_with_comparisons_which_stay(kit: LabKit) -> None:
    assert compare(kit, "--metric", "val loss", "--set", "lr=0.2").code == 0
    stored = sorted(path.name for path in (kit.store / "compare").iterdir())
    words = ("--from-existing", "--metric", "val loss", "--delta", "0.05", "--probe-seconds", "0")
    made = kit.autolab("init", *words)
    assert made.code == 0, made.out + made.err
    assert sorted(path.name for path in (kit.store / "compare").iterdir()) == stored
    ended = compare(kit, "--metric", "val loss")
    assert ended.code == 2 and ".autolab/config.yaml has command, metric and data" in ended.err


def test_a_candidate_that_fails_is_named_with_its_error(kit: LabKit) -> None:
    (kit.root / "train.py").write_text("raise SystemExit('no such layer')\n")
    ended = compare(kit, "--metric", "val loss")
    assert ended.code == 1
    assert "candidate-s0: failed" in ended.err and "no such layer" in ended.err
    assert len(ended.err.strip().split("\n")) == 1
    (kit.root / "train.py").write_text(TRAIN.replace("val loss", "test loss"))
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
