"""A second `autolab init --from-existing` starts from what the first one learned, as long as it still holds."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from adoption_kit import commit, repository
from lab_kit import Finished, LabKit

from autolab.adoption import earlier_run
from autolab.adoption.detection import AdoptionRequest
from autolab.adoption.earlier_run import VERSION, EarlierAdoption, EarlierFlags
from autolab.lab.schemas.config import Config

# The names of the numbers are no part of a text that is printed: only the run shows them.
MAIN = """\
rows = open("data/rows.txt").read().split()
for name, number in {"val loss": 3.5, "acc": 0.5}.items():
    print(f"{name} {number:.4f}")
"""


def undecided(root: Path) -> LabKit:
    kit = repository(root, {"main.py": MAIN, ".gitignore": "data/*.txt\n", "data/readme.md": "1\n"})
    (kit.root / "data" / "rows.txt").write_text("1 2 3")
    return kit


def init(kit: LabKit, *options: str) -> Finished:
    return kit.autolab("init", "--from-existing", "--seed", "1", *options)


def kept(kit: LabKit) -> Path:
    return kit.root / ".git" / "autolab.adoption.json"


COMMAND = ("--train-command", "python main.py")


@pytest.mark.process
def test_what_is_missing_is_given_alone_and_nothing_runs_again(tmp_path: Path) -> None:
    kit = undecided(tmp_path / "mine")
    first = init(kit, *COMMAND)
    assert first.code == 2 and first.out.count("trying") == 2
    assert "the same command needs nothing but what is missing" in first.out
    second = init(kit, "--metric", "val loss", "--delta", "0.02")
    assert second.code == 0, second.out + second.err
    assert "trying" not in second.out
    assert second.out.startswith("as before: --train-command 'python main.py'; the run of ")
    assert " showed val loss: 1 value, last 3.5000; acc: 1 value, last 0.5000 (ended after " in second.out
    assert "it printed 1 value there, the last one 3.5000" in second.out
    config = Config.load(kit.root / Config.FILE)
    assert (config.metric.primary, config.metric.success_delta) == ("val loss", 0.02)
    assert (config.train.command, config.data) == ("{python} main.py", "data"), "which the first run was seen to need"
    assert not kept(kit).exists()


@pytest.mark.process
def test_another_commit_other_data_another_command_and_the_users_wish_run_it_again(tmp_path: Path) -> None:
    kit = undecided(tmp_path / "mine")
    init(kit, *COMMAND)
    (kit.root / "data" / "rows.txt").write_text("4 5 6 7")
    again = init(kit)
    assert "; run again, as data changed since the run of " in again.out and again.out.count("trying") == 2
    commit(kit, {"other.py": MAIN})
    again = init(kit)
    assert "; run again, as commit changed since the run of " in again.out and "trying" in again.out
    again = init(kit, "--train-command", "python other.py")
    assert again.out.startswith("run again, as command changed") and "trying {python} other.py" in again.out
    again = init(kit, "--probe-seconds", "30")
    assert "'python other.py'; run again after the run of " in again.out and "at most 30 s" in again.out
    # Flags that are given anew win.
    made = init(kit, *COMMAND, "--metric", "acc")
    assert made.code == 0 and Config.load(kit.root / Config.FILE).train.command == "{python} main.py"


@pytest.mark.process
def test_a_run_that_failed_is_run_again_with_the_same_flags(tmp_path: Path) -> None:
    kit = undecided(tmp_path / "mine")
    (kit.root / "data" / "rows.txt").unlink()
    failed = init(kit, *COMMAND, "--metric", "acc")
    assert failed.code == 1 and "missing: data/rows.txt: not there: " in failed.out
    (kit.root / "data" / "rows.txt").write_text("1 2 3")
    made = init(kit)
    assert made.code == 0, made.out + made.err
    assert "as before: --train-command 'python main.py' --metric acc; run again, as the run of " in made.out


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"version": 9}', "of another version (9), so it is ignored"),
        (f'{{"version": {VERSION}, "flags": {{"metric": 3}}}}', "cannot be read, so it is ignored: "),
        ("[]", "cannot be read, so it is ignored: "),
        ("{", "cannot be read, so it is ignored: "),
    ],
)
def test_a_file_that_cannot_be_read_is_said_and_ignored(tmp_path: Path, text: str, said: str) -> None:
    repository(tmp_path / "mine", {"a.txt": "1\n"})
    path = tmp_path / "mine" / ".git" / "autolab.adoption.json"
    path.write_text(text)
    told: list[str] = []
    assert earlier_run.recall(tmp_path / "mine", told.append) is None
    (line,) = told
    assert line.startswith(f"note: {path}: ") and said in line


def test_every_flag_is_kept_but_the_seconds_of_the_run() -> None:
    flags = {field.name for field in fields(AdoptionRequest)} - {"probe_seconds"}
    assert set(EarlierFlags.model_fields) == flags


def test_flags_that_are_given_anew_win() -> None:
    run = {
        "conditions": {},
        "bound": {},
        "added": [],
        "at": "2026-03-01 14:02",
        "probed": {},
        "series": [],
        "unread": {},
        "missing": [],
    }
    flags = {"metric": "val loss", "delta": 0.02, "data": ["my data"], "train_command": "python a.py"}
    earlier = EarlierAdoption.from_value({"version": VERSION, "flags": flags, "run": run}, "earlier.json")
    filled, words = earlier_run.filled(AdoptionRequest(train_command="python b.py", delta=0.5), earlier)
    assert filled == AdoptionRequest("python b.py", metric="val loss", delta=0.5, data=("my data",))
    assert words == "--metric 'val loss' --data 'my data'"
    assert earlier.run.time_of_day == "2026-03-01 14:02", "not today's"


@pytest.mark.process
def test_the_file_holds_a_diverged_run(tmp_path: Path) -> None:
    """JSON has no NaN."""
    kit = repository(tmp_path / "mine", {"train.py": MAIN.partition("\n")[2].replace("0.5", 'float("nan")')})
    assert init(kit, "--metric", "bleu", "--direction", "maximize").code == 2
    assert json.loads(kept(kit).read_text())["run"]["series"][0]["name"] == "val loss"
    assert "trying" not in init(kit, "--metric", "val loss").out
