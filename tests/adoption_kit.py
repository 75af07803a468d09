"""Small repositories with a training program, to be adopted through the command line."""

from __future__ import annotations

from pathlib import Path

from lab_kit import Finished, LabKit

DESCENT = """\
import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()
random.seed(options.seed)
weight = 5.0
for step in range(20):
    weight -= options.lr * (2 * weight + random.gauss(0, 0.2))
print(f"train loss {weight:.5f}, val loss {abs(weight) + 0.5 + random.gauss(0, 0.02):.5f}")
"""
"""A training of milliseconds that prints `val loss`: a larger step size is better, up to a point."""

TRAIN = """\
import os

SEED = int(os.environ.get("AUTOLAB_SEED", "0"))
LR = 1.0
print(f"val_loss: {LR + SEED % 97 * 0.0001:.6f}")
"""


def repository(root: Path, files: dict[str, str]) -> LabKit:
    """A repository with these files committed on `main`."""
    root.mkdir(parents=True)
    kit = LabKit(root, root.parent / "count.txt")
    kit.git("init", "--quiet", "--initial-branch", "main")
    return commit(kit, files)


def commit(kit: LabKit, files: dict[str, str]) -> LabKit:
    for name, text in files.items():
        path = kit.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    return kit


def clone(source: LabKit, root: Path, *options: str) -> LabKit:
    """A clone by git's own protocol, so that `--depth` and `--filter` count."""
    source.git("config", "uploadpack.allowFilter", "true")
    source.git("clone", "--quiet", *options, f"file://{source.root}", str(root))
    return LabKit(root, source.counter)


def adopt(kit: LabKit, *options: str, **env: str) -> Finished:
    return kit.autolab("init", "--from-existing", "--seed", "1", "--probe-seconds", "0", *options, **env)


def adopted(kit: LabKit, *options: str, **env: str) -> str:
    """What an adoption says that succeeds."""
    ended = adopt(kit, *options, **env)
    assert ended.code == 0, ended.out + ended.err
    return ended.out


def refused(kit: LabKit, *options: str, **env: str) -> str:
    """The one line of a refusal, which leaves no lab and no file behind."""
    before = sorted(kit.root.rglob("*"))
    ended = adopt(kit, *options, **env)
    assert ended.code != 0 and ended.out == "" and ended.err.count("\n") == 1, ended.out + ended.err
    assert sorted(kit.root.rglob("*")) == before
    return ended.err
