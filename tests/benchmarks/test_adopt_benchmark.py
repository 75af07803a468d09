"""The benchmark of adoption on a small repository of ours: through the command line, from init to an idea's outcome."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "adopt"

TRAIN = """\
import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--momentum", type=float, default=0.0)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()
draw = random.Random(args.seed)
weight, speed = 4.0, 0.0
for step in range(20):
    speed = args.momentum * speed - args.lr * (weight + draw.gauss(0, 0.01))
    weight += speed
print(f"val loss {weight * weight:.5f}")
"""


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"adopt_{name}", BENCHMARK / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def checkout(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "training"]):
        subprocess.run([*git, *words], cwd=folder, check=True)


@pytest.mark.process
def test_a_repository_goes_from_init_to_the_outcome_of_an_idea(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout(tmp_path / "repos" / "small")
    common = {"folder": "small", "source": "https://example.org/small"}
    ready = '--metric "val loss" --delta 0.005 --probe-seconds 0 --train-command "python train.py --lr 0.2"'
    entries = {
        "small": common | {"init": [ready], "ideas": 1, "pairs": 24, "seconds": 20},
        "missing": common | {"init": ['--delta 1 --train-command "python other.py"'], "ready": False},
        "absent": common | {"folder": "absent", "init": [ready]},
    }
    table = tmp_path / "table.yaml"
    table.write_text(yaml.safe_dump(entries, sort_keys=False))
    work = tmp_path / "work"
    words = ["--repos", str(tmp_path / "repos"), "--work", str(work), "--table", str(table)]
    assert module("run").main(words) == 0
    printed = capsys.readouterr()
    small, missing = (json.loads((work / f"{name}.json").read_text()) for name in ("small", "missing"))
    assert (small["ready"], small["commands"], small["calibrated"]) == (True, 1, "passed")
    [[title, outcome]] = small["ideas"]
    assert " -> " in title and outcome.endswith(" pairs)")
    assert not missing["ready"] and "other.py" in missing["reason"]
    assert f"| {title}: *{outcome}* (24 pairs, 20 s a training) |" in printed.out
    assert "absent: " in printed.err and "git clone https://example.org/small" in printed.err
    # The checkout is as it was.
    assert [path.name for path in (tmp_path / "repos" / "small").iterdir() if path.name != ".git"] == ["train.py"]


def test_an_idea_has_the_outcome_of_its_results_and_a_long_reason_is_cut(tmp_path: Path) -> None:
    run = module("run")
    rows = [
        "iteration\tdescription",
        "t_h1\tfresh seeds, kept: More (lr 1 -> 2) (self-reported)",
        "t_h2\tLess (lr 1 -> 0.5)",
    ]
    (tmp_path / "results.tsv").write_text("\n".join(rows) + "\n")
    supported = {"verdict": "supported", "reason": "", "comparisons": [{"pairs": 5}]}
    futile = {"verdict": "inconclusive", "reason": "no_change", "comparisons": []}
    for name, assessment, confirmation in (("t_h1", supported, {"outcome": "kept"}), ("t_h2", futile, None)):
        folder = tmp_path / "experiments" / name
        folder.mkdir(parents=True)
        value = {"iteration_id": name, "status": "completed", "assessment": assessment, "confirmation": confirmation}
        (folder / "results.yaml").write_text(yaml.safe_dump(value))
    assert run._ideas(tmp_path) == [
        ("More (lr 1 -> 2)", "kept (5 pairs)"),
        ("Less (lr 1 -> 0.5)", "no change (no pairs)"),
    ]
    long = run.Result("a", "b", reason="x|" * 200)
    assert len(run.table([long])) < 600


def test_small_data_has_the_formats_that_the_repositories_read(tmp_path: Path) -> None:
    data = module("small_data")
    text = "To be or not to be\n" * 3000
    data.llmc(tmp_path, text)
    channels, layers = data.CHANNELS, data.LAYERS
    weights = (data.PADDED + data.LONGEST) * channels + layers * (12 * channels**2 + 13 * channels) + 2 * channels
    assert (tmp_path / "gpt2_124M.bin").stat().st_size == 4 * (data.HEADER + weights)
    tokens = tmp_path / "dev" / "data" / "tinyshakespeare" / "tiny_shakespeare_val.bin"
    assert tokens.stat().st_size == 4 * data.HEADER + 2 * 20_000
    data.words(tmp_path / "words", text)
    assert {path.name for path in (tmp_path / "words").iterdir()} == {"train.txt", "valid.txt", "test.txt"}
