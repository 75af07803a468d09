"""How the trainings of a comparison ran, and what their seeds showed: it is said in every form of the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from adoption_kit import repository
from lab_kit import LabKit, make_lab

pytestmark = pytest.mark.process

LOSS = """\
import os
import random

SEED = int(os.environ["AUTOLAB_SEED"])
print(f"val loss {BASE + NOISE:.5f}")
"""
OWN = ("--metric", "val loss", "--probe-seconds", "0", "--plain")


def compared(kit: LabKit, *words: str, code: int) -> dict[str, Any]:
    ended = kit.autolab("compare", *words, "--json")
    assert ended.code == code, ended.out + ended.err
    value: dict[str, Any] = json.loads(ended.out)
    return value


def script(base: float, noise: str) -> str:
    return LOSS.replace("BASE", str(base)).replace("NOISE", noise)


def test_a_training_that_ignores_the_seed_leaves_the_question_open(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": script(2, "0")})
    (kit.root / "train.py").write_text(script(1, "0"))
    ended = kit.autolab("compare", *OWN)
    assert ended.code == 6, ended.out + ended.err
    assert "undecided: val loss 2 -> 1, " in ended.out and "says nothing of chance" in ended.out
    assert "the training ignores the seed: " in ended.out and "AUTOLAB_SEED" in ended.out
    markdown = kit.autolab("compare", "--markdown", "--plain")
    assert markdown.code == 6 and "- the training ignores the seed: " in markdown.out
    value = compared(kit, "--plain", code=6)
    assert (value["seed"]["ignored"], value["seed"]["repeats"]) == (True, True)


def test_noise_beyond_the_seed_is_said_and_a_seed_that_repeats_too(tmp_path: Path) -> None:
    chance = "random.SystemRandom().gauss(0, 0.05)"
    kit = repository(tmp_path / "mine", {"train.py": script(2, chance)})
    (kit.root / "train.py").write_text(script(1, chance))
    ended = kit.autolab("compare", *OWN)
    assert ended.code == 0, ended.out + ended.err
    assert "noise beyond the seed: the same seed gave val loss " in ended.out
    assert compared(kit, "--plain", code=0)["seed"]["repeats"] is False
    (kit.root / "train.py").write_text(script(1, "random.Random(SEED).gauss(0, 0.05)"))
    kit.git("commit", "-qam", "seeded")
    (kit.root / "train.py").write_text(script(0, "random.Random(SEED).gauss(0, 0.05)"))
    ended = kit.autolab("compare", "--plain")
    assert ended.code == 0 and "the seed repeats: the same seed gave val loss " in ended.out, ended.out + ended.err


def test_trainings_of_a_speed_never_run_side_by_side(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {}, config={"executor": {"name": "local", "options": {"slots": 2}}})
    words = ("--set", "seconds=1", "--delta", "0.05", "--pairs", "3", "--containment", "none", "--plain")
    value = compared(kit, *words, "--one-at-a-time", code=5)
    assert value["one_at_a_time"] == "asked"
    spoken = [line[0] for line in kit.executions()]
    assert len(spoken) >= 6 and spoken == ["start", "done"] * (len(spoken) // 2)
    speed = "import random\nprint(f'tokens_per_sec {100 + random.random():.2f}')\n"
    fast = repository(tmp_path / "mine", {"train.py": speed})
    (fast.root / "train.py").write_text(speed.replace("100", "200"))
    options = ("--metric", "tokens_per_sec", "--direction", "maximize", "--delta", "5", "--probe-seconds", "0")
    ended = fast.autolab("compare", *options, "--plain")
    assert ended.code == 0, ended.out + ended.err
    assert "one training at a time: tokens_per_sec is a time or a speed" in ended.out


def test_a_training_has_ten_times_the_seconds_of_the_warm_up_also_when_the_comparison_goes_on(tmp_path: Path) -> None:
    train = {"command": "{python} -S -B train.py"}
    kit = make_lab(tmp_path, {}, config={"train": train})
    (kit.root / "models" / "width.py").write_text("WIDTH = 4.0\n")
    words = ("--containment", "none", "--plain")
    first = compared(kit, *words, "--budget", "6 trials", code=6)
    assert first["time_limit_s"] == 60
    assert compared(kit, *words, code=0)["time_limit_s"] == 60
    (ledger,) = kit.store.glob("compare/*/ledger.jsonl")
    started = [json.loads(line)["data"] for line in ledger.read_text().split("\n") if '"run_started"' in line]
    limits = [(run["run_id"], *run["time_limit"].values()) for run in started]
    assert limits == [("warm_up_0001", 3600, "default"), ("noise_0001", 60, "warm_up"), ("run_0001", 60, "warm_up")]


def test_a_candidate_that_hangs_has_failed_with_that_reason(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {}, config={"train": {"command": "{python} -S -B train.py", "time_limit_s": 2}})
    ended = kit.autolab("compare", "--set", "seconds=60", "--delta", "0.05", "--containment", "none", "--plain")
    assert ended.code == 1, ended.out + ended.err
    assert "seconds-60-s0: timeout: train passed its limit of 2 s" in ended.err


def test_a_candidate_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {})
    (kit.root / "models" / "width.py").write_text("WIDTH = 4.0\n")
    kit.git("commit", "-qam", "steeper")
    (kit.root / "models" / "width.py").write_text("raise SystemExit('no such layer')\n")
    patch = tmp_path / "broken.patch"
    patch.write_text(kit.git("diff", "HEAD~1"))
    kit.git("checkout", "-q", "--", "models/width.py")
    words = ("HEAD~1", "--containment", "none", "--plain")
    value = compared(kit, *words, "HEAD", "--patch", str(patch), "--set", "width=200", code=0)
    assert Path(value["figure"]).name == "comparison.png" and Path(value["figure"]).exists()
    answers = {candidate["version"]: candidate["answer"] for candidate in value["candidates"]}
    assert answers == {"HEAD": "better", "broken.patch": "failed", "width=200": "failed"}
    errors = [candidate["error"] for candidate in value["candidates"]]
    assert errors[0] is None and "no such layer" in errors[1] and "a width above 100 has no shape" in errors[2]
    # Nothing is left: an error, and each with its reason.
    ended = kit.autolab("compare", *words, "--patch", str(patch), "--set", "width=200")
    assert ended.code == 1 and ended.err.count("\n") == 1, ended.out + ended.err
    assert "broken-s0: failed" in ended.err and "width-200-s0: failed" in ended.err
