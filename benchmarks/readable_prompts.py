"""Whether somebody who reads nothing but a prompt knows what a lab has found: five finished labs, and the truth.

    venv/bin/python benchmarks/readable_prompts.py --folder prompts     # makes the labs (minutes)
    venv/bin/python benchmarks/readable_prompts.py --folder prompts --score answers.json

`prompts/1.md` to `5.md` are what a model would be asked next, `truth.json` is what the ledgers say. A reader gets the
five texts and no more, and writes for each: the best change so far (words of its title), its gain, the deviation of one
pair's difference, and the titles of what failed or changed nothing. Any reader will do: a person, or a model.

    {"1": {"best": "...", "gain": 0.05, "noise": 0.002, "failed": ["..."]}, ...}

Right is: a best change whose title shares most of its words with the recorded one, numbers within 2%, and each failed
idea named.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
AUTOLAB = ROOT / "venv" / "bin" / "autolab"
TINY = ROOT / "tests" / "labs" / "tiny"
PROMPTS = ROOT / "src" / "autolab" / "templates" / "base" / ".autolab" / "prompts"
CLOSE = 0.02
"""How far a number may be from the recorded one, as a share of it."""
SCRIPT_TRAINING = """import random, sys
rate = 0.02
depth = 3
momentum = 0.5
warm_steps = 4
random.seed(int(sys.argv[1]))
loss = 1.0 + 3 * abs(rate - 0.05) + 0.02 * abs(depth - 5) + 0.1 * abs(momentum - 0.9) + random.gauss(0, 0.01)
for step in range(10):
    print(f"step {step} train_loss {loss + 0.5 / (step + 1):.4f}")
print(f"val_loss: {loss:.5f}")
"""


def answers(title: str, width: str, family: str) -> dict[str, Any]:
    """One scripted idea: its hypothesis, its design and code, a review, words and a decision."""
    claim = {
        "title": title,
        "mechanism": f"{title}: it may fit better.",
        "success": "val_loss falls",
        "risk_bounds": [],
    }
    arms = {"description": title, "baselines": [{"name": "baseline"}], "variants": [{"name": "candidate"}]}
    code = {"plan": title, "files": [{"path": "models/width.py", "content": f"WIDTH = {width}\n"}]}
    words = {"observation": "See the table.", "inference": "As measured.", "claim": "For this lab.", "paper": []}
    outputs = {
        "hypothesis": claim | {"family": family},
        "design": arms,
        "implementation": code,
        "implementation_review": {"findings": []},
        "update_docs": words | {"no_changes": "nothing to add"},
        "decide_repeat": {"decision": "new_hypothesis", "reason": "more to find"},
    }
    return {stage: [{"output": output}] for stage, output in outputs.items()}


def batch(*ideas: tuple[str, str, str]) -> dict[str, Any]:
    """The same for a batch."""
    each = [answers(*idea) for idea in ideas]
    stages = ("hypothesis", "implementation", "implementation_review")
    return {stage: [one[stage][0] for one in each] for stage in stages}


FAILING = "4.0 if len(__import__('sys').argv) > 1 else float('a width of no number')"
"""Code that passes the dry run, which has an option, and fails in every trial."""
SAME = ("The same slope, said again", "3.0  # as before", "words")
IDEAS = (
    ("A slope of one half", "0.5", "slope"),
    ("A slope of three", "3.0", "slope"),
    ("A width that is no number", FAILING, "widths"),
    ("A slope of one and a half", "1.5", "slope"),
    ("A slope of six", "6.0", "slope"),
)
TESTED = (*IDEAS[:2], SAME, *IDEAS[3:])
"""Tested to its end, an idea that fails in its trials goes back to its author until a user is asked."""


def scripted(folder: Path, script: list[dict[str, Any]], mode: str) -> Path:
    """A lab of milliseconds whose ideas are written down beforehand."""
    template = folder / "template"
    subprocess.run(["cp", "-r", str(TINY), str(template)], check=True)
    # The lab of the tests keeps prompts of its own, and this is about those that every new lab gets.
    subprocess.run(["cp", "-r", str(PROMPTS), str(template / ".autolab")], check=True)
    path = template / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text()) | {"test": {"mode": mode}, "screen": {"arms": len(IDEAS)}}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    (template / ".autolab" / "script.yaml").write_text(yaml.safe_dump({"iterations": script}, sort_keys=False))
    lab = folder / "lab"
    run("init", str(lab), "--template", str(template), "--seed", "1")
    return lab


def repository(folder: Path) -> Path:
    """A user's repository with a training program that prints, as a lab."""
    lab = folder / "lab"
    lab.mkdir()
    (lab / "train.py").write_text(SCRIPT_TRAINING)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=u", "-c", "user.email=u@x", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(lab), *words], check=True)
    training = ("--train-command", "python3 train.py {seed}", "--metric", "val_loss", "--direction", "minimize")
    run("init", "--from-existing", *training, "--yes", folder=lab)
    return lab


