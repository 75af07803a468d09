"""What of a completed trial's own numbers could not be read is said: in the live lines, the record and the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_kit import implementation, iteration, make_lab, script

pytestmark = pytest.mark.process

CODE = """4.0

import atexit, json, os, pathlib, sys

def spoil():
    here = pathlib.Path(os.environ["AUTOLAB_TRIAL_DIR"])
    (here / "metrics.json").write_text('{"train_loss": "low"}')
    rows = [{"step": 1, "train_loss": 0.5}, {"step": 2, "train_loss": "0.4"}]
    (here / "history.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))

if not sys.argv[1:]:
    atexit.register(spoil)
"""


def test_malformed_numbers_of_a_training_are_said_and_do_not_cost_the_trial_its_score(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, script(iteration(implementation=implementation(CODE))))
    done = kit.autolab("loop", "--max-iterations", "1")
    assert done.code == 0, done.err
    note = 'note: its own numbers are missing: metrics.json: train_loss: must be a number, got "low"'
    trials = [line["data"]["trial"] for line in kit.events("trial")]
    noted = [trial for trial in trials if trial["message"]]
    assert noted and all(trial["message"] == note and trial["outcome"] == "completed" for trial in noted)
    assert all(trial["score"] and not trial["self_reported"] for trial in noted)
    assert done.out.count(note) >= len(noted)
    assert "history.jsonl: 'train_loss': not a number in some lines of" in done.out
    (table,) = kit.root.glob("experiments/[0-9]*/analysis/tables/trials.csv")
    assert "its own numbers are missing" in table.read_text()
