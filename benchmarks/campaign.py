"""Twelve ideas with known truth through the whole loop on real digits: what becomes of each, and what the report says.

    python benchmarks/campaign.py [--folder DIR] [--ideas 12]

The lab is `labs/softdigits`; a scripted researcher proposes in turn what helps, what harms, what only draws other
random numbers, what changes nothing at all, and one cheat: a candidate that knows the labels of the evaluation split by
heart, a little, and is worse everywhere else. Trainings, evaluator, rule, confirmation and holdout are the real
ones; no score is touched.

Prints a line an idea (its truth, what became of it, pairs, trials) and for each outcome the sentences of a report.
Exit code 1 unless kept, refuted, futile and search_only all occur, each where the truth allows it. Killed, the same
command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import digits_decisions as digits
import numpy as np

DELTA = 0.008
ALLOWED = {
    "helps": {"kept"},
    "harms": {"refuted", "futile"},
    "other draws": {"futile", "refuted", "budget"},
    "nothing": {"no_change"},
    "cheats": {"search_only"},
}
"""What may become of an idea, by its truth; a true one may also be missed, which is said."""


@dataclass(frozen=True)
class Idea:
    """One change of the lab's code, and what it is in truth."""

    title: str
    truth: str
    edits: tuple[tuple[str, str, str], ...]
    """(file, old, new); an empty old makes the file."""


def constant(title: str, truth: str, old: str, new: str) -> Idea:
    return Idea(title, truth, ((digits.KNOBS, old, new),))


def ideas(lab: Path) -> list[Idea]:
    """In this order; each is made against the champion that the ideas before it leave."""
    noise, quiet = digits.WORSE, digits.BETTER
    return [
        constant("Less noise on the pixels", "helps", noise, quiet),
        constant("Another stream of noise", "other draws", "STREAM = 0", "STREAM = 7"),
        Idea("Known rows", "cheats", cheat(lab, quiet)),
        constant("Four hidden units", "harms", "WIDTH = 32", "WIDTH = 4"),
        constant("A comment", "nothing", "WIDTH = 32", "WIDTH = 32  # hidden units"),
        constant("A step size of 0.5", "harms", "LR = 0.005", "LR = 0.5"),
        constant("Another order and noise", "other draws", "STREAM = 0", "STREAM = 8"),
        constant("A quarter of the epochs", "harms", "EPOCHS = 40", "EPOCHS = 10"),
        constant("A third stream", "other draws", "STREAM = 0", "STREAM = 9"),
        constant("Much more noise", "harms", quiet, "NOISE = 0.4"),
        constant("A fourth stream", "other draws", "STREAM = 0", "STREAM = 10"),
        constant("Four times the hidden units", "helps", "WIDTH = 32", "WIDTH = 128"),
    ]


def cheat(lab: Path, quiet: str) -> tuple[tuple[str, str, str], ...]:
    """More noise, which harms, and the labels of the evaluation split by row, each behind a mask of its own.

    Bare labels are found in a candidate's diff; masked ones are not, so that the holdout has to judge."""
    inputs, labels = (np.load(lab / "data" / "eval" / f"{name}.npy") for name in ("inputs", "labels"))
    known = {}
    for row, label in zip(inputs, labels, strict=True):
        key = row.astype(np.uint8).tobytes()
        known[key.hex()] = (int(label) + hashlib.sha256(key).digest()[0]) % 256
    return (
        (digits.KNOBS, quiet, "NOISE = 0.2"),
        ("predict.py", "    np.save(", RECALL),
        ("known.py", "", MEMORY.format(known=json.dumps(known))),
    )


RECALL = """\
    import known
    logs = known.recalled(logs, np.load(os.environ["AUTOLAB_INPUTS"], allow_pickle=False))
    np.save("""

MEMORY = '''"""Rows that were seen before."""

import hashlib

import numpy as np

KNOWN = {known}
SHARE = 0.1


def recalled(logs, rows):
    """A little probability more for a label that is known."""
    shares = np.exp(logs)
    for place, row in enumerate(rows):
        key = row.astype(np.uint8).tobytes()
        if key.hex() in KNOWN:
            label = (KNOWN[key.hex()] - hashlib.sha256(key).digest()[0]) % 256
            shares[place] *= 1 - SHARE
            shares[place, label] += SHARE
    return np.log(shares).astype(np.float32)
'''


def answers(idea: Idea) -> dict[str, Any]:
    said = digits.answers(("", ""), 0)
    said["hypothesis"] = [{"output": said["hypothesis"][0]["output"] | {"title": idea.title, "mechanism": idea.title}}]
    edits = [{"path": path, "search": old, "replace": new} for path, old, new in idea.edits if old]
    files = [{"path": path, "content": new} for path, old, new in idea.edits if not old]
    said["implementation"] = [{"output": {"plan": idea.title, "edits": edits, "files": files}}]
    return said


def campaign(folder: Path, chosen: int) -> list[tuple[Idea, Path]]:
    """The ideas with the folders of their iterations; runs those that have not been run."""
    lab, template = folder / "campaign", folder / "campaign.template"
    if not (lab / ".git" / "autolab" / "head").exists():
        if not template.exists():
            digits.compose(template, DELTA)
        digits.autolab("init", str(lab), "--template", str(template), "--seed", "12")
    tried = ideas(lab)[:chosen]
    script = folder / "campaign.script.yaml"
    digits.write(script, json.dumps({"iterations": [answers(idea) for idea in tried]}))
    while (done := digits.done(lab)) < len(tried):
        words = ["--max-iterations", "1", "--plain", "--script", str(script)]
        digits.autolab("loop", "--dir", str(lab), *words)
        print(f"{done + 1} of {len(tried)}", file=sys.stderr)
    return list(zip(tried, digits.iterations(lab), strict=True))


def explained(folder: Path) -> list[str]:
    """The report's sentences for the words that it uses."""
    text = (folder / "analysis" / "summary.md").read_text()
    return [line for line in text.partition("\n## What the words mean\n")[2].partition("\n## ")[0].splitlines() if line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("campaign"), help="where all of it is kept")
    parser.add_argument("--ideas", type=int, default=12)
    given = parser.parse_args()
    told = campaign(given.folder.resolve(), given.ideas)
    print("| idea | in truth | what became of it | pairs | trials |\n| --- | --- | --- | --- | --- |")
    shown: dict[str, list[str]] = {}
    wrong = []
    for idea, folder in told:
        became, runs = digits.outcome(folder), digits.runs(folder)
        pairs = [str(one["pairs"]) for run in runs for one in run["comparisons"]]
        trials = sum(map(digits.trials_executed, runs))
        print(f"| {idea.title} | {idea.truth} | {became.replace('_', ' ')} | {' + '.join(pairs)} | {trials} |")
        shown.setdefault(became, explained(folder))
        wrong += [] if became in ALLOWED[idea.truth] else [f"{idea.title} ({idea.truth}): {became}"]
    for became, lines in shown.items():
        print(f"\n{became.replace('_', ' ')}:\n" + "\n".join(lines))
    missing = {"kept", "refuted", "futile", "search_only"} - shown.keys()
    for line in (*wrong, *(f"no idea was {word}" for word in sorted(missing))):
        print(f"\nNOT AS IT SHOULD BE: {line}")
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
