"""Files that a first run left: which of them hold a metric, and what in their names changes from run to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from adoption_kit import repository
from hypothesis import given
from hypothesis import strategies as st

from autolab.adoption.written_files import source_of, written_files
from autolab.lab.schemas.config import Config


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("lightning_logs/version_0/metrics.csv", "lightning_logs/version_0/metrics.csv"),
        ("outputs/2026-11-30/14-02-11/metrics.csv", "outputs/*/*/metrics.csv"),
        ("runs/Nov30_14-02-11_host/events.out.tfevents.17.host.1.0", "runs/*/events.out.tfevents.*"),
        ("logs/20261130_140211.json", "logs/*.json"),
        ("wandb/run-20261130_140211-ab12/files/summary.json", "wandb/*/files/summary.json"),
        ("out/seed=0/metrics.jsonl", "out/*/metrics.jsonl"),
        ("out/3f9c2a1b7d/metrics.jsonl", "out/*/metrics.jsonl"),
        ("mnist5000/deadbeef/results-v2.csv", "mnist5000/deadbeef/results-v2.csv"),
    ],
)
def test_dates_seeds_and_hashes_become_stars(name: str, source: str) -> None:
    assert source_of(name, [name]) == source


def test_a_pattern_that_would_match_two_files_is_none() -> None:
    names = ["runs/2026-11-30/a.csv", "runs/2026-11-29/a.csv"]
    assert [source_of(name, names) for name in names] == names


@given(st.from_regex(r"[a-z0-9_/-]{1,40}", fullmatch=True))
def test_a_file_always_matches_its_own_source(name: str) -> None:
    path = Path(f"a/{name.strip('/')}.csv")
    source = source_of(str(path), [str(path)])
    assert source == str(path) or path.match(source)


def test_what_is_committed_linked_or_hidden_is_no_source(tmp_path: Path) -> None:
    copy, export, folder = tmp_path / "copy", tmp_path / "export", tmp_path / "train"
    for place in (copy / ".cache", copy / "new", export, folder):
        place.mkdir(parents=True)
    for place in (copy, export):
        (place / "old.csv").write_text("a\n1\n")
    (export / "changed.csv").write_text("a\n1\n")
    for name in ("changed.csv", "new/m.jsonl", ".cache/m.csv", "notes.txt", "conftest.py"):
        (copy / name).write_text("a\n2\n")
    (copy / "linked.csv").symlink_to("/etc/passwd")
    (folder / "metrics.json").write_text("{}")
    sources = [file.source for file in written_files(copy, export, folder)]
    assert sources == ["metrics.json", "changed.csv", "new/m.jsonl"]


LOGS = """\
import os, time

LR = 1.0
folder = time.strftime("outputs/%Y-%m-%d/%H-%M-%S")
os.makedirs(folder)
with open(f"{folder}/metrics.csv", "w") as file:
    file.write("step,valid_err,lr\\n")
    for step in range(3):
        file.write(f"{step},{LR / (step + 1)},0.1\\n")
"""


@pytest.mark.process
def test_the_first_run_finds_the_metric_in_a_file_and_trials_read_it_there(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": LOGS})
    made = kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "30", "--metric", "valid_err")
    assert made.code == 0, made.out + made.err
    source = "outputs/*/*/metrics.csv"
    assert f"train.metrics         {source}  (it wrote 3 values there, the last one 0.333" in made.out
    assert Config.load(kit.root / Config.FILE).train.metrics == source
    measured = kit.autolab("calibrate")
    assert measured.code == 0, measured.out + measured.err
    assert list(kit.root.glob(f"experiments/calibration/runs/*/trials/*/a1/train/{source}"))
