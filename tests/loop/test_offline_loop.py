"""The offline researcher through the command line: on any script with constants, and on a lab with a method."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import TINY, LabKit, decision, docs, each_idea, iteration, review, script

pytestmark = pytest.mark.process

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def constants_lab(folder: Path, others: str = "", **config: Any) -> LabKit:
    """The tiny lab with its one setting as a constant of the training script, and `others` beside it."""
    template = folder / "template"
    shutil.copytree(TINY, template)
    train = template / "train.py"
    text = train.read_text().replace("from models.width import WIDTH", f"WIDTH = 2.0  # slope\n{others}")
    train.write_text(text)
    path = template / ".autolab" / "config.yaml"
    told = yaml.safe_load(path.read_text()) | {"researcher": {"name": "offline"}} | config
    path.write_text(yaml.safe_dump(each_idea(told), sort_keys=False))
    kit = LabKit(folder, folder / "count.txt")
    made = kit.autolab("init", str(folder / "lab"), "--template", str(template), "--seed", "3")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    return kit


def records(kit: LabKit) -> list[dict[str, Any]]:
    return [json.loads((folder / "record.json").read_text()) for folder in kit.iterations()]


def test_a_script_of_any_kind_is_researched_by_its_constants_the_same_for_the_same_seed(tmp_path: Path) -> None:
    kits = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        kits.append(constants_lab(tmp_path / name, "UNUSED_BUDGET = 8"))
        ended = kits[-1].autolab("loop", "--max-iterations", "3", figures=True)
        assert ended.code == 0, ended.out + ended.err
    assert kits[0].tables() == kits[1].tables()
    learned, twin = ([event["data"]["lesson"] for event in kit.events("learned")] for kit in kits)
    assert [lesson["title"] for lesson in learned] == [lesson["title"] for lesson in twin]
    assert [lesson["iteration"] for lesson in learned] == [1, 2, 3]
    assert "supported" in {record["verdict"] for record in records(kits[0])}, "a steeper slope helps"
    tried = [json.dumps([lesson["base"], lesson["changes"]]) for lesson in learned]
    assert len(set(tried)) == len(tried), "nothing is measured twice on one base"
    best = next(lesson for lesson in learned if lesson["verdict"] == "supported")
    written = kits[0].git("show", f"{best['commit']}:train.py")
    assert re.search(r"WIDTH = [48]\.?0?  # slope", written), "the constant's comment stays"
    assert (kits[0].root / "paper" / "figures" / "progress.png").stat().st_size > 10_000
    assert kits[0].autolab("verify").code == 0


FLAGS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2.0, help="slope")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seed", type=int, default=1)
args, _ = parser.parse_known_args()
WIDTH = args.lr
print(args.epochs, args.seed)
"""


def test_a_script_with_flags_is_researched_by_their_defaults(tmp_path: Path) -> None:
    kit = constants_lab(tmp_path, test={"rule": "fixed", "alpha": 0.1, "max_pairs": 3, "confirm_pairs": 3})
    train = kit.root / "train.py"
    train.write_text(train.read_text().replace("WIDTH = 2.0  # slope\n", FLAGS))
    kit.git("commit", "-qam", "flags")
    ended = kit.autolab("loop", "--goal", "try a larger learning rate", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    assert "goal 'try a larger learning rate': understood as A larger step size (lr 2 -> 6)" in ended.out
    learned = [event["data"]["lesson"] for event in kit.events("learned")]
    assert [(lesson["changes"], lesson["family"]) for lesson in learned] == [({"lr up": 6.0}, "step size")]
    assert learned[0]["verdict"] == "supported", "a steeper slope helps"
    before, after = (kit.git("show", f"{learned[0][key]}:train.py") for key in ("base", "commit"))
    assert after == before.replace('"--lr", type=float, default=2.0', '"--lr", type=float, default=6.0') != before
    assert "1803.09820" in (kit.iterations()[0] / "hypothesis.md").read_text()


def test_lessons_come_back_from_the_ledger(tmp_path: Path) -> None:
    kit = constants_lab(tmp_path)
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    copy = kit.store / "lessons.jsonl"
    copy.write_bytes(copy.read_bytes()[:-20])
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    learned = [event["data"]["lesson"] for event in kit.events("learned")]
    assert [json.loads(line) for line in copy.read_text().splitlines()] == learned
    assert len(learned) == 2 and learned[0]["iteration_id"] != learned[1]["iteration_id"]


def test_when_everything_was_tried_the_loop_stops_and_says_so(tmp_path: Path) -> None:
    kit = constants_lab(tmp_path, metric={"primary": "val_loss", "direction": "maximize", "success_delta": 9.0})
    ended = kit.autolab("loop", "--max-iterations", "4")
    assert ended.code == 0, ended.out + ended.err
    assert "every mechanism that fits was tried on this base" in ended.out
    assert kit.state()["stage"] == "stop" and len(kit.iterations()) == 2


def test_what_is_left_of_the_trials_ends_the_loop_as_a_budget_and_asks_nobody(tmp_path: Path) -> None:
    kit = constants_lab(tmp_path, budget={"trials": 4 + 3 + 6 + 1})  # calibration, search, confirmation
    ended = kit.autolab("loop", "--max-iterations", "3")
    assert ended.code == 4, ended.out + ended.err
    assert "up to 6 trials, and 1 are left of budget.trials in config.yaml" in kit.state()["reason"]
    assert kit.state()["stage"] == "stop" and len(kit.events("learned")) == 1


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("make it better", "goal 'make it better': names no mechanism of the catalogue, so the search chooses"),
        ("提高准确率", "goal '提高准确率': names no mechanism of the catalogue, so the search chooses"),
    ],
)
def test_a_goal_that_names_nothing_known_is_said_and_the_search_goes_on(tmp_path: Path, goal: str, said: str) -> None:
    kit = constants_lab(tmp_path)
    ended = kit.autolab("loop", "--goal", goal, "--max-iterations", "1")
    assert ended.code == 0 and said in ended.out.splitlines()


