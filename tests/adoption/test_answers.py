"""Everything that is missing is said at once, each with the line that fixes it, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from adoption_kit import commit, repository
from lab_kit import Finished, LabKit

from autolab.lab.schemas.config import Config

pytestmark = pytest.mark.process

# The names of the numbers are no part of a text that is printed: only the run shows them.
NUMBERS = """\
for name, number in {"val loss": 3.5, "acc": 0.5}.items():
    print(f"{name} {number:.4f}")
"""


def init(kit: LabKit, *options: str) -> Finished:
    return kit.autolab("init", "--from-existing", "--seed", "1", *options)


def missing(ended: Finished) -> list[str]:
    return [line.removeprefix("  missing: ") for line in ended.out.split("\n") if line.startswith("  missing: ")]


def test_states_of_git_filters_and_flags_are_one_list_and_nothing_runs(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": f"import nobodys_module\nopen('set.bin')\n{NUMBERS}"})
    kit.git("config", "filter.lfs.clean", "sed s/1/2/")
    commit(kit, {".gitattributes": "*.bin filter=lfs\n", "set.bin": "1\n", "more.txt": "1\n"})
    kit.git("branch", "exp")
    (kit.root / "more.txt").write_text("2\n")
    ended = init(kit, "--data", "nowhere", "--delta", "-1", "--metric", "goodness", "--python", "no/python")
    lines = missing(ended)
    for line, start in zip(
        lines,
        [
            "more.txt: changed since the last commit, which experiments start from; commit or stash",
            "the branch exp keeps git from making a lab's exp/; rename it: git branch -m exp NEW_NAME",
            "--python: no/python: no such program",
            "--delta: -1 is not a positive number",
            "--data: nowhere: no such file or folder",
            "--direction: goodness does not say which way is good",
            "set.bin: kept in Git LFS",
        ],
        strict=True,
    ):
        assert line.startswith(start), lines
    assert "  perhaps missing: train.py needs nobodys_module, not found in the trials' Python: install" in ended.out
    assert ended.err == "autolab: 7 things are missing, see above; nothing was written\n" and ended.code == 1
    assert "trying" not in ended.out and not (kit.root / ".autolab").exists()
    ended = init(kit, "--delta", "-1", "--data", "nowhere", "--probe-seconds", "-1")
    assert "--probe-seconds: -1 is not a number of seconds; 0 does not try it" in missing(ended)


def test_all_modules_that_the_reached_files_import_and_nobody_has_are_one_line(tmp_path: Path) -> None:
    """The run ends at the first one."""
    imports = (
        "from own import deep\nimport nobodys_first\ntry:\n    import optional_one\nexcept ImportError:\n    pass\n"
    )
    files = {
        "train.py": imports + NUMBERS,
        "own/__init__.py": "import nobodys_third\n",
        "own/deep.py": "from . import deeper\n",
        "own/deeper.py": "import nobodys_second\n\ndef later():\n    import optional_two\n",
    }
    ended = init(repository(tmp_path / "mine", files), "--metric", "acc")
    (line,) = missing(ended)
    assert line == (
        "train.py needs nobodys_first, nobodys_second, nobodys_third, not found in the trials' Python: install there,"
        " or name another: --python"
    )


FOLDERS = "print(f'val_loss: {1}')\nopen('runs/log.txt')\nopen('dataset/rows.txt')\n"


def test_of_several_folders_that_git_does_not_hold_the_one_of_a_usual_name_is_likely(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": FOLDERS})
    for name in ("runs", "dataset"):
        (kit.root / name).mkdir()
    refused = init(kit, "--probe-seconds", "0", "--delta", "-1")
    assert refused.code == 2 and "--data" not in refused.out + refused.err, "scripts go without, as ever"
    made = init(kit, "--probe-seconds", "0", "--yes")
    assert "  --data dataset: taken as the likely answer (--yes)\n" in made.out
    assert Config.load(kit.root / Config.FILE).data == "dataset"


def test_wrong_flags_alone_are_the_exit_code_of_a_wrong_command_line(tmp_path: Path) -> None:
    ended = init(repository(tmp_path / "mine", {"train.py": NUMBERS}), "--delta", "-1", "--metric-pattern", "(")
    assert ended.code == 2 and len(missing(ended)) == 2 and "2 things are missing" in ended.err


def test_an_unclear_metric_does_not_stop_the_run_and_is_listed_with_what_the_run_misses(tmp_path: Path) -> None:
    text = f"import os\n{NUMBERS}\nopen('data/rows.txt')\n"
    kit = repository(tmp_path / "mine", {"train.py": text})
    ended = init(kit)
    assert '  --metric "val loss"  1 value, last 3.5000\n  --metric "acc"  1 value, last 0.5000\n' in ended.out
    file, metric = missing(ended)
    assert file.startswith("data/rows.txt: not there: ") and "autolab fetch -- CMD" in file
    assert metric == "--metric: name the number that decides, such as the first of those above"
    assert ended.code == 1 and "2 things are missing, see above; --probe-seconds 0" in ended.err
    assert not (kit.root / ".autolab").exists()


def test_an_unclear_direction_is_refused_after_the_run_with_what_the_run_misses(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": f"{NUMBERS}import nobodys_module\n"})
    ended = init(kit, "--metric", "goodness")
    module, direction = missing(ended)
    assert "has no module nobodys_module: install it there" in module and direction.startswith("--direction: goodness")
    commit(kit, {"train.py": NUMBERS})
    ended = init(kit)
    assert ended.code == 2 and [line.split(":")[0] for line in missing(ended)] == ["--direction", "--metric"]
    assert "the training ended without printing goodness; what it printed stands above" in ended.out
