"""The lab on disk: one holder at a time, a state that follows the ledger, a place that is noticed when it changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autolab import files
from autolab.cli import init
from autolab.cli.doctor import _lab_id
from autolab.errors import LabError, LedgerError, RecordError
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger
from autolab.lab.location import holder, is_locked, locate
from autolab.lab.schemas.campaign import State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.outcomes import Stage

pytestmark = pytest.mark.process

TINY = str(Path(__file__).parents[1] / "labs" / "tiny")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return init.make_lab(tmp_path / "lab", TINY, seed=1)


def events(lab: Lab, event: str) -> list[dict[str, object]]:
    return [line.data for line in Lab(lab.root).ledger.lines() if line.event == event]


def move(lab: Lab, stage: Stage) -> State:
    """One transition, as the engine makes it."""
    with lab.hold("a test"):
        state, campaign = lab.load()
        after = state.model_copy(update={"stage": stage, "reason": f"now at {stage}"})
        lab.transition(after, campaign)
    return after


# Where it is


def test_a_lab_is_found_from_any_folder_in_it(lab: Lab) -> None:
    inside = lab.root / "models"
    assert Lab.find(inside).root == lab.root
    assert locate(inside) == (lab.root, lab.root / ".git" / "autolab")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder.mkdir(), "no git repository here or above"),
        (
            lambda folder: subprocess.run(["git", "init", "-q", str(folder)], check=True),
            "but no lab; `autolab init DIR`",
        ),
    ],
)
def test_where_no_lab_is_the_way_to_one_is_said(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(tmp_path / "place")
    with pytest.raises(LabError, match=reason):
        Lab.find(tmp_path / "place")


def test_a_clone_is_no_lab_until_it_is_made_one(lab: Lab, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(lab.root), str(clone)], check=True)
    with pytest.raises(LabError, match="a clone of a lab, without a record of its own; `autolab init`"):
        Lab.find(clone)
    made = init.make_lab(clone, TINY)
    assert made.lab_id != lab.lab_id
    assert made.secret != lab.secret


def test_one_seed_gives_one_secret_and_two_labs_two_ids(lab: Lab, tmp_path: Path) -> None:
    again = init.make_lab(tmp_path / "again", TINY, seed=1)
    drawn = init.make_lab(tmp_path / "drawn", TINY)
    assert again.secret == lab.secret != drawn.secret
    assert again.lab_id != lab.lab_id
    assert (lab.store / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [None, "not hex"])
def test_a_lost_secret_is_said_and_never_drawn_anew(lab: Lab, text: str | None) -> None:
    path = lab.store / "secret"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(LabError, match="secret: missing or broken"):
        _ = lab.secret


# The lock


def test_the_second_holder_is_refused_naming_the_first(lab: Lab) -> None:
    with lab.hold("autolab loop --max-iterations 3"):
        with pytest.raises(LabError) as caught, Lab(lab.root).hold("autolab run"):
            pass
        message = str(caught.value)
        assert f"held by `autolab loop --max-iterations 3` (pid {os.getpid()} on " in message
        assert "autolab stop" in message
        shown = json.loads((lab.control / "lock").read_text())
        assert shown["pid"] == os.getpid()
    assert holder(lab.store) is None
    assert not (lab.control / "lock").exists()
    with Lab(lab.root).hold("autolab run"):
        assert holder(lab.store) is not None


HOLDS = """
import sys
from pathlib import Path
from autolab.lab.lab import Lab
with Lab(Path(sys.argv[1])).hold("autolab loop"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_dies_with_its_holder(lab: Lab) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDS, str(lab.root)], stdout=-1, stdin=-1, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(LabError, match=rf"held by `autolab loop` \(pid {child.pid}"), lab.hold("autolab run"):
        pass
    child.kill()
    child.communicate()
    assert not is_locked(lab.store / "lock")
    assert (lab.control / "lock").exists(), "nobody was left to take it away"
    with lab.hold("autolab run"):
        assert json.loads((lab.control / "lock").read_text())["pid"] == os.getpid()


