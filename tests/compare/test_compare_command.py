"""`autolab compare` through the real command line, in a lab whose trainings take milliseconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from lab_kit import Finished, LabKit, make_lab

pytestmark = pytest.mark.process


def compare(kit: LabKit, *words: str, **env: str) -> Finished:
    return kit.autolab("compare", *words, "--plain", "--containment", "none", **env)


def answer_line(ended: Finished) -> str:
    """The line with the answer of a comparison of one candidate."""
    (line,) = [line for line in ended.out.split("\n") if ": val_loss " in line]
    return line


def set_width(kit: LabKit, text: str) -> None:
    (kit.root / "models" / "width.py").write_text(text)


def checkout(root: Path) -> dict[str, str]:
    """Every file of the checkout that is not git's, with the hash of its content."""
    files = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and ".git" not in path.relative_to(root).parts:
            files[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    return make_lab(tmp_path, {})


def test_a_change_of_the_working_tree_is_better_and_the_checkout_stays_as_it_was(kit: LabKit) -> None:
    set_width(kit, "WIDTH = 4.0\n")
    (kit.root / "new_file.py").write_text("# untracked files belong to the candidate\n")
    before = checkout(kit.root)
    branches, status = kit.git("branch", "-a"), kit.git("status", "--porcelain")
    ended = compare(kit)
    assert ended.code == 0, ended.err
    answer = answer_line(ended)
    assert answer.startswith("better: val_loss ") and "99% CI" in answer, ended.out
    assert checkout(kit.root) == before
    assert (kit.git("branch", "-a"), kit.git("status", "--porcelain")) == (branches, status)
    # Asked again, it answers at once: nothing runs twice.
    runs = len(kit.executions())
    again = compare(kit)
    assert (again.code, answer_line(again)) == (0, answer)
    assert len(kit.executions()) == runs


def test_a_comment_is_no_gain_and_a_flat_slope_is_worse(kit: LabKit) -> None:
    set_width(kit, "WIDTH = 2.0  # a comment\n")
    ended = compare(kit)
    assert ended.code == 5, ended.out + ended.err
    assert answer_line(ended).endswith("the same output in every pair")
    set_width(kit, "WIDTH = 0.2\n")
    ended = compare(kit)
    assert ended.code == 7, ended.out + ended.err
    assert answer_line(ended).startswith("worse: val_loss ")


def test_several_candidates_share_one_baseline_and_each_has_its_line(kit: LabKit, tmp_path: Path) -> None:
    set_width(kit, "WIDTH = 4.0\n")
    kit.git("commit", "-qam", "steeper")
    set_width(kit, "WIDTH = 0.2\n")
    patch = tmp_path / "flat.patch"
    patch.write_text(kit.git("diff", "HEAD~1"))
    kit.git("checkout", "-q", "--", "models/width.py")
    ended = compare(kit, "HEAD~1", "HEAD", "--patch", str(patch), "--set", "width=3", "--json")
    assert ended.code == 0, ended.err
    value = json.loads(ended.out)
    answers = {candidate["version"]: candidate["answer"] for candidate in value["candidates"]}
    assert answers == {"HEAD": "better", "flat.patch": "worse", "width=3": "better"}
    baselines = {line[1] for line in kit.executions() if "baseline" in line[1] and "search" not in line[1]}
    assert len(baselines) < len(kit.executions()) / 2


def test_a_budget_ends_undecided_and_a_larger_one_goes_on(kit: LabKit) -> None:
    set_width(kit, "WIDTH = 4.0\n")
    ended = compare(kit, "--budget", "6 trials")
    assert ended.code == 6, ended.out + ended.err
    assert "the budget is spent" in ended.out
    assert sum(kit.executed("done").values()) == 6
    ended = compare(kit)
    assert ended.code == 0, ended.err
    # The warm-up has the first pair's seed; nothing else is trained twice.
    trained = [(line[1].split("/")[1], line[2]) for line in kit.executions() if line[0] == "done"]
    assert len(trained) - len(set(trained)) == 1


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (("nothing",), "'nothing' names no commit here", 2),
        (("HEAD", "HEAD"), "HEAD has the files of HEAD", 2),
        ((), "the working tree has no change against HEAD", 2),
        (("--budget", "soon"), "--budget: 'soon' is no time and no number", 2),
        (("--set", "width"), "--set: 'width' is not KEY=VALUE", 2),
        (("--patch", "missing.patch"), "--patch: missing.patch cannot be read", 2),
        (("--set", "width=200"), "a width above 100 has no shape", 1),
    ],
)
def test_what_cannot_be_compared_is_one_line(kit: LabKit, words: tuple[str, ...], says: str, code: int) -> None:
    ended = compare(kit, *words)
    assert ended.code == code, ended.out + ended.err
    assert says in ended.err
    assert "Traceback" not in ended.err and len(ended.err.strip().split("\n")) == 1


def test_not_worse_is_a_gate_of_its_own(kit: LabKit) -> None:
    set_width(kit, "WIDTH = 2.01\n")
    ended = compare(kit, "--require", "not-worse", "--delta", "0.05")
    assert ended.code == 0, ended.out + ended.err
    assert answer_line(ended).startswith("not worse: ")


def test_a_version_against_itself_is_no_gain(kit: LabKit) -> None:
    ended = compare(kit, "--aa")
    assert ended.code == 5, ended.out + ended.err
    assert answer_line(ended).endswith("the same output in every pair")
    refused = compare(kit, "--aa", "--set", "width=3")
    assert refused.code == 2 and "--aa: compares BASE with itself" in refused.err


def test_what_the_lab_itself_writes_makes_no_version(kit: LabKit) -> None:
    (kit.root / "results.tsv").write_text("another row\n")
    (kit.root / "eval.py").write_text("raise SystemExit('not the evaluator of the base')\n")
    ended = compare(kit)
    assert ended.code == 2 and "the working tree has no change against HEAD" in ended.err, ended.out + ended.err


def test_the_answer_for_a_merge_request_names_the_versions_by_what_others_have_too(kit: LabKit) -> None:
    ended = compare(kit, "--set", "optimizer.learning_rate=0.005", "--markdown", "--confirm", "--pairs", "3")
    assert ended.code == 5, ended.out + ended.err
    base = kit.git("rev-parse", "HEAD")[:12]
    assert f"`autolab compare {base} --set optimizer.learning_rate=0.005 --delta " in ended.out
    assert "--pairs 3 --alpha 0.005 --confirm`" in ended.out
    assert "does the training read the setting?" in ended.out
    (question,) = kit.store.glob("compare/*/question.json")
    assert json.loads(question.read_text())["candidates"][0]["name"].endswith("learning-rate-0-005")
