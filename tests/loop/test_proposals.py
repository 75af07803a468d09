"""Candidates that an agent hands to the loop: what is tested, what is refused, and what becomes of each."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from lab_kit import HELPS, Kept, LabKit, decision, docs, make_lab, review, script

from autolab.errors import LabError
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger
from autolab.lab.schemas.config import ResearcherConfig
from autolab.loop.proposals import ProposalRequest, next_proposal, propose
from autolab.trials import containment

pytestmark = pytest.mark.process

LATER = {"update_docs": [docs()], "decide_repeat": [decision()]}
TESTED = {"implementation_review": [review()], **LATER}
"""The answers of an iteration that tests a proposal: nobody is asked for idea, design or code."""
FIXED = {"test": {"rule": "fixed", "alpha": 0.02, "max_pairs": 2, "confirm_pairs": 2}}
ONE = ("loop", "--max-iterations", "1")
WIDTH = "models/width.py"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab that is calibrated and has tested nothing; its researcher would propose a gain itself."""
    kit = make_lab(tmp_path_factory.mktemp("proposals"), script(*[HELPS | TESTED] * 3), config=FIXED)
    ended = kit.autolab("calibrate")
    assert ended.code == 0, ended.err
    return Kept(kit)


def set_width(kit: LabKit, width: float | str) -> None:
    (kit.root / WIDTH).write_text(f"WIDTH = {width}\n")


def proposed(kit: LabKit, *words: str, title: str = "A steeper slope") -> dict[str, Any]:
    done = kit.autolab("propose", *words, "--title", title, "--by", "an agent", "--json")
    assert done.code == 0, done.err
    value: dict[str, Any] = json.loads(done.out)
    return value


def listed(kit: LabKit) -> list[dict[str, Any]]:
    done = kit.autolab("propose", "--json")
    assert done.code == 0, done.err
    value: list[dict[str, Any]] = json.loads(done.out)
    return value


def run_one(kit: LabKit) -> str:
    ended = kit.autolab(*ONE)
    assert ended.code == 0, ended.out + ended.err
    return ended.out


def record_of(kit: LabKit, number: int = -1) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((kit.iterations()[number] / "record.json").read_text())
    return value


# What is tested


def test_a_good_proposal_is_tested_before_the_labs_own_ideas_and_kept(calibrated: Kept) -> None:
    kit = calibrated.back()
    set_width(kit, 4.0)
    words = ("--claim", "val_loss falls", "--mechanism", "It fits <b>better</b>.\x1b[2J", "--gain", "0.9")
    proposal = proposed(kit, *words)
    assert proposal["status"] == "waiting" and proposal["left_out"] == []
    assert "1 proposal waits" in kit.autolab("status").out
    out = run_one(kit)
    assert f"proposal {proposal['id']} of an agent: A steeper slope" in out
    assert [line["data"]["kind"] for line in kit.events("asked")] == [
        *("implementation_review", "update_docs", "decide_repeat")
    ]
    record = record_of(kit)
    assert (record["verdict"], record["outcome"]) == ("supported", "kept")
    assert record["assembler"]["via"] == f"an agent (proposal {proposal['id']})"
    claim = (kit.iterations()[0] / "hypothesis.md").read_text()
    assert f"proposed by an agent (proposal {proposal['id']})" in claim
    assert "expects a gain of 0.9: their word, no measurement" in claim
    assert "\x1b" not in claim and "\\<b>better\\</b>" in claim.split("---")[2]
    # What the proposer expects decides nothing.
    assert "success_delta: 0.05" in claim
    champion = kit.git("show", f"autolab/champion:{WIDTH}")
    assert champion == "WIDTH = 4.0\n"
    only = listed(kit)
    assert [(one["status"], one["verdict"]) for one in only] == [("taken", "supported, kept")]
    assert "proposal waits" not in kit.autolab("status").out
    assert kit.autolab("verify").code == 0
    assert kit.autolab("replay", "1").code == 0


def test_a_bad_proposal_is_refuted_and_settings_alone_are_a_proposal(calibrated: Kept) -> None:
    kit = calibrated.back()
    proposal = proposed(kit, "--set", "width=0.5", title="A flat slope")
    run_one(kit)
    record = record_of(kit)
    assert record["verdict"] == "refuted" and record["model_config"] == {"width": 0.5}
    only = listed(kit)[0]
    assert (only["id"], only["status"], only["verdict"]) == (proposal["id"], "taken", "refuted")
    assert only["iteration_id"] == kit.iterations()[0].name


