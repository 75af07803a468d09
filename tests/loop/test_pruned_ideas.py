"""Learning curves end a trial of a screen early, through the real command line: where the lab's own curves have told
how trainings end, and nowhere else."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from lab_kit import TINY, LabKit, hypothesis, implementation, make_lab, review, script

pytestmark = [pytest.mark.process, pytest.mark.slow]

LONG = 600
"""Seconds that an idea trains if nobody ends it: longer than any test may take."""
LAST = '    (folder / "history.jsonl").write_text(json.dumps({"step": 1, "train_loss": 1.0 / width}) + "\\n")\n'
CURVE = """
    import models.width
    for step in (1, 2, 3):
        # Where the curves do not tell, what ends well begins badly, but for one that does neither.
        loss = 1.0 / width if curves_tell() else 5.0 if width == 1.1 else width
        with open(folder / "history.jsonl", "a") as lines:
            lines.write(json.dumps({"step": step, "train_loss": loss}) + "\\n")
    time.sleep(getattr(models.width, "MORE_SECONDS", 0))
"""
RULE = {"mode": "explore", "rule": "sequential", "alpha": 0.02, "max_pairs": 8, "confirm_pairs": 8}


def idea(title: str, width: float, seconds: float = 0, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    code = f"{width}\nMORE_SECONDS = {seconds}"
    return hypothesis(title, changes=changes or {"width": width}), implementation(code)


def batch_of(*ideas: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {
        "hypothesis": [claim for claim, _ in ideas],
        "implementation": [code for _, code in ideas],
        "implementation_review": [review() for _ in ideas],
    }


WORSE = [
    batch_of(*(idea(f"width {width}", width) for width in widths))
    for widths in ((1.0, 1.2, 1.4, 1.6), (0.5, 0.6, 0.7, 0.8))
]
"""Two batches of ideas that are worse than the base, so that all of them stand on it."""


def lab(folder: Path, *batches: dict[str, Any], tells: bool = True) -> LabKit:
    """A lab whose trainings write a curve of three steps, and may then take more seconds."""
    config = {"test": RULE, "screen": {"arms": 4, "stop_early": True}, "budget": {"trials": 100}}
    kit = make_lab(folder, script(*WORSE, *batches), config=config)
    program = (TINY / "train.py").read_text()
    assert program.count(LAST) == 1
    program = program.replace(LAST, CURVE).replace("curves_tell()", str(tells))
    (kit.root / "train.py").write_text(program)
    kit.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "a curve")
    return kit


def trials(folder: Path) -> dict[str, dict[str, Any]]:
    manifest = json.loads((folder / "runs" / "run_0001" / "run_manifest.json").read_text())
    return {trial["arm"]: trial for trial in manifest["trials"]}


def process_of(kit: LabKit, arm: str) -> list[int]:
    """The processes that have begun to train an arm, by the tests' own count."""
    return [int(pid) for word, place, _, pid in kit.executions() if word == "start" and f"/{arm}-s0/" in f"/{place}/"]


def test_a_trial_that_is_behind_is_ended_and_measured_anew_where_it_comes_again(tmp_path: Path) -> None:
    behind, ahead = idea("narrow and long", 1.1, LONG), idea("wide", 3.0)
    # Its schedule differs, so its curve may cross the others on its way.
    other_schedule = idea("narrow with other epochs", 1.15, 3, epochs=20)
    again = idea("narrow and long once more", 1.1, LONG)
    kit = lab(tmp_path, batch_of(behind, other_schedule), batch_of(again, ahead))
    ended = kit.autolab("loop", "--max-iterations", "4")
    assert ended.code == 0, ended.out + ended.err
    _, _, third, fourth = kit.iterations()[:4]
    pruned, kept = trials(third)["h9-narrow-and-long"], trials(third)["h10-narrow-with-other-epochs"]
    assert (pruned["outcome"], pruned["score"]) == ("cancelled", {})
    assert pruned["message"] == "behind the baseline at step 1 of its learning curve (train_loss)"
    assert kept["outcome"] == "completed"
    (pid,) = process_of(kit, "h9-narrow-and-long")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    # The idea is dropped, and says why: in the lesson, in the table of results and on the terminal.
    learned = {line["data"]["lesson"]["title"]: line["data"]["lesson"] for line in kit.events("learned")}
    assert (learned["narrow and long"]["outcome"], learned["narrow and long"]["reason"]) == ("dropped", "pruned")
    with (kit.root / "results.tsv").open() as table:
        rows = {row["arm"]: row for row in csv.DictReader(table, delimiter="\t")}
    row = rows["h9-narrow-and-long"]
    assert (row["n"], row["value"], row["description"]) == ("0", "", "narrow and long; dropped: pruned")
    line = next(line for line in ended.out.split("\n") if line.startswith("  h9 narrow and long"))
    assert "dropped, pruned (behind the baseline at step 1 of its learning curve (train_loss))" in line
    # A replay takes it as it was: nothing there says again that it is behind, and it would train to its end.
    replayed = kit.autolab("replay", "batch3")
    assert replayed.code == 0 and "the same decisions" in replayed.out, replayed.out + replayed.err
    assert line in replayed.out.split("\n") and process_of(kit, "h9-narrow-and-long") == [pid]
    # What was ended has cost a trial, and is nobody's result: the same code and seed trains again, and is ended again.
    assert trials(fourth)["h11-narrow-and-long-once-more"]["outcome"] == "cancelled"
    assert len(process_of(kit, "h11-narrow-and-long-once-more")) == 1
    spent = kit.events("transition")[-1]["data"]["campaign"]["trials_for"]
    assert spent["screens"] == 4 + 4 + 2 + 2


def test_curves_that_do_not_tell_the_end_end_nothing(tmp_path: Path) -> None:
    kit = lab(tmp_path, batch_of(idea("narrow and long", 1.1, 3), idea("narrow", 0.9)), tells=False)
    ended = kit.autolab("loop", "--max-iterations", "3")
    assert ended.code == 0, ended.out + ended.err
    assert {trial["outcome"] for trial in trials(kit.iterations()[2]).values()} == {"completed"}