def test_a_reader_that_looks_at_the_lock_keeps_nobody_out(lab: Lab) -> None:
    looks = "import sys\nfrom pathlib import Path\nfrom autolab.lab.location import is_locked\n"
    looks += "print('looking', flush=True)\nwhile True: is_locked(Path(sys.argv[1]))"
    child = subprocess.Popen([sys.executable, "-c", looks, str(lab.store / "lock")], stdout=-1, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        for _ in range(20):
            with lab.own("autolab run"):
                pass
    finally:
        child.kill()
        child.communicate()


def test_an_exception_gives_the_lock_back(lab: Lab) -> None:
    with pytest.raises(ZeroDivisionError), lab.hold("a test"):
        raise ZeroDivisionError
    assert holder(lab.store) is None


# The state and its copy


def test_a_copy_of_the_state_that_is_missing_or_behind_is_rolled_forward(lab: Lab) -> None:
    old = lab.state_path.read_bytes()
    state = move(lab, Stage.DESIGN)
    for content in (old, None):
        lab.state_path.unlink()
        if content is not None:
            lab.state_path.write_bytes(content)
        with lab.hold("a test"):
            assert State.load(lab.state_path) == state


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"stage": "launch"', "stage: is 'launch', never was so: edited by hand (the ledger says 'hypothesis')"),
        ('"stage": "nowhere"', "stage: Input should be"),
        ('"stage": 1, "stage": 2', "stage: key given twice"),
    ],
)
def test_an_edited_state_is_refused_and_kept_as_a_copy_when_fixed(lab: Lab, text: str, reason: str) -> None:
    good = lab.state_path.read_text()
    edited = good.replace('"stage": "hypothesis"', text)
    lab.state_path.write_text(edited)
    with pytest.raises(LedgerError) as caught, lab.hold("a test"):
        pass
    assert str(caught.value).startswith(".autolab/state.json: ")
    assert reason in str(caught.value)
    assert "autolab doctor --fix" in str(caught.value)
    assert lab.state_path.read_text() == edited, "what is refused is left as it is"
    lab.check_state(fix=True)
    assert lab.state_path.read_text() == good
    (copy,) = lab.control.glob("state.edited.*.json")
    assert copy.read_text() == edited


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_a_truncated_state_is_refused(lab: Lab, keep: int) -> None:
    lab.state_path.write_bytes(lab.state_path.read_bytes()[:keep])
    with pytest.raises(LedgerError, match=r"\.autolab/state\.json: .*not JSON.*doctor --fix"), lab.hold("a test"):
        pass


def test_a_transition_is_in_the_ledger_before_it_is_shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with lab.hold("a test"):
        state, campaign = lab.load()
        with monkeypatch.context() as patch:
            patch.setattr(Lab, "show_state", full)
            with pytest.raises(OSError, match="No space"):
                lab.transition(state.model_copy(update={"stage": Stage.DESIGN}), campaign)
    with Lab(lab.root).hold("again"):
        assert State.load(lab.state_path).stage is Stage.DESIGN


# What a user says in .autolab/


def test_the_held_copy_serves_while_the_checkout_lacks_it(lab: Lab) -> None:
    with lab.hold("a test"):
        pass
    said = lab.config()
    for name in ("config.yaml", "verifier_policy.yaml", "prompts/stage_design.md"):
        (lab.control / name).unlink()
    assert lab.config() == said
    assert lab.policy().require_dry_run
    assert lab.prompt("stage_design.md").read_text()
    with lab.hold("a test"):
        assert lab.config() == said


def test_a_change_of_the_configuration_is_noted_once(lab: Lab) -> None:
    with lab.hold("a test"):
        pass
    before = len(events(lab, "control_changed"))
    text = (lab.control / "config.yaml").read_text() + "# a remark\n"
    (lab.control / "config.yaml").write_text(text)
    for _ in range(2):
        with Lab(lab.root).hold("a test"):
            pass
    fresh = events(lab, "control_changed")[before:]
    assert fresh == [{"file": ".autolab/config.yaml", "sha256": files.sha256_of(text)}]


def test_a_change_whose_note_was_cut_off_is_noted_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab.control / "config.yaml").write_text((lab.control / "config.yaml").read_text() + "# a remark\n")
    before = len(events(lab, "control_changed"))

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_write", dies)
        with pytest.raises(KeyboardInterrupt), lab.hold("a test"):
            pass
    with Lab(lab.root).hold("again"):
        pass
    assert len(events(lab, "control_changed")) > before