def test_the_same_proposal_twice_is_tested_once(calibrated: Kept) -> None:
    kit = calibrated.back()
    set_width(kit, 0.5)
    first = proposed(kit)
    again = proposed(kit, title="The same in other words")
    kit.git("checkout", "-q", "-b", "other")
    kit.git("commit", "-qam", "as a commit")
    as_commit = proposed(kit, "other")
    kit.git("checkout", "-q", "main")
    assert first["id"] == again["id"] == as_commit["id"] and again["title"] == first["title"]
    run_one(kit)
    tested = kit.executions()
    set_width(kit, 0.5)
    after = proposed(kit)
    assert (after["id"], after["status"], after["verdict"]) == (first["id"], "taken", "refuted")
    assert kit.executions() == tested and "wait" not in kit.autolab("status").out


def test_the_oldest_goes_first_and_the_engines_files_are_left_out(calibrated: Kept) -> None:
    kit = calibrated.back()
    first = proposed(kit, "--set", "width=0.5", title="First")
    (kit.root / "RESEARCH_JOURNAL.md").write_text("mine\n")
    (kit.root / ".mcp.json").write_text("{}\n")
    set_width(kit, 0.6)
    second = proposed(kit, title="Second")
    assert second["left_out"] == [".mcp.json"]
    run_one(kit)
    assert [(one["id"], one["status"]) for one in listed(kit)] == [(first["id"], "taken"), (second["id"], "waiting")]


# What is refused


def test_a_change_of_the_evaluator_is_refused_with_the_way_out(calibrated: Kept) -> None:
    kit = calibrated.back()
    set_width(kit, 4.0)
    (kit.root / "eval.py").write_text("print('always good')\n")
    done = kit.autolab("propose", "--title", "A kinder evaluator")
    assert done.code == 1 and "eval.py: FROZEN; put the change back" in done.err and len(done.err.splitlines()) == 1
    assert listed(kit) == []
    kit.git("checkout", "-q", "eval.py")
    assert proposed(kit)["status"] == "waiting"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--title", "Nothing"), "nothing differs from the base"),
        (("HEAD~99", "--title", "x"), "names no commit here"),
        (("--set", "width=1"), "no --title"),
        (("--set", "width", "--title", "x"), "is not KEY=VALUE"),
        (("--patch", "no.patch", "--title", "x"), "no.patch cannot be read"),
        (("--patch", "eval.py", "--title", "x"), "the patch does not apply"),
        (("HEAD", "--patch", "eval.py", "--title", "x"), "name one of them"),
        (("--set", "width=1", "--title", "x" * 300), "longer than 200 characters"),
        (("--set", "width=1", "--title", "x", "--claim", "y" * 30_000), "claim: 30,000 characters"),
    ],
)
def test_what_makes_no_proposal_is_one_line(calibrated: Kept, words: tuple[str, ...], message: str) -> None:
    done = calibrated.back().autolab("propose", *words)
    assert done.code in (1, 2) and message in done.err and len(done.err.splitlines()) == 1


