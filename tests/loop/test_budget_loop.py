"""Caps on hours and GPU hours, through the command line: what is under way ends, and no more is begun."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lab_kit import HELPS, LabKit, make_lab, script

pytestmark = pytest.mark.process

SLOW = "import time\ntime.sleep(0.4)\n"


def slow_lab(folder: Path, **config: object) -> LabKit:
    """A tiny lab whose trainings take at least 0.4 s each, and whose run wants 16 pairs."""
    test = {"rule": "fixed", "alpha": 0.005, "max_pairs": 16, "confirm_pairs": 16}
    kit = make_lab(folder, script(HELPS), config={"test": test, **config})
    path = kit.root / "train.py"
    head, _, rest = path.read_text().partition("import json\n")
    path.write_text(f"{head}import json\n{SLOW}{rest}")
    kit.git("commit", "-qam", "slower")
    return kit


def test_gpu_hours_are_booked_by_trial_and_shorten_a_run_to_what_they_pay_for(tmp_path: Path) -> None:
    kit = slow_lab(tmp_path, train={"command": "{python} -S -B train.py", "time_limit_s": 30, "gpus": 2})
    assert kit.autolab("calibrate").code == 0
    calibrated = kit.events("transition")[-1]["data"]["campaign"]["gpu_seconds"]
    seconds = [line["data"]["trial"]["seconds"] for line in kit.events("trial")]
    assert calibrated == pytest.approx(2 * sum(seconds), abs=0.01) and calibrated > 0
    path = kit.root / ".autolab" / "config.yaml"
    cap = (calibrated + 2 * 8 * max(seconds)) / 3600  # eight trials more, at the slowest
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"budget": {"gpu_hours": cap}}))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 4, ended.out + ended.err
    assert "budget: " in ended.out
    spent = kit.events("transition")[-1]["data"]["campaign"]["gpu_seconds"]
    assert spent <= cap * 3600 + 2 * 2 * max(seconds), "at most the trials under way go past it"


def test_wall_hours_end_a_run_after_the_trials_under_way(tmp_path: Path) -> None:
    kit = slow_lab(tmp_path, budget={"wall_hours": 4.0 / 3600})
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 4, ended.out + ended.err
    assert "budget: wall_hours" in ended.out
    said = [row[0] for row in kit.tried()]
    assert said.count("start") == said.count("done") < 32, "nothing is torn, and not all of it ran"
    path = kit.root / ".autolab" / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"budget": {"wall_hours": 1.0}}))
    assert kit.autolab("review", "retry").code == 0
    went_on = kit.autolab("loop", "--max-iterations", "1", timeout=240)
    assert went_on.code == 0, went_on.out + went_on.err
    assert max(kit.executed("done").values()) == 1, "no trial ran twice"
