"""What each stage's prompt holds, in labs of every template: the table in docs/models.md, row by row."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import LabKit, decision, design, hypothesis, iteration, make_lab, script

from autolab.lab.lab import Lab

pytestmark = pytest.mark.process

TABLE = Path(__file__).parents[2] / "docs" / "models.md"
STAGES = ("hypothesis", "design", "implementation", "implementation_review", "update_docs", "decide_repeat")
TEMPLATES = ("digits", "cifar10", "shakespeare", "empty", "adopted")
FAILED = {
    **{"hypothesis_id": "h0", "title": "Another slope", "status": "failed", "reason": "failed"},
    **{"error": "Traceback\nValueError: shapes (4,) and (5,) do not fit"},
    **{"gain": None, "verdict": None, "outcome": None, "commit": None},
}
"""What differs in the lesson of an idea that failed."""

PATTERNS = {
    "goal": r"GOAL",
    "metric and direction": r"METRIC \((minimize|maximize)\)",
    "what may be changed": r"Files that you may change:\n.+ \([\d,]+ bytes\)",
    "noise": r"the deviation between seeds is \d.*\n.*one pair's difference has the deviation \d",
    "seconds of a trial and its limit": r"A trial takes [\d.]+ s, the slowest .* is ended\.",
    "gain that can be resolved, in pairs": r"80% power\) resolves a gain of [\d.e-]+ in \d+ pairs",
    "source": r"=== (train\.py|models/\w+\.py) ===\n.+",
    "diff of the candidate": r"(?m)^\+# a candidate's line",
    "ideas tried: the whole change and the result": (
        r'- h1\. A steeper slope \[slope\] \{"slope": 4\.0\} -> .*: gain [+-][\d.]+( \[.*\])? in \d+ pairs'
    ),
    "count for each family": r"Families:\nslope: [23] tried, \d supported",
    "learning curves": r"loss: 1\.9 at epoch 1, 0\.7 at 2, 0\.4 at 3(.|\n)*evaluated at the end: val_loss [\d.]+",
    "last lines of failures": r"h0\. Another slope: failed\nTraceback\nValueError: shapes \(4,\) and \(5,\) do not fit",
    "hypothesis": r"A steeper slope fits better\.",
    "design": r"description: Compare slopes\.",
    "measured results": r"val_loss",
    "target, and where the lab stands": r"The target is METRIC<=0\.001; [\d.]+ is missing\.",
    "what is left": r"(iterations: this is 1 of 3\n)?trials: \d+ of 400 left",
    "simplicity as a criterion": (
        r"[Ss]imple is better|every line has to be worth|costs much code|more code than the change"
    ),
    "the refused answer and why": r"data trouble|data refused_answer|errors of verifiers",
}
"""By row of the table: what a prompt that holds it matches."""


def wanted() -> dict[str, set[str]]:
    """The table of docs/models.md: row -> the stages that are marked."""
    text = TABLE.read_text().partition("<!-- material -->\n")[2].partition("\n\n")[0].strip("\n")
    head, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.split("\n")]
    assert head[1:] == [f"`{stage}`" for stage in STAGES]
    table = {}
    for name, *marks in rows:
        table[name] = {stage for stage, mark in zip(STAGES, marks, strict=True) if mark == "yes"}
    return table


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    """A lab with one iteration that was tested to its end."""
    one = iteration(
        hypothesis=hypothesis(family="slope", changes={"slope": 4.0}),
        design=design(changes={"slope": 4.0}),
        decide_repeat=decision("stop", "enough"),
    )
    kit = make_lab(
        tmp_path_factory.mktemp("finished"),
        script(one),
        config={"target": "val_loss<=0.001", "budget": {"trials": 400}},
    )
    assert (
        kit.autolab("loop", "--max-iterations", "3", "--target", "val_loss<=0.001", "--containment", "none").code == 0
    )
    return kit


def adopted(root: Path) -> None:
    """A user's repository with a training program, as a lab."""
    root.mkdir()
    (root / "train.py").write_text("import sys\nprint('val_loss:', 0.5 + int(sys.argv[1]) * 1e-9)\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=u", "-c", "user.email=u@x", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    kit = LabKit(root, root.parent / "count.txt")
    flags = ("--train-command", "python3 train.py {seed}", "--metric", "val_loss", "--direction", "minimize", "--yes")
    made = kit.autolab("init", "--from-existing", "--probe-seconds", "0", *flags)
    assert made.code == 0, made.err


def made_lab(folder: Path, template: str) -> LabKit:
    root = folder / "lab"
    kit = LabKit(root, folder / "count.txt")
    if template == "adopted":
        adopted(root)
        return kit
    kit.root = folder
    # Data is not needed for a prompt, and a download would take minutes: behind this proxy there is nothing.
    made = kit.autolab("init", str(root), "--template", template, https_proxy="http://127.0.0.1:9")
    assert made.code == 0 or "the lab is made, its data is not" in made.err, made.err
    kit.root = root
    return kit


def limited(kit: LabKit) -> LabKit:
    """The lab with a target and a budget in trials, of which prompts say what is left."""
    path = kit.root / ".autolab" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config |= {"budget": {"trials": 400}, "target": f"{config['metric']['primary']}<=0.001"}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return kit


def transplant(source: LabKit, kit: LabKit) -> None:
    """Give the lab of another template the finished iteration of `source`, with commits of its own."""
    git = ["git", "-C", str(kit.root), "-c", "user.name=u", "-c", "user.email=u@x"]
    path = kit.root / "train.py"
    text = path.read_text()
    path.write_text(f"{text}# a candidate's line\n")
    candidate = subprocess.run([*git, "stash", "create"], check=True, capture_output=True, text=True).stdout.strip()
    path.write_text(text)
    base = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (folder,) = source.iterations()
    shutil.copytree(folder, kit.root / "experiments" / folder.name)
    metric = Lab(kit.root).config().metric.primary
    calibration = (source.store / "calibration.json").read_text()
    (kit.store / "calibration.json").write_text(calibration.replace("val_loss", metric))
    for trial in (kit.root / "experiments" / folder.name).glob("runs/*/trials/*/a1"):
        (trial / "train").mkdir(exist_ok=True)
        curve = [{"epoch": epoch, "train_loss": loss} for epoch, loss in enumerate((1.9, 0.7, 0.4), 1)]
        (trial / "train" / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in curve))
    events = source.events()
    opened = next(n for n, line in enumerate(events) if line.get("data", line).get("why") == "opened")
    commits = {}
    for line in events[opened:]:
        if line["event"] == "candidate":
            commits = {line["data"]["commit"]: candidate, line["data"]["base"]: base}
    lab = Lab(kit.root)
    with lab.hold("a test"):
        offset = lab.ledger.head.size
        lesson = lesson_of(events) | {"iteration_id": "i0"}
        lab.ledger.append("learned", {"lesson": lesson | FAILED})
        lab.ledger.append("learned", {"lesson": lesson})
        for line in events[opened:]:
            text = json.dumps(line["data"]).replace("val_loss", metric)
            for old, new in commits.items():
                text = text.replace(old, new)
            data = json.loads(text)
            if line["event"] == "transition":
                # As if it had followed another iteration, whose lessons and curves its own prompts quote.
                data["campaign"] |= {"iteration_offset": offset, "learned": folder.name}
            lab.ledger.append(line["event"], data)


def lesson_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    (lesson,) = [line["data"]["lesson"] for line in events if line["event"] == "learned"]
    return dict(lesson)


@pytest.fixture(scope="module", params=TEMPLATES)
def lab(request: pytest.FixtureRequest, finished: LabKit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabKit]:
    kit = limited(made_lab(tmp_path_factory.mktemp(request.param), request.param))
    transplant(finished, kit)
    yield kit


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_of_each_template_holds_what_the_table_says(lab: LabKit, stage: str) -> None:
    shown = lab.autolab("prompt", stage, "--json")
    assert shown.code == 0, shown.err
    value = json.loads(shown.out)
    config = Lab(lab.root).config()
    missing = []
    for row, stages in wanted().items():
        pattern = (
            PATTERNS[row].replace("METRIC", re.escape(config.metric.primary)).replace("GOAL", re.escape(config.goal))
        )
        if stage in stages and not re.search(pattern, value["user"]):
            missing.append(row)
    assert missing == []


def test_the_table_and_the_patterns_have_the_same_rows() -> None:
    assert set(wanted()) == set(PATTERNS)
