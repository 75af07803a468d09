"""`autolab init --from-existing` on a terminal: questions, the moving line, and what Ctrl-C and Ctrl-D do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adoption_kit import repository
from lab_kit import LabKit
from terminal_kit import Terminal

from autolab.adoption.program_probe import ProbeNews
from autolab.cli.adoption_terminal import ProbeLine
from autolab.lab.schemas.config import Config

INIT = ("init", "--from-existing", "--seed", "1")
# The names of the numbers are no part of a text that is printed: only the run shows them.
MAIN = """\
import os, time
open("data/part/rows.bin").read()
for epoch in range(3):
    numbers = {"val loss": 3.9 - epoch / 5, "acc": 0.5, "goodness": 3 + int(os.environ["AUTOLAB_SEED"]) % 7 / 10}
    print(*[f"{name} {number:.2f}" for name, number in numbers.items()], sep=", ", flush=True)
"""
FILES = {"main.py": MAIN, "finetune.py": MAIN, "other.py": "1\n", ".gitignore": "*.bin\n", "data/part/readme.md": "1\n"}


def two_programs(root: Path) -> LabKit:
    kit = repository(root, FILES)
    (kit.root / "data" / "part" / "rows.bin").write_text("1 2 3")
    return kit


@pytest.mark.process
def test_everything_that_is_unclear_is_asked_once_and_the_answers_are_the_configuration(tmp_path: Path) -> None:
    kit = two_programs(tmp_path / "mine")
    with Terminal() as terminal:
        terminal.start(kit, *INIT)
        asked = terminal.until(r"--train-command \(1-2, a command, Enter for the first\): ")
        assert "1. python main.py\r\n  2. python finetune.py\r\n" in asked and "other.py" not in asked
        terminal.press(b"2\n")
        asked = terminal.until("--metric .*Enter for the first.: ")
        assert "trying {python} finetune.py" in asked and "data/part is bound as the data" in asked
        assert "  1. val loss  3 values, last 3.50\r\n  2. acc       3 values, last 0.50\r\n" in asked
        terminal.press(b"bleu\n")
        assert "the training ended without printing bleu" in terminal.until("--metric .*: ")
        terminal.press(b"goodness\n")
        terminal.until("--direction .1-2.: ")
        terminal.press(b"2\n")
        assert "1. 0.02  about 1% of " in terminal.until("--delta .a number, Enter for 0.0[25].: ")
        terminal.press(b"\n")
        assert terminal.ended() == 0, terminal.screen()
    said = "\n".join(terminal.screen())
    assert "goodness  (chosen of those that it printed)" in said and "maximize  (your answer)" in said
    config = Config.load(kit.root / Config.FILE)
    assert (config.metric.primary, config.metric.direction) == ("goodness", "maximize")
    assert (config.train.command, config.data) == ("{python} finetune.py", "data/part")
    assert not (kit.root / ".git" / "autolab.adoption.json").exists()


@pytest.mark.process
def test_ctrl_d_and_ctrl_c_at_a_question_write_nothing_and_the_run_is_kept(tmp_path: Path) -> None:
    kit = two_programs(tmp_path / "mine")
    before = sorted(path for path in kit.root.rglob("*") if ".git" not in path.parts)
    with Terminal() as terminal:
        terminal.start(kit, *INIT)
        terminal.until("--train-command .*: ")
        terminal.press(b"\x04")
        assert terminal.ended() == 1
        assert terminal.screen()[-1] == "autolab: interrupted; the same command goes on from here"
        assert not (kit.root / ".git" / "autolab.adoption.json").exists(), "no run yet, so nothing to keep"
        terminal.start(kit, *INIT, "--train-command", "python main.py")
        terminal.until("--metric .*: ")
        terminal.press(b"\x03")
        assert terminal.ended() == 1
        assert terminal.screen()[-1] == "autolab: interrupted; the same command goes on from here"
        assert sorted(path for path in kit.root.rglob("*") if ".git" not in path.parts) == before
        # What was asked for once is known, and nothing is asked with --yes, on a terminal too.
        terminal.start(kit, *INIT, "--yes")
        assert terminal.ended() == 0, terminal.screen()
    said = "\n".join(terminal.screen())
    assert "as before: --train-command 'python main.py'; the run of " in said and "trying" not in said
    assert '--metric "val loss": taken as the likely answer (--yes)' in said
    assert "--delta 0.05: taken as the likely answer (--yes)" in said
    assert Config.load(kit.root / Config.FILE).metric.success_delta == 0.05


WAITS = """\
import time
print(f"val_loss: {1.5}", flush=True)
time.sleep(600)
"""


@pytest.mark.process
def test_one_line_moves_while_the_training_runs_and_ctrl_c_ends_the_training_alone(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": WAITS})
    with Terminal(columns=60) as terminal:
        terminal.start(kit, *INIT, "--delta", "0.1")
        first = terminal.until("val_loss: 1.5")
        assert "of at most 60 s, " in first and " s left  " in first
        shown = terminal.when(lambda rows: " s of at most 60 s" in rows[-1])
        assert len(shown[-1]) < 60
        terminal.press(b"\x03")
        assert terminal.ended() == 0, terminal.screen()
    said = "\n".join(terminal.screen())
    assert "ended by you after" in said and "it printed 1 value there, the last one 1.5" in said
    assert not [row for row in terminal.screen() if "left" in row], "nothing is left of the line"


@pytest.mark.process
def test_without_a_terminal_the_flags_are_named_and_yes_takes_what_is_likely(tmp_path: Path) -> None:
    kit = two_programs(tmp_path / "mine")
    refused = kit.autolab(*INIT)
    assert (refused.code, refused.out) == (2, "")
    assert "such as 'python main.py' or 'python finetune.py'" in refused.err
    made = kit.autolab(*INIT, "--yes", "--metric", "goodness")
    assert made.code == 2 and "--direction: goodness does not say which way is good" in made.err
    assert '--train-command "python main.py": taken as the likely answer (--yes)' in made.out
    kept = json.loads((kit.root / ".git" / "autolab.adoption.json").read_text())
    assert kept["flags"]["metric"] == "goodness" and "[2K" not in made.out
    made = kit.autolab(*INIT, "--direction", "maximize")
    assert made.code == 0 and "trying" not in made.out, made.out + made.err


def test_a_line_of_progress_says_the_time_left_and_holds_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert str(ProbeNews(12.3, 60, "step 3")) == "12 s of at most 60 s, 48 s left  step 3"
    assert str(ProbeNews(61.0, 60, "")).startswith("61 s of at most 60 s, 0 s left")
    with ProbeLine() as line:
        line(ProbeNews(1, 60, "a\x1b[2J" + "long" * 100))
    assert "\x1b[2J" not in capsys.readouterr().out
