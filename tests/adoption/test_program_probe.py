"""The first run of an adopted program: contained like a trial, short, and nothing of the checkout changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab_kit import LabKit

from autolab.lab.schemas.config import Config

pytestmark = pytest.mark.process

TRAIN = """\
import os, sys, time, socket
print("seed", os.environ["AUTOLAB_SEED"])
with open("data/part/rows.bin", "rb") as file:
    rows = len(file.read())
with open("scratch.txt", "w") as file:
    file.write("left beside itself")
try:
    socket.getaddrinfo("data.example", 443)
except OSError as error:
    print("network:", error, file=sys.stderr)
print(f"val_loss: {1 / rows:.4f}")
"""


def make(root: Path, text: str, ignored: str = "*.bin\n") -> LabKit:
    (root / "data" / "part").mkdir(parents=True)
    (root / "train.py").write_text(text)
    (root / "data" / "part" / "readme.md").write_text("committed beside the data\n")
    (root / ".gitignore").write_text(ignored)
    kit = LabKit(root, root.parent / "count.txt")
    kit.git("init", "--quiet")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    (root / "data" / "part" / "rows.bin").write_bytes(b"12345678")
    return kit


def files_of(root: Path) -> dict[str, bytes]:
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and ".git" not in path.relative_to(root).parts:
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def test_data_beside_committed_files_is_bound_and_the_checkout_stays_as_it_was(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", TRAIN)
    before = files_of(kit.root)
    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 0, made.out + made.err
    assert "data/part/rows.bin: not there: git does not hold it" in made.out and made.out.count("trying ") == 2
    assert re.search(r"ended after \d+ s, without an error", made.out)
    assert Config.load(kit.root / Config.FILE).data == "data/part"
    after = files_of(kit.root)
    assert {path: after[path] for path in before} == before and "scratch.txt" not in after
    assert not (kit.root / ".git" / "autolab.probe").exists()


def test_what_is_missing_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    kit = make(tmp_path / "mine", "import a_module_that_nobody_has\nprint(f'val_loss: {1}')\n")
    before = files_of(kit.root)
    made = kit.autolab("init", "--from-existing", "--seed", "1")
    assert made.code == 1
    assert "missing: " in made.out and "has no module a_module_that_nobody_has: install it there" in made.out
    assert made.err.count("\n") == 1 and "one thing is missing, see above" in made.err
    assert files_of(kit.root) == before
    again = kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "0")
    assert again.code == 0 and "trying" not in again.out


def test_a_long_training_is_ended_at_the_limit(tmp_path: Path) -> None:
    text = "import time\nprint('val_loss: 1.5', flush=True)\ntime.sleep(600)\n"
    kit = make(tmp_path / "mine", text.replace("'val_loss: 1.5'", "f'val_loss: {1.5}'"))
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "2")
    assert made.code == 0, made.out + made.err
    assert re.search(r"still running after [2-9] s, without an error", made.out)
