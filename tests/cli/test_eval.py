"""`autolab eval`: a number and one row for the version that lies in the checkout, and nothing else changes."""

from __future__ import annotations

import csv
import fcntl
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab_kit import HELPS, LabKit, make_lab, script

from autolab.lab.schemas.config import Config
from autolab.reports.results_table import COLUMNS, WITHOUT_GEAR

pytestmark = pytest.mark.process

JUST = Path(sys.executable).parent / "just"
POINTS = (
    *("ledger.after_append", "ledger.after_head", "export.after_write", "run.after_manifest"),
    *("submit.after_intent", "submit.after_jobs"),
    *("trial.after_exit", "trial.after_fetch", "trial.after_score", "trial.after_record", "trial.after_store"),
    *("run.after_end", "document.after_queue", "document.after_write"),
    "state.after_write",
)


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    return make_lab(tmp_path, script(HELPS), holdout=True)


def rows(kit: LabKit) -> list[dict[str, str]]:
    with (kit.root / "results.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def edit(kit: LabKit, width: float) -> None:
    (kit.root / "models" / "width.py").write_text(f"WIDTH = {width}\n")


def starts(kit: LabKit) -> int:
    return sum(kit.executed("start").values())


# the number and the row


def test_the_number_comes_first_and_each_call_adds_one_row(kit: LabKit) -> None:
    state = kit.state()
    one = kit.autolab("eval", "--plain")
    assert (one.code, one.err) == (0, "")
    assert re.search(r"(?m)^val_loss 0\.\d+, 1 seed, 0\.\d s$", one.out), one.out
    assert "row: results.tsv, gear manual, manual/manual_0001" in one.out
    table = (kit.root / "results.tsv").read_bytes()
    three = kit.autolab("eval", "--seeds", "3", "--plain", "--description", "as\tit is")
    assert "1 trials reused, not run again: manual/manual_0001/checkout-s0" in three.out
    assert re.search(r"(?m)^val_loss 0\.\d+ \(95% CI 0\.\d+ to 0\.\d+\), 3 seeds, ", three.out), three.out
    assert (kit.root / "results.tsv").read_bytes().startswith(table), "rows are only added"
    first, second = rows(kit)
    assert tuple(first) == COLUMNS
    assert (first["iteration"], first["run"], first["gear"], first["n"]) == ("manual", "manual_0001", "manual", "1")
    assert (first["verdict"], first["status"], first["ci_low"]) == ("", "completed", "")
    assert (second["n"], second["description"]) == ("3", "checkout: as it is") and second["ci_low"] < second["ci_high"]
    value = json.loads(kit.autolab("eval", "--seeds", "3", "--json").out)
    assert (value["reused"], value["seconds"], value["run"]) == (3, 0, "manual/manual_0003")
    assert f"{value['metrics']['val_loss']['mean']:.6g}" == second["value"]
    assert starts(kit) == 3
    assert kit.state() == state, "the loop is where it was"
    assert kit.events("holdout_asked") == [] and not list(kit.root.glob("experiments/manual/**/holdout"))


def test_the_checkout_is_measured_as_it_lies_there_and_stays_so(kit: LabKit) -> None:
    edit(kit, 4.0)
    (kit.root / "notes.txt").write_text("mine\n")
    kit.git("add", "models/width.py")
    head, index = kit.git("rev-parse", "HEAD"), kit.git("ls-files", "--stage")
    status = kit.git("status", "--porcelain", "--", "models", "notes.txt")
    first = json.loads(kit.autolab("eval", "--json").out)
    assert first["description"] == "checkout, uncommitted changes"
    assert (kit.git("rev-parse", "HEAD"), kit.git("ls-files", "--stage")) == (head, index)
    assert kit.git("status", "--porcelain", "--", "models", "notes.txt") == status
    assert kit.git("for-each-ref", "--format=%(refname)", "refs/heads").split() == ["refs/heads/main"]
    # Its own row, a word in the journal of the user and a new configuration make no other version.
    with (kit.root / "human_journal.md").open("a") as file:
        file.write("try more\n")
    (kit.root / Config.FILE).write_text((kit.root / Config.FILE).read_text() + "\n# mine\n")
    second = json.loads(kit.autolab("eval", "--json").out)
    assert (second["commit"], second["reused"]) == (first["commit"], 1)
    base = json.loads(kit.autolab("eval", "HEAD", "--json").out)
    assert base["commit"] == head.strip()
    assert first["metrics"]["val_loss"]["mean"] < base["metrics"]["val_loss"]["mean"], "a steeper slope is better here"
    set_ = json.loads(kit.autolab("eval", "HEAD", "--set", "width=4.0", "--json").out)
    assert (set_["settings"], set_["reused"]) == ({"width": 4.0}, 0)
    assert set_["metrics"] == first["metrics"], "seed for seed beside the others"


def test_an_evaluator_that_is_not_committed_is_said_and_not_used(kit: LabKit) -> None:
    honest = json.loads(kit.autolab("eval", "--json").out)
    path = kit.root / "eval.py"
    path.write_text(path.read_text().replace("-sum(chosen)", "-1000 + sum(chosen)"))
    ended = kit.autolab("eval", "--json")
    assert "note: eval.py is changed here, and not used" in ended.err
    assert json.loads(ended.out)["metrics"] == honest["metrics"]


def test_another_worktree_is_the_checkout_of_whoever_stands_in_it(kit: LabKit) -> None:
    other = kit.root.parent / "other"
    kit.git("worktree", "add", "--quiet", "-b", "mine", str(other))
    (other / "models" / "width.py").write_text("WIDTH = 4.0\n")
    there = json.loads(kit.autolab("eval", "--json", "--dir", str(other)).out)
    edit(kit, 4.0)
    assert json.loads(kit.autolab("eval", "--json").out)["commit"] == there["commit"]
    assert [row["run"] for row in rows(kit)] == ["manual_0001", "manual_0002"]


def test_a_training_that_fails_is_one_line_and_a_row(kit: LabKit) -> None:
    edit(kit, 200.0)
    ended = kit.autolab("eval", "--seeds", "2", "--json")
    assert ended.code == 1 and ended.out == ""
    line = ended.err.splitlines()[-1]
    assert line.startswith("autolab: eval: manual_0001: trial checkout-s0: failed: train exited with status 1: ValueEr")
    assert line.endswith("its row is in results.tsv")
    (row,) = rows(kit)
    assert (row["status"], row["n"], row["value"]) == ("failed", "0", "") and "no shape" in row["description"]
    edit(kit, 4.0)
    assert kit.autolab("eval").code == 0 and [row["status"] for row in rows(kit)] == ["failed", "completed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing-there",), "eval: 'nothing-there' names no commit here"),
        (("--seeds", "0"), "--seeds: 0 is not between 1 and 400"),
        (("--set", "lr"), "--set: 'lr' is not KEY=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {})
    ended = kit.autolab("eval", *words)
    assert ended.code == 2 and message in ended.err and len(ended.err.splitlines()) == 1
    assert kit.executions() == [] and rows(kit) == []


# beside the loop


def test_trials_count_in_the_budget_and_those_that_are_known_cost_nothing(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {}, config={"budget": {"trials": 3}})
    assert kit.autolab("eval", "--seeds", "2").code == 0
    assert "2 trials" in kit.autolab("status").out
    ended = kit.autolab("eval", "--seeds", "4")
    assert ended.code == 4 and len(ended.err.splitlines()) == 1
    assert "eval: budget: trials: 2 done, 2 wanted, 3 allowed; raise it in .autolab/config.yaml" in ended.err
    assert kit.autolab("eval", "--seeds", "3").code == 0
    assert kit.autolab("eval", "--seeds", "3").code == 0, "all of it is known"
    assert starts(kit) == 3 and [row["n"] for row in rows(kit)] == ["2", "3", "3"]


def test_a_command_at_work_keeps_it_out(kit: LabKit) -> None:
    with (kit.store / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = kit.autolab("eval")
    assert ended.code == 1 and "held by" in ended.err and len(ended.err.splitlines()) == 1


def test_in_the_middle_of_an_iteration_it_changes_nothing_and_saves_its_trials(kit: LabKit) -> None:
    assert kit.autolab("run").code == 0
    before, journal = kit.state(), (kit.root / "RESEARCH_JOURNAL.md").read_bytes()
    assert kit.autolab("eval", "--seeds", "2").code == 0
    assert (kit.state(), (kit.root / "RESEARCH_JOURNAL.md").read_bytes()) == (before, journal)
    assert kit.autolab("loop", "--max-iterations", "1", "--plain").code == 0
    trials = [line["data"] for line in kit.events("trial")]
    calibration = [ended["trial"]["reused_from"] for ended in trials if ended["run_id"] == "calibration_0001"]
    assert {"manual/manual_0001/checkout-s0", "manual/manual_0001/checkout-s1"} <= set(calibration)
    ran = sum(ended["trial"]["reused_from"] is None for ended in trials)
    assert ran == starts(kit) and f"1 iterations, {ran} trials" in kit.autolab("status").out
    assert [row["gear"] for row in rows(kit)] == ["manual", "search", "search", "confirm", "confirm"]
    assert b"manual" not in (kit.root / "RESEARCH_JOURNAL.md").read_bytes()
    assert len(kit.autolab("registry").out.splitlines()) == 1
    assert kit.autolab("replay", "1").code == 0


def test_the_record_of_a_run_is_verified_published_and_reproduced(kit: LabKit) -> None:
    assert kit.autolab("eval", "--seeds", "2").code == 0
    assert kit.autolab("registry").code == 0 and "manual_0001: completed" in kit.autolab("status").out
    again = kit.autolab("reproduce", "manual/manual_0001", "--plain")
    assert again.code == 0 and "identical: every trial gave the same, to the byte" in again.out, again.err
    assert kit.autolab("verify").out == "all is well\n"
    assert kit.autolab("publish").code == 0
    published = kit.git("show", "--name-only", "--format=", "HEAD").split()
    manifest = "experiments/manual/runs/manual_0001/run_manifest.json"
    assert {"results.tsv", manifest} <= set(published)
    path = kit.root / manifest
    path.write_text(path.read_text().replace('"completed"', '"failed"', 1))
    assert f"{manifest}: is not the one that the ledger recorded" in kit.autolab("verify").out


def test_a_row_waits_while_another_branch_is_checked_out(kit: LabKit) -> None:
    kit.git("switch", "--quiet", "-c", "other")
    ended = kit.autolab("eval")
    assert ended.code == 0 and "row: waits, as other is checked out, the lab's branch is main" in ended.out
    assert rows(kit) == []
    kit.git("switch", "--quiet", "main")
    assert kit.autolab("publish").code == 0
    assert [row["run"] for row in rows(kit)] == ["manual_0001"]


# tables and kills


def test_a_table_that_was_begun_before_there_were_gears_keeps_its_form(kit: LabKit) -> None:
    path = kit.root / "results.tsv"
    earlier = "\t".join(WITHOUT_GEAR) + "\n" + "\t".join(["c0ffee", "old_h1", "run_0001", "baseline", *"1234567890"])
    path.write_text(earlier + "\n")
    for _ in range(2):
        assert kit.autolab("eval").code == 0
    assert path.read_text().startswith(earlier + "\n")
    assert [(row["run"], row["arm"], row["n"]) for row in rows(kit)] == [
        ("run_0001", "baseline", "1"),
        ("manual_0001", "checkout", "1"),
        ("manual_0002", "checkout", "1"),
    ]
    assert kit.autolab("verify").out == "all is well\n"
    whole = path.read_text()
    path.write_text(whole[:-40] + "\n")
    verified = kit.autolab("verify")
    assert "results.tsv: line 4: does not have the 14 cells of a row" in verified.out
    fixed = kit.autolab("doctor", "--fix")
    assert "cells were missing; taken out, 1 rows written again from the record" in fixed.out
    assert path.read_text() == whole


def killed(kit: LabKit, fault: str) -> bool:
    """Whether the command was killed at the point, whose first passing is its last."""
    return kit.exec("eval", "--seeds", "2", AUTOLAB_FAULT=fault).code == -signal.SIGKILL


def test_killed_at_every_point_in_turn_it_ends_with_one_row_and_runs_nothing_twice(kit: LabKit) -> None:
    edit(kit, 4.0)
    # Each call is killed a little further.
    assert [point for point in POINTS if killed(kit, point)] == list(POINTS)
    ended = kit.autolab("eval", "--seeds", "2", "--json")
    assert ended.code == 0, ended.err
    value = json.loads(ended.out)
    assert (value["run"], value["metrics"]["val_loss"]["n"]) == ("manual/manual_0001", 2)
    (row,) = rows(kit)
    assert (row["run"], row["n"], row["status"]) == ("manual_0001", "2", "completed")
    assert set(kit.executed("start").values()) == {1} and starts(kit) == 2
    assert "0 iterations, 2 trials" in kit.autolab("status").out
    # That was the answer to the killed call: the next one is a call of its own.
    assert json.loads(kit.autolab("eval", "--seeds", "2", "--json").out)["run"] == "manual/manual_0002"


@pytest.mark.parametrize("point", ["trial.after_record", "run.after_end", "run.after_discard"])
def test_another_version_after_a_kill_is_a_run_of_its_own(kit: LabKit, point: str) -> None:
    edit(kit, 4.0)
    assert killed(kit, point)
    edit(kit, 5.0)
    value = json.loads(kit.autolab("eval", "--seeds", "2", "--json").out)
    assert (value["run"], value["reused"]) == ("manual/manual_0002", 0)
    expected = ["manual_0001", "manual_0002"] if point.startswith("run.") else ["manual_0002"]
    assert [row["run"] for row in rows(kit)] == expected
    assert len({row["value"] for row in rows(kit)}) == len(expected)
    ended = len(kit.events("trial"))
    assert f"0 iterations, {ended} trials" in kit.autolab("status").out, "those of the first run count too"
    assert not list((kit.store / "runs").glob("manual.*/*")), "nothing is left of the queues"


# recipes


def just(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`just` as a user calls it, with neither the interpreter nor Autolab on the path."""
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(root.parent)}
    return subprocess.run([JUST, *words], cwd=root, env=clean, capture_output=True, text=True, check=False)


def test_just_eval_and_smoke_work_right_after_a_repository_was_adopted(tmp_path: Path) -> None:
    root = tmp_path / "my repository"
    # A package of that name is not the program.
    (root / "autolab").mkdir(parents=True)
    (root / "autolab" / "__init__.py").write_text("")
    (root / "train.py").write_text(
        'import os\nseed = int(os.environ["AUTOLAB_SEED"])\nprint(f"val_loss: {0.5 + seed % 7 / 1000}")\n'
    )
    kit = LabKit(root, tmp_path / "count.txt")
    kit.git("init", "--quiet", "--initial-branch", "main")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    made = kit.autolab("init", "--from-existing", "--delta", "0.05", "--probe-seconds", "0")
    assert made.code == 0, made.err
    ended = just(root, "eval", "--seeds", "2", "--description", "two words; $HOME")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"(?m)^val_loss 0\.50\d* \(95% CI ", ended.stdout), ended.stdout
    assert rows(kit)[0]["description"].endswith(": two words; $HOME (self-reported)")
    smoked = just(root, "smoke")
    assert smoked.returncode == 0, smoked.stderr
    # The program knows no settings.
    ended = just(root, "eval", "--set", "lr=1")
    assert "note: no program of the code reads AUTOLAB_CONFIG, so --set may change nothing" in ended.stdout
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "the lab")
    (root / "train.py").write_text((root / "train.py").read_text() + 'os.environ["AUTOLAB_CONFIG"]\n')
    assert "note: no program" not in just(root, "eval", "--set", "lr=1").stdout


@pytest.mark.slow
def test_just_eval_works_right_after_init_in_the_lab_of_digits(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    kit = LabKit(tmp_path, tmp_path / "count.txt")
    made = kit.autolab("init", "lab")
    assert made.code == 0, made.err
    kit.root = tmp_path / "lab"
    ended = just(kit.root, "eval", "--set", "epochs=1")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"(?m)^val_loss \d\.\d+, 1 seed, ", ended.stdout), ended.stdout
    assert [row["gear"] for row in rows(kit)] == ["manual"]