@pytest.mark.parametrize("goal", ["???", " ", "12 + 3"])
def test_a_goal_without_a_word_is_refused_before_anything_starts(tmp_path: Path, goal: str) -> None:
    kit = constants_lab(tmp_path)
    ended = kit.autolab("loop", "--goal", goal, "--max-iterations", "1")
    assert ended.code == 2 and f"--goal: {goal!r}" in ended.err and len(ended.err.splitlines()) == 1
    assert kit.events("transition")[-1]["data"]["why"] == "init"


def test_a_change_that_does_not_run_is_withdrawn_and_not_tried_again(tmp_path: Path) -> None:
    kit = constants_lab(tmp_path)
    train = kit.root / "train.py"
    train.write_text(train.read_text().replace("width > 100", "width != 2.0"))
    kit.git("commit", "-qam", "every change of the slope breaks")
    ended = kit.autolab("loop", "--max-iterations", "4")
    assert ended.code == 0, ended.out + ended.err
    learned = [event["data"]["lesson"] for event in kit.events("learned")]
    broken = [lesson for lesson in learned if lesson["family"] == "WIDTH"]
    assert broken and all(lesson["reason"] == "no_change" for lesson in broken)
    assert len({json.dumps(lesson["changes"]) for lesson in broken}) == len(broken)
    assert "withdrawn: the change does not run here" in ended.out


# A lab with a method


def digits(folder: Path, told: Any, pairs: int = 2) -> LabKit:
    kit = LabKit(folder, folder / "count.txt")
    made = kit.autolab("init", str(folder / "lab"), "--template", "digits", "--seed", "0")
    assert made.code == 0, made.err
    kit.root = folder / "lab"
    (kit.root / ".autolab" / "script.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
    path = kit.root / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["test"] = {"mode": "each", "rule": "fixed", "alpha": 0.1, "max_pairs": pairs, "confirm_pairs": pairs}
    config["metric"]["success_delta"] = 1.0  # what two epochs and two pairs resolve
    config["calibrate"] = {"seeds": 3}
    config["run_time_minutes"] = [0, 5]
    config["researcher"] = {"name": "scripted", "script": ".autolab/script.yaml"}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    settings = kit.root / "settings.py"
    settings.write_text(settings.read_text().replace("epochs: int = 60", "epochs: int = 2"))
    kit.git("commit", "-qam", "two epochs")
    return kit


@needs_torch
@pytest.mark.slow
def test_code_that_fails_twice_is_replaced_by_the_assemblers(tmp_path: Path) -> None:
    """A researcher's own model breaks; its design says what the model should be, so the assembler writes it."""
    config = {
        "name": "small_cnn",
        "input": [1, 8, 8],
        "classes": 10,
        "initialisation": "default",
        "layers": [{"type": "conv", "channels": 8}, {"type": "activation", "kind": "gelu"}, {"type": "flatten"}],
    }
    bad = {"plan": "My own.", "files": [{"path": "models/small_cnn.py", "content": "def Model(: oops\n"}]}
    bad["edits"] = [{"path": "models/__init__.py", "search": 'DEFAULT = "mlp"', "replace": 'DEFAULT = "small_cnn"'}]  # type: ignore[assignment]
    answer = {"output": bad}
    plan = {"description": "A small CNN.", "baselines": [{"name": "baseline"}], "variants": [{"name": "small_cnn"}]}
    told = script(
        iteration(
            design={"output": plan | {"model": {"model_config": config}}},
            implementation=[answer, answer],
            implementation_review=review(),
            update_docs=docs(),
            decide_repeat=decision(),
        )
    )
    kit = digits(tmp_path, told)
    ended = kit.autolab("loop", "--max-iterations", "1", timeout=300)
    assert ended.code == 0, ended.out + ended.err
    assert "the assembler writes the model" in ended.out
    (record,) = records(kit)
    assert record["assembler"]["via"] == "assembler" and record["status"] == "completed"
    written = kit.git("show", f"{record['commit']}:models/small_cnn.py")
    assert "nn.GELU()" in written and "oops" not in written
    method = json.loads(kit.git("show", f"{record['commit']}:method.json"))
    assert method["model"]["name"] == "small_cnn"
    assert kit.events("candidate")[-1]["data"]["via"] == "assembler"


def test_a_catalogue_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    kit = constants_lab(tmp_path, researcher={"name": "offline", "catalogue": "mine.yaml"})
    (kit.root / "method.json").write_text(
        (Path(__file__).parents[2] / "src/autolab/templates/digits/method.json").read_text()
    )
    kit.git("add", "method.json")
    kit.git("commit", "-qm", "a method")
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 1 and ended.err == "autolab: mine.yaml: not found\n"