def test_outside_of_a_lab_it_says_how_to_make_one(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    done = LabKit(tmp_path, tmp_path / "count").autolab("propose", "--title", "x")
    assert done.code == 1 and "autolab init" in done.err


def test_a_candidate_that_fails_a_check_is_set_aside_and_nobody_here_repairs_it(calibrated: Kept) -> None:
    kit = calibrated.back()
    set_width(kit, "nothing that Python knows")
    proposal = proposed(kit, title="It does not even import")
    out = run_one(kit)
    assert "set_aside: " in out
    only = listed(kit)[0]
    assert (only["id"], only["status"], only["verdict"]) == (proposal["id"], "set aside", "")
    assert only["reason"].startswith("implementation: syntax: models/width.py:1: invalid syntax")
    assert kit.events("asked") == [], "neither researcher nor reviewer was asked"
    assert kit.state()["stage"] == "hypothesis" and kit.state()["iteration_id"] is None
    assert "set aside" in (kit.root / ".autolab" / "backlog.yaml").read_text()
    run_one(kit)
    assert record_of(kit)["assembler"]["via"] == "scripted", "the loop goes on with the lab's own idea"
    assert kit.autolab("verify").code == 0


def test_a_candidate_that_crashes_in_training_or_fails_its_review_is_set_aside(calibrated: Kept) -> None:
    kit = calibrated.back()
    proposed(kit, "--set", "width=400", title="Too wide to train")
    run_one(kit)
    assert listed(kit)[0]["status"] == "set aside" and "a width above 100" in listed(kit)[0]["reason"]
    finding = {"check": "code", "severity": "blocking", "message": "It reads the labels."}
    scripted = script({}, TESTED | {"implementation_review": [review(finding)]})
    (kit.root / ".autolab" / "script.yaml").write_text(json.dumps(scripted))
    proposed(kit, "--set", "width=0.5", title="Looks at labels")
    run_one(kit)
    assert listed(kit)[1]["reason"] == "implementation_review: review: It reads the labels."


# The base moves on


def test_where_the_base_moved_the_change_is_rebased_or_set_aside(calibrated: Kept) -> None:
    kit = calibrated.back()
    set_width(kit, 0.5)
    collides = proposed(kit, title="Changes the line that moved")
    kit.git("checkout", "-q", WIDTH)
    (kit.root / "models" / "extra.py").write_text("EXTRA = 1\n")
    fits = proposed(kit, title="Adds a file")
    (kit.root / "models" / "extra.py").unlink()
    set_width(kit, 0.7)
    kit.git("commit", "-qam", "The user's own change")
    out = run_one(kit)
    assert f"proposal {collides['id']} of an agent is set aside" in out
    first, second = listed(kit)
    assert first["status"] == "set aside" and "the base moved to" in first["reason"]
    assert (second["id"], second["status"]) == (fits["id"], "taken")
    assert second["verdict"]
    commit = record_of(kit)["commit"]
    assert kit.git("show", f"{commit}:{WIDTH}") == "WIDTH = 0.7\n"
    assert kit.git("show", f"{commit}:models/extra.py") == "EXTRA = 1\n"
    assert kit.git("rev-parse", f"{commit}^") == kit.git("rev-parse", "main")


def test_a_rule_that_came_later_sets_a_waiting_proposal_aside(calibrated: Kept) -> None:
    kit = calibrated.back()
    set_width(kit, 4.0)
    proposed(kit)
    kit.git("checkout", "-q", WIDTH)
    config = kit.root / ".autolab" / "config.yaml"
    config.write_text(config.read_text() + f"files: {{frozen: [{WIDTH}]}}\n")
    kit.autolab(*ONE)
    only = listed(kit)[0]
    assert only["status"] == "set aside" and f"{WIDTH}: FROZEN" in only["reason"]
    assert only["iteration_id"] is None, "no iteration is spent on it"


def test_where_only_the_labs_own_code_may_run_a_proposal_is_refused_or_waits(
    calibrated: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = calibrated.back()
    proposed(kit, "--set", "width=0.5")
    partial = containment.Ability("partial", "bubblewrap is missing", containment.INSTALL)
    monkeypatch.setattr(containment, "ability", lambda store, note=True: partial)
    lab = Lab(kit.root)
    offline = ResearcherConfig(name="offline")
    config = lab.config().model_copy(update={"containment": "full", "researcher": offline})
    assert containment.settle(config, lab.store)[0].containment == "partial"
    notes: list[str] = []
    with lab.hold("a test"):
        assert next_proposal(lab, config, kit.git("rev-parse", "main").strip(), notes.append) is None
    assert "proposals wait: " in notes[0] and "code of a proposal needs it" in notes[0]
    assert listed(kit)[0]["status"] == "waiting"
    monkeypatch.setattr(lab, "config", lambda: config)
    with pytest.raises(LabError, match="code of a proposal needs it"):
        propose(lab, ProposalRequest("Another", settings={"width": 0.6}))


def test_a_file_that_is_no_proposal_is_put_aside_and_said(calibrated: Kept) -> None:
    kit = calibrated.back()
    proposal = proposed(kit, "--set", "width=0.5")
    inbox = kit.store / "proposals"
    text = (inbox / f"{proposal['id']}.json").read_text()
    (inbox / "p-0000000000.json").write_text(text)
    (inbox / "p-1111111111.json").write_text('{"score": 1}')
    out = run_one(kit)
    assert "p-0000000000.json: holds" in out and "proposals/p-1111111111.json" in out
    assert [(one["id"], one["status"]) for one in listed(kit)] == [(proposal["id"], "taken")]


# A loop runs meanwhile, or is killed


def test_one_is_proposed_while_a_loop_runs_and_its_next_iteration_takes_it(calibrated: Kept) -> None:
    kit = calibrated.back()
    slow = script(HELPS | {"design": [{"output": {**SLOW}}]} | TESTED, TESTED)
    (kit.root / ".autolab" / "script.yaml").write_text(json.dumps(slow))
    loop = kit.start("loop", "--max-iterations", "2")
    watchdog = threading.Timer(60, loop.kill)
    watchdog.start()
    assert loop.stdout is not None
    for line in loop.stdout:
        if "launch" in line:
            break
    proposal = proposed(kit, "--set", "width=0.5", title="While it runs")
    out, err = loop.communicate(timeout=60)
    watchdog.cancel()
    assert loop.returncode == 0, err
    assert f"proposal {proposal['id']}" in out
    assert listed(kit)[0]["status"] == "taken" and len(kit.iterations()) == 2


SLOW = {
    "description": "Slow slopes.",
    "baselines": [{"name": "baseline", "config_overrides": {"seconds": 0.3}}],
    "variants": [{"name": "steep", "config_overrides": {"seconds": 0.3}}],
}


def test_two_agents_propose_the_same_at_once(calibrated: Kept) -> None:
    kit = calibrated.back()
    words = ("propose", "--set", "width=0.5", "--title", "At once", "--json")
    started = [kit.start(*words) for _ in range(3)]
    ids = {json.loads(process.communicate(timeout=60)[0])["id"] for process in started}
    assert len(ids) == 1 and len(listed(kit)) == 1


def test_killed_at_each_point_of_proposing_the_same_command_proposes_it_once(calibrated: Kept) -> None:
    for point in ("proposal.after_pin", "proposal.after_write"):
        kit = calibrated.back()
        words = ("propose", "--set", "width=0.5", "--title", "Killed")
        killed = kit.autolab(*words, AUTOLAB_FAULT=point)
        assert killed.code == -signal.SIGKILL, point
        assert kit.autolab(*words).code == 0
        run_one(kit)
        assert [one["status"] for one in listed(kit)] == ["taken"], point


def test_killed_at_each_point_of_taking_it_in_it_is_tested_once(calibrated: Kept, tmp_path: Path) -> None:
    """Every crash point from the one that sets a proposal aside to the first stage of the one that is tested."""
    kit = make_lab(tmp_path, script(*[HELPS | TESTED] * 3), config=FIXED)
    set_width(kit, 0.5)
    proposed(kit, title="Collides")
    proposed(kit, "--set", "width=0.6", title="Is tested")
    set_width(kit, 0.7)
    kit.git("commit", "-qam", "The user's own change")
    waiting = Kept(kit)
    log = tmp_path / "points"
    # One step is as far as it goes here; the trials after it have a sweep of their own.
    assert kit.autolab("run", AUTOLAB_FAULT="0", AUTOLAB_FAULT_LOG=str(log)).code == 0
    points = log.read_text().split()
    # The points before the first of a proposal are those of any step.
    first, last = points.index("proposal.after_record"), points.index("worktree.after_add") + 1
    print(f"\n{last - first} crash points:", points[first:last])
    assert points[first:last].count("proposal.after_close") == 2
    assert [one["status"] for one in listed(kit)] == ["set aside", "taken"]
    for number in range(first, last + 1):
        kit = waiting.back()
        killed = kit.autolab("run", AUTOLAB_FAULT=str(number))
        assert killed.code == -signal.SIGKILL, points[number - 1]
        again = kit.autolab("run")
        assert again.code == 0 and kit.state()["stage"] == "implementation_review", points[number - 1]
        assert [one["status"] for one in listed(kit)] == ["set aside", "taken"], points[number - 1]
        assert len(kit.iterations()) == len(kit.events("candidate")) == len(kit.events("proposal_set_aside")) == 1
        assert not list((kit.store / "proposals").glob("*.json"))
        ledger = Ledger(kit.store)
        assert ledger.open().n == ledger.check()
    run_one(kit)
    assert [(one["status"], one["verdict"]) for one in listed(kit)] == [("set aside", ""), ("taken", "refuted")]