def run(*words: str, folder: Path = ROOT, ends: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([str(AUTOLAB), *words], cwd=folder, capture_output=True, text=True)
    if done.returncode not in ends:
        sys.exit(f"autolab {' '.join(words)}: {done.stderr or done.stdout[-2000:]}")
    return done.stdout


def make(folder: Path) -> None:
    """Make the labs, run them to their end, and write prompts and truth."""
    digits = folder / "digits" / "lab"
    labs = {
        "1": (scripted(made(folder / "each"), [answers(*idea) for idea in TESTED], "each"), len(TESTED)),
        "2": (scripted(made(folder / "explore"), [batch(*IDEAS)], "explore"), 1),
        "3": (repository(made(folder / "script")), 3),
        "4": (repository(made(folder / "tested")), 3),
        "5": (digits, 2),
    }
    run("init", str(made(digits.parent) / "lab"), "--seed", "5")
    config = labs["4"][0] / ".autolab" / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"test": {"mode": "each"}}, sort_keys=False))
    truth = {}
    for name, (lab, iterations) in labs.items():
        # A script that has no further answer ends at a user, which is an end like another here.
        run("loop", "--max-iterations", str(iterations), "--containment", "none", folder=lab, ends=(0, 3, 4))
        (folder / f"{name}.md").write_text(json.loads(run("prompt", "hypothesis", "--json", folder=lab))["user"])
        truth[name] = true_state(lab)
    (folder / "truth.json").write_text(json.dumps(truth, indent=2))


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def true_state(lab: Path) -> dict[str, Any]:
    """What the ledger says: the best change with its gain, the noise, the ideas that failed."""
    store = lab / ".git" / "autolab"
    events = [json.loads(line) for line in (store / "ledger.jsonl").read_text().split("\n") if line]
    lessons = [event["data"]["lesson"] for event in events if event["event"] == "learned"]
    measured = [lesson for lesson in lessons if lesson.get("gain")]
    # Kept comes before provisional, that before what was only measured, whatever the numbers.
    ranks = {"kept": 2, "provisional": 1}
    best = max(measured, key=lambda lesson: (ranks.get(lesson.get("outcome") or "", 0), lesson["gain"]["mean"]))
    return {
        "best": best["title"],
        "gain": best["gain"]["mean"],
        "noise": json.loads((store / "calibration.json").read_text())["difference_deviation"],
        "failed": sorted(lesson["title"] for lesson in lessons if lesson["status"] == "failed" or is_same(lesson)),
    }


def is_same(lesson: dict[str, Any]) -> bool:
    """Whether an idea changed nothing that was measured."""
    return lesson["reason"] == "no_change"


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9.]+", text.lower()))


def shares_words(said: str, recorded: str) -> bool:
    return 2 * len(words_of(said) & words_of(recorded)) >= len(words_of(recorded))


def close(said: object, recorded: float) -> bool:
    return isinstance(said, int | float) and abs(said - recorded) <= CLOSE * abs(recorded)


def score(folder: Path, path: Path) -> int:
    """Print for each lab what the reader has right; the number of wrong ones."""
    truth, given = json.loads((folder / "truth.json").read_text()), json.loads(path.read_text())
    wrong = 0
    for name, state in truth.items():
        said = given.get(name, {})
        failed = said.get("failed", [])
        right = {
            "best": shares_words(str(said.get("best", "")), state["best"]),
            "gain": close(said.get("gain"), state["gain"]),
            "noise": close(said.get("noise"), state["noise"]),
            "failed": len(failed) == len(state["failed"])
            and all(any(shares_words(str(one), title) for one in failed) for title in state["failed"]),
        }
        wrong += len(right) - sum(right.values())
        print(f"{name}: " + ", ".join(f"{what} {'right' if holds else 'WRONG'}" for what, holds in right.items()))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--score", type=Path, help="the answers of a reader; makes nothing")
    arguments = parser.parse_args()
    if arguments.score:
        return min(1, score(arguments.folder, arguments.score))
    make(arguments.folder.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
