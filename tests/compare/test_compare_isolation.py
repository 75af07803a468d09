"""The trainings of a comparison have nothing in common that one of them can write."""

from __future__ import annotations

from pathlib import Path

import pytest
from adoption_kit import repository

pytestmark = pytest.mark.process

TRAIN = """\
import os
import pathlib
import random
import sys
import tempfile

for folder in (tempfile.gettempdir(), "."):
    cache = pathlib.Path(folder, "cache", "weights.bin")
    if cache.exists():
        sys.exit(f"{cache} is another training's")
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("mine")
print(f"val loss {1 + random.Random(int(os.environ['AUTOLAB_SEED'])).gauss(0, 0.1):.5f}")
"""


@pytest.mark.parametrize("level", ["none", "partial", "full"])
def test_each_training_has_its_own_folder_for_temporary_files_at_every_level(tmp_path: Path, level: str) -> None:
    kit = repository(tmp_path / "mine", {"train.py": TRAIN})
    (kit.root / "train.py").write_text(TRAIN.replace("1 + random", "0.2 + random"))
    words = ("--metric", "val loss", "--delta", "0.1", "--probe-seconds", "0", "--containment", level, "--plain")
    ended = kit.autolab("compare", *words)
    assert ended.code == 0, ended.out + ended.err
    assert "better: val loss" in ended.out


def test_trainings_that_write_to_a_place_of_all_run_one_at_a_time_which_is_said(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    place.mkdir(mode=0o777)
    write = f"try:\n    open({str(place / 'weights')!r}, 'a').close()\nexcept OSError:\n    pass\n"
    train = TRAIN + write + "LOG = '/tmp/autolab-test-log'\n"
    kit = repository(tmp_path / "mine", {"train.py": train})
    (kit.root / "train.py").write_text(train.replace("1 + random", "0.2 + random"))
    ended = kit.autolab("compare", "--metric", "val loss", "--delta", "0.1", "--plain")
    assert ended.code == 0, ended.out + ended.err
    assert f"one training at a time: all of them write to {place / 'weights'}, /tmp/autolab-test-log" in ended.out
    contained = kit.autolab("compare", "--delta", "0.1", "--containment", "full", "--plain")
    assert contained.code == 0 and "one training at a time" not in contained.out, contained.out + contained.err
