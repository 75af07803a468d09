"""Stored trials: what is reused is the ledger's line; a file that names no such line is reported, found and fixed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab_kit import LabKit, decision, design, docs, hypothesis, implementation, iteration, make_lab, script

from autolab.lab.lab import Lab
from autolab.trials.stored import StoredTrials

pytestmark = pytest.mark.process

CALIBRATE = ("calibrate", "--plain")


def made(folder: Path) -> LabKit:
    """A lab with one iteration planned, whose baseline was measured by a calibration."""
    answer = iteration(
        hypothesis=hypothesis(),
        design=design(),
        implementation=implementation(4.0),
        update_docs=docs(None, no_changes="none"),
        decide_repeat=decision("stop"),
    )
    kit = make_lab(folder, script(answer))
    ended = kit.autolab(*CALIBRATE)
    assert ended.code == 0, ended.out + ended.err
    return kit


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("calibrated")).root


@pytest.fixture
def kit(calibrated: Path, tmp_path: Path) -> LabKit:
    """A copy of it to look at and to damage."""
    shutil.copytree(calibrated, tmp_path / "lab", symlinks=True)
    return LabKit(tmp_path / "lab", tmp_path / "count.txt")


def files(kit: LabKit) -> list[Path]:
    return sorted((kit.store / "trials").glob("??/*.json"))


def stored_trials(kit: LabKit) -> StoredTrials:
    lab = Lab(kit.root)
    return StoredTrials(lab.store, lab.ledger)


def edited(**values: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def elsewhere(path: Path) -> None:
    """The line of another trial, whose hash fits."""
    other = next(one for one in sorted(path.parent.parent.glob("??/*.json")) if one != path)
    shutil.copy(other, path)


def unlinked(path: Path) -> None:
    value = json.loads(path.read_text())
    del value["ledger"]
    path.write_text(json.dumps(value))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


EDITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no such line": (edited(ledger={"offset": 10**9, "hash": "0" * 64}), "the ledger has no such line"),
    "a line's middle": (edited(ledger={"offset": 7, "hash": "0" * 64}), "the ledger has no such line"),
    "no number": (edited(ledger={"offset": "0", "hash": "0" * 64}), "the ledger has no such line"),
    "another trial's": (elsewhere, "records another trial"),
    "no line": (unlinked, "names no line of the ledger"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read: not JSON"),
    "list": (lambda path: path.write_text("[]"), "names no line of the ledger"),
    "binary": (lambda path: path.write_bytes(b"\xff\x00\xfe"), "cannot be read: not JSON"),
    "folder": (folder, "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_one_is_found_by_verify_and_fixed_from_the_ledger(kit: LabKit, case: str) -> None:
    edit, says = EDITS[case]
    path = files(kit)[0]
    whole = path.read_bytes()
    edit(path)
    trials = stored_trials(kit)
    told = list(trials.check())
    (line,) = told
    assert says in line and str(path.relative_to(kit.store)) in line and "doctor --fix" in line
    (fixed,) = trials.fix()
    assert says in fixed and "written again from the ledger" in fixed
    assert path.read_bytes() == whole
    assert [one.name for one in path.parent.iterdir() if "edited" in one.name], "the old one is kept"
    assert list(trials.check()) == [] and list(trials.fix()) == []


def test_no_number_is_read_from_the_file_itself(kit: LabKit) -> None:
    path = files(kit)[0]
    before = stored_trials(kit).find(path.stem)
    edited(score={"val_loss": 0.001}, seed=3, run_id="run_0009")(path)
    assert before is not None and stored_trials(kit).find(path.stem) == before


def test_what_no_line_records_is_put_aside(kit: LabKit) -> None:
    path = kit.store / "trials" / "ab" / f"{'ab' * 32}.json"
    path.parent.mkdir(exist_ok=True)
    shutil.copy(files(kit)[0], path)
    (fixed,) = stored_trials(kit).fix()
    assert "no line of the ledger records it: put aside" in fixed and not path.exists()
    assert stored_trials(kit).find("ab" * 32) is None


def test_through_the_command_line_an_edited_one_is_reported_and_measured_anew(tmp_path: Path) -> None:
    kit = made(tmp_path)
    first, before = files(kit)[0], sum(kit.executed("start").values())
    edited(ledger={"offset": 7, "hash": "0" * 64})(first)
    verified = kit.autolab("verify")
    assert verified.code == 1 and verified.out.count("FAIL  trials: stored trial") == 1
    ended = kit.autolab("loop", "--max-iterations", "1", "--plain")
    assert ended.code == 0, ended.out + ended.err
    said = [line for line in ended.out.splitlines() if "stored trial" in line]
    assert len(said) == 1 and said[0].endswith("measured anew") and "the ledger has no such line" in said[0]
    trials = [line["data"]["trial"] for line in kit.events("trial")]
    again = [trial for trial in trials if trial["content"] == first.stem]
    assert [trial["reused_from"] for trial in again[:1] + again[-1:]] == [None, None]
    assert len({json.dumps(trial["score"]) for trial in again}) == 1, "the number that was edited in is nowhere"
    assert sum(kit.executed("start").values()) > before
    assert any(trial["reused_from"] for trial in trials), "the others are taken over"
    assert kit.autolab("verify").out == "all is well\n"


def test_a_crash_between_the_line_and_the_stored_trial_loses_neither(tmp_path: Path) -> None:
    crashed = make_lab(tmp_path, script(iteration()))
    assert crashed.autolab(*CALIBRATE, AUTOLAB_FAULT="trial.after_record").code != 0
    assert crashed.autolab(*CALIBRATE).code == 0
    completed = [line["data"]["trial"] for line in crashed.events("trial")]
    assert {path.stem for path in files(crashed)} == {trial["content"] for trial in completed}
    assert list(stored_trials(crashed).check()) == []


def test_a_rebuilt_ledger_and_its_stored_trials_fit_again_after_doctor(tmp_path: Path) -> None:
    kit = made(tmp_path)
    ledger = kit.store / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(lines[0].replace(b'"seed":1', b'"seed":22') + b"".join(lines[1:]))  # all offsets and hashes move
    assert kit.autolab("verify").code == 1
    fixed = kit.autolab("doctor", "--fix")
    assert fixed.code == 0 and "written again from the ledger" in fixed.out, fixed.out + fixed.err
    assert kit.autolab("verify").out == "all is well\n"
