"""The empty lab is in order as it is, says what it lacks, and runs after the smallest real edit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab_kit import LabKit

from autolab.lab.create import TEMPLATES
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.record import parse_yaml

EMPTY = TEMPLATES / "empty"
EDIT = "import random; val_loss = random.Random(f'{seed} {LR}').random() / 1000 + (LR - 0.4) ** 2"


@pytest.fixture
def kit(tmp_path: Path) -> LabKit:
    kit = LabKit(tmp_path, tmp_path / "count.txt")
    made = kit.autolab("init", "lab", "--template", "empty", "--seed", "1")
    assert made.code == 0, made.err
    kit.root = tmp_path / "lab"
    return kit


@pytest.mark.process
def test_as_it_is_it_verifies_and_a_loop_says_what_to_fill_in(kit: LabKit) -> None:
    verified = kit.autolab("verify")
    assert (verified.code, verified.out) == (0, "all is well\n")
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 1 and ended.err.count("\n") == 1, ended.out + ended.err
    assert "train.py: nothing is trained yet; fill in what gives val_loss, and commit" in ended.err
    assert not kit.iterations(), "nobody is asked for an idea before the baseline runs"


@pytest.mark.process
def test_one_line_filled_in_makes_a_loop_run(kit: LabKit) -> None:
    train, config = kit.root / "train.py", kit.root / Config.FILE
    lines = [EDIT if line.startswith("val_loss = None") else line for line in train.read_text().splitlines()]
    train.write_text("\n".join(lines) + "\n")
    config.write_text(config.read_text().replace("sequential", "fixed").replace("_pairs: 24", "_pairs: 3"))
    kit.git("commit", "--quiet", "--all", "--message", "filled in")
    ended = kit.autolab("loop", "--max-iterations", "3")
    assert ended.code == 0, ended.out + ended.err
    learned = [event["data"]["lesson"] for event in kit.events("learned")]
    assert len([lesson for lesson in learned if lesson["reason"] == "screened"]) >= 4, "a batch of four ideas"
    assert {lesson["verdict"] for lesson in learned if lesson["reason"] == "screened"} == {"inconclusive"}
    assert "verdict: claimed on this evaluation alone" in ended.out, "some larger LR is nearer to 0.4"
    rates = [float(re.findall(r"(?m)^LR = (\S+)", text)[0]) for text in (at(kit, "HEAD"), at(kit, "autolab/champion"))]
    assert abs(rates[1] - 0.4) < abs(rates[0] - 0.4) - 0.01, rates
    assert kit.git("rev-parse", "autolab/champion") == kit.git("rev-parse", "autolab/working")
    journal = (kit.root / "RESEARCH_JOURNAL.md").read_text()
    assert "self-reported" in journal and "1 claim, 1 kept" in journal
    assert "3 iterations and 1 claim" in kit.autolab("status").out
    assert kit.autolab("verify").code == 0


def at(kit: LabKit, commit: str) -> str:
    return kit.git("show", f"{commit}:train.py")


def test_the_training_is_short_enough_to_be_read_at_once() -> None:
    assert len((EMPTY / "train.py").read_text().splitlines()) < 20


def test_every_key_of_the_configuration_is_shown_and_what_is_commented_out_fits() -> None:
    text = (EMPTY / Config.FILE).read_text()
    whole = re.sub(r"(?m)^# (?=[a-z_]+: )", "", text)
    value, _ = parse_yaml(whole, "config.yaml")
    assert isinstance(value, dict)
    assert Config.from_value(value, "config.yaml")
    unshown = {"push", "tracking"}  # not built: only their defaults are accepted
    assert set(Config.model_fields) - set(value) == unshown
    policy = re.sub(r"(?m)^# (?=[a-z_]+: )", "", (EMPTY / VerifierPolicy.FILE).read_text())
    assert VerifierPolicy.from_text(policy, "policy.yaml")