def test_a_broken_configuration_is_refused_and_the_held_one_kept(lab: Lab) -> None:
    with lab.hold("a test"):
        pass
    held = (lab.store / "control" / "config.yaml").read_bytes()
    (lab.control / "config.yaml").write_text("metric: {}\n")
    with pytest.raises(RecordError, match=r"\.autolab/config\.yaml: line 1: metric\.primary: missing"), lab.hold("x"):
        pass
    assert (lab.store / "control" / "config.yaml").read_bytes() == held


@pytest.mark.parametrize(
    ("named", "venv", "found"),
    [
        (None, False, sys.executable),
        (None, True, "{root}/venv/bin/python"),
        ("./own/python", True, "{root}/own/python"),
        ("/bin/sh", False, "/bin/sh"),
        ("python3", False, "python3"),
    ],
)
def test_the_interpreter_of_the_trials(lab: Lab, named: str | None, venv: bool, found: str) -> None:
    for folder in ["own", *(["venv/bin"] if venv else [])]:
        (lab.root / folder).mkdir(parents=True)
        (lab.root / folder / "python").write_text("#!/bin/sh\n")
        (lab.root / folder / "python").chmod(0o755)
    config = lab.config().model_copy(update={"python": named})
    assert lab.python(config) == found.format(root=lab.root)


@pytest.mark.parametrize("named", ["./nowhere/python", "/no/such/python", "README.md/python", "./README.md"])
def test_an_interpreter_that_cannot_run_is_refused(lab: Lab, named: str) -> None:
    config: Config = lab.config().model_copy(update={"python": named})
    with pytest.raises(LabError, match=r"config\.yaml: python: .*: no such program"):
        lab.python(config)


# Moved, copied, forked


def test_a_moved_lab_goes_on_and_the_move_is_recorded_once(lab: Lab, tmp_path: Path) -> None:
    lab_id, old, new = lab.lab_id, lab.root, tmp_path / "elsewhere"
    lab.root.rename(new)
    for _ in range(2):
        with Lab.find(new).hold("a test") as moved:
            assert moved.lab_id == lab_id
    (said,) = events(Lab(new), "lab_moved")
    assert (said["from"], said["to"]) == (str(old), str(new))


def test_a_lab_on_another_machine_is_recorded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolab.lab.lab.machine", lambda: "another")
    monkeypatch.setattr("autolab.lab.ledger.machine", lambda: "another")
    with lab.hold("a test"):
        assert lab.ledger.head.machine == "another"
    assert len(events(lab, "lab_moved")) == 1


def test_a_copy_whose_original_stands_is_refused_until_it_is_forked(lab: Lab, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(lab.root, copy, symlinks=True)
    with pytest.raises(LabError, match=r"a copy of the lab at .*lab, which still stands; `autolab init --fork`"):
        Lab.find(copy).hold("a test").__enter__()
    forked = init.fork_lab(copy)
    with Lab.find(copy).hold("a test"), lab.hold("a test"):
        assert forked.lab_id != lab.lab_id
    (said,) = events(forked, "forked")
    assert (said["was"], said["lab_id"], said["from"]) == (lab.lab_id, forked.lab_id, str(lab.root))
    assert events(lab, "forked") == []
    with pytest.raises(LabError, match="not a copy"):
        init.fork_lab(copy)


def test_a_copy_whose_original_is_gone_is_a_moved_lab(lab: Lab, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(lab.root, copy, symlinks=True)
    shutil.rmtree(lab.root)
    with Lab.find(copy).hold("a test"):
        pass
    assert len(events(Lab(copy), "lab_moved")) == 1


@pytest.mark.parametrize("forked", [False, True])
def test_a_lost_head_does_not_cost_the_lab_its_id(lab: Lab, tmp_path: Path, forked: bool) -> None:
    if forked:
        copy = tmp_path / "copy"
        shutil.copytree(lab.root, copy, symlinks=True)
        lab = init.fork_lab(copy)
    lab_id = lab.lab_id
    lab.ledger.head_path.unlink()
    assert _lab_id(Ledger(lab.store)) == lab_id, "keys of trials under way begin with it"
