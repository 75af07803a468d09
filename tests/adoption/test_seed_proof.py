"""Two more runs prove the seed of an adopted program: the same seed again, then another."""

from __future__ import annotations

from pathlib import Path

import pytest
from adoption_kit import repository
from lab_kit import LabKit

from autolab.lab.schemas.config import Config

SEEDED = """\
import random
SEED = 1337
random.seed(SEED)
print(f"val_loss: {3 + random.gauss(0, 0.3):.2f}")
"""
ENDLESS = """\
import random, time
SEED = 1337
random.seed(SEED)
for step in range(2):
    print(f"step {step}: val_loss: {3 + random.gauss(0, 0.3):.4f}", flush=True)
time.sleep(600)
"""
pytestmark = pytest.mark.process


def tried(root: Path, text: str, *options: str) -> str:
    """What `init` says that tries the program."""
    kit = repository(root, {"train.py": text})
    made = kit.autolab("init", "--from-existing", "--seed", "1", *options)
    assert made.code == 0, made.out + made.err
    return made.out


def test_a_seed_that_decides_the_result_is_proved(tmp_path: Path) -> None:
    said = tried(tmp_path / "mine", SEEDED)
    assert "  again with the same seed, for at most " in said and "  again with another seed, for at most " in said
    proof = "proved  (same seed, same result; another seed, another result: val_loss "
    assert f"  seed                  {proof}" in said
    assert not [line for line in said.split("\n") if line.startswith("note:") and "seed" in line]
    config = Config.load(tmp_path / "mine" / Config.FILE)
    assert config.metric.quantum == 0.01 and config.train.time_limit_s is None


def test_chance_that_no_seed_repeats_is_noise(tmp_path: Path) -> None:
    said = tried(tmp_path / "mine", SEEDED.replace("random.seed(SEED)", "random = random.SystemRandom()"))
    assert "note: train.py is not deterministic with a seed (val_loss " in said and "): measured as noise" in said
    assert "  proved" not in said


def test_a_seed_that_changes_nothing_is_said_with_the_smallest_change(tmp_path: Path) -> None:
    said = tried(tmp_path / "mine", SEEDED.replace("random.seed(SEED)", "random.seed(str(7))"))
    assert "note: another seed gave the same val_loss (" in said
    assert "no gain could be told from chance: `train.py: SEED = {seed}` gets it" in said
    assert "seed that from this number (random.seed, numpy.random.seed, torch.manual_seed), and commit" in said


def test_of_a_program_without_a_seed_a_second_run_shows_what_chance_does(tmp_path: Path) -> None:
    said = tried(tmp_path / "mine", "import os\nprint(f'val_loss: {3 + os.urandom(2)[0] / 999:.6f}')\n")
    assert "never reads AUTOLAB_SEED" in said and "nothing repeats what train.py draws" in said


def test_of_a_program_that_goes_on_the_first_numbers_are_compared(tmp_path: Path) -> None:
    """The runs end once they have printed them, and all together stay within the time for the first."""
    said = tried(tmp_path / "mine", ENDLESS, "--probe-seconds", "10")
    assert "still running after" in said and "  proved  (same seed, same result; another seed, another" in said
    at_most = int(said.partition("again with another seed, for at most ")[2].partition(" s")[0])
    assert 1 <= at_most < 10, "the first run left it time"


def test_numbers_in_a_file_are_compared_too(tmp_path: Path) -> None:
    written = "import json\njson.dump({'val_loss': 3 + random.gauss(0, 0.3)}, open('result.json', 'w'))\n"
    text = SEEDED.partition("print")[0] + written
    said = tried(tmp_path / "mine", text, "--metric", "val_loss")
    assert "  proved  (same seed, same result; another seed, another result: val_loss " in said
    assert Config.load(tmp_path / "mine" / Config.FILE).metric.quantum is None, "all digits are there"


def test_what_takes_too_long_is_not_proved(tmp_path: Path) -> None:
    text = ENDLESS.replace("range(2)", "range(1)")
    said = tried(tmp_path / "mine", text, "--probe-seconds", "2")
    assert "  seed                  not proved  (takes too long for two more runs in 2 s" in said
    assert "`autolab calibrate` shows it" in said and "again with the same seed" not in said


def test_a_seed_that_the_program_does_not_take_is_said(tmp_path: Path) -> None:
    text = SEEDED.replace("random.seed(SEED)", "if SEED > 0:\n    raise SystemExit(3)\nrandom.seed(SEED)")
    said = tried(tmp_path / "mine", text)
    assert "not proved  (with another seed it failed: train exited with status 3; `autolab calibrate` shows it)" in said


def test_without_a_first_run_there_is_no_proof(tmp_path: Path) -> None:
    said = tried(tmp_path / "mine", SEEDED, "--probe-seconds", "0")
    assert "proved" not in said and "again with" not in said


def test_a_difference_that_is_not_printed_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    kit: LabKit = repository(tmp_path / "mine", {"train.py": SEEDED})
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--delta", "0.001")
    assert made.code == 2 and made.err.count("\n") == 1, made.err
    assert "--delta: 0.001 is below 0.01, the step in which the metric is printed (" in made.err
    assert not (kit.root / ".autolab").exists()
