"""What a user meets in the first hour: the recipes, the way a training is named, what a document says of itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from account_kit import account, confirmed
from lab_kit import LabKit, design, hypothesis, implementation, iteration, make_lab, script

from autolab.cli import commands, init
from autolab.lab import create
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports.passages import Account
from autolab.researchers.base import Documents
from autolab.researchers.offline import words

BIN = Path(sys.executable).parent
JUST = BIN / "just"


def just(root: Path, *recipe: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`just` as a user calls it, with neither the interpreter nor Autolab on the path."""
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(root.parent), **env}
    return subprocess.run([JUST, *recipe], cwd=root, env=clean, capture_output=True, text=True, check=False)


# recipes


@pytest.mark.process
@pytest.mark.parametrize("template", init.LAYERS)
def test_just_smoke_passes_in_a_new_lab_of_every_template(template: str, tmp_path: Path) -> None:
    root = tmp_path / "a lab"
    init.compose(template, root)  # as `init` does, but for the download of data, which a smoke test needs none of
    Git.init(root).commit_all("lab")
    create.register(root, 1)
    smoked = just(root, "smoke")
    assert smoked.returncode == 0, smoked.stderr
    assert sys.executable in smoked.stderr, "the interpreter that runs Autolab, where the lab names none"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    made = subprocess.run([sys.executable, "-m", "autolab", "init", "lab", "--template", "empty"], cwd=tmp_path)
    assert made.returncode == 0
    return tmp_path / "lab"


@pytest.mark.process
@pytest.mark.parametrize(
    ("named", "venv", "wanted"),
    [
        ("python: tools/python  # mine", True, "tools/python"),
        ('python: "tools/python"', False, "tools/python"),
        ("python: null", True, "venv/bin/python"),
        ("", True, "venv/bin/python"),
        ("", False, sys.executable),
    ],
)
def test_a_recipe_runs_with_the_interpreter_of_the_trials(empty: Path, named: str, venv: bool, wanted: str) -> None:
    for path in ["tools/python", *(["venv/bin/python"] if venv else [])]:
        (empty / path).parent.mkdir(parents=True)
        (empty / path).symlink_to(sys.executable)
    with (empty / Config.FILE).open("a") as file:
        file.write(named + "\n")
    smoked = just(empty, "smoke")
    assert smoked.returncode == 0, smoked.stderr
    path = wanted if wanted.startswith("/") else str(empty / wanted)
    assert f"'{path}' -c" in smoked.stderr


@pytest.mark.parametrize("template", init.LAYERS)
def test_a_lab_speaks_of_no_recipe_and_no_command_that_is_not_there(template: str, tmp_path: Path) -> None:
    init.compose(template, tmp_path)
    recipes = re.findall(r"(?m)^([a-z]+)(?: [^:\n]*)?:$", (tmp_path / "justfile").read_text())
    known = {*commands._FUNCTIONS, "status"}
    for path in [*tmp_path.rglob("*.md"), *tmp_path.rglob("*.yaml"), tmp_path / "justfile"]:
        text = path.read_text()
        assert set(re.findall(r"`just ([a-z]+)", text)) <= set(recipes), path
        assert set(re.findall(r"(?m)(?:^ +|`)autolab ([a-z]+)", text)) <= known, path
    assert "smoke" in recipes


# how a training is named


def repository(root: Path, files: dict[str, str]) -> LabKit:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    kit = LabKit(root, root.parent / "count.txt")
    kit.git("init", "--quiet", "--initial-branch", "main")
    kit.git("add", "--all")
    kit.git("commit", "--quiet", "--message", "mine")
    return kit


TRAIN = """\
import os
seed = int(os.environ["AUTOLAB_SEED"])
LR = 0.5
print(f"val_loss: {LR * (1 + seed % 7 / 1000)}")
"""


@pytest.mark.process
@pytest.mark.parametrize("named", ["./venv/bin/python", "venv/bin/python", "./.venv/bin/python"])
def test_a_training_may_be_named_by_the_venv_of_the_lab(tmp_path: Path, named: str) -> None:
    kit = repository(tmp_path / "mine", {"train.py": TRAIN, ".gitignore": "venv/\n.venv/\n"})
    for path in ("venv/bin/python", ".venv/bin/python"):
        (kit.root / path).parent.mkdir(parents=True)
        (kit.root / path).symlink_to(sys.executable)
    made = kit.autolab("init", "--from-existing", "--probe-seconds", "0", "--train-command", f"{named} train.py")
    assert made.code == 0, made.err
    config = Config.load(kit.root / Config.FILE)
    assert (config.train.command, config.python) == ("{python} train.py", named.removeprefix("./"))
    assert just(kit.root, "smoke").returncode == 0


@pytest.mark.process
def test_a_design_may_name_the_venv_of_the_lab(tmp_path: Path) -> None:
    """Seed 003 writes `./venv/bin/python train.py`; an export has no venv, so the trials' interpreter is meant."""
    entry = design()
    answer = iteration(hypothesis=hypothesis(), design=entry, implementation=implementation(4.0))
    kit = make_lab(tmp_path, script(answer), config={"train": {"command": "./venv/bin/python -S train.py"}})
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    found = (kit.iterations()[0] / "design.yaml").read_text()
    assert "command: ./venv/bin/python -S train.py" in found
    assert sys.executable in (kit.iterations()[0] / "launch" / "run_local.sh").read_text()


# what a document says of itself


def told(of: Account) -> str:
    """All that the built-in researcher writes into the documents of an iteration."""
    documents = Documents("h1", 0, of.hypothesis, of.design, of.results)
    return json.dumps(words.docs(documents, ("paper/ralph.md",), None).value())


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (account(Verdict.SUPPORTED), "not yet measured on fresh seeds"),
        (confirmed("kept"), "Fresh seeds and the holdout agree."),
        (confirmed("kept", "none"), "Fresh seeds agree."),
        (confirmed("search_only", "used_up"), "no question to the holdout was left"),
        (confirmed("retracted", "not_asked"), "Nothing is claimed."),
        (confirmed("search_only", "failed"), "the holdout does not show it"),
    ],
    ids=["search alone", "kept", "kept without a holdout", "no question left", "retracted", "failed the holdout"],
)
def test_a_claim_agrees_with_what_became_of_it(of: Account, says: str) -> None:
    text = told(of)
    assert says in text
    assert ("not yet measured on fresh seeds" in text) == (of.confirmation is None)
    assert "lowers val_loss" not in text or of.confirmation is None or of.confirmation.outcome != "retracted"


@pytest.mark.process
def test_no_document_of_a_kept_candidate_says_that_it_was_not_measured_again(tmp_path: Path) -> None:
    kit = repository(tmp_path / "mine", {"train.py": TRAIN})
    assert kit.autolab("init", "--from-existing", "--delta", "0.05", "--seed", "1").code == 0
    config = kit.root / Config.FILE
    rule = "test: {mode: each, max_pairs: 12, confirm_pairs: 12}"
    config.write_text(re.sub(r"(?m)^test: .*", rule, config.read_text()))
    ended = kit.autolab("loop", "--max-iterations", "2", "--goal", "Lower val_loss")
    assert ended.code == 0, ended.out + ended.err
    records = [json.loads((one / "record.json").read_text()) for one in kit.iterations()]
    kept = [one for one in records if one["outcome"] == "kept"]
    assert kept, [(one["verdict"], one["outcome"]) for one in records]
    arms = {json.dumps(one["assembler"]) for one in records}
    assert arms == {'{"via": "offline"}'}, "there is no assembler in a lab without a method.json"
    texts = {path: path.read_text() for path in kit.root.rglob("*.md") if "5_worktrees" not in path.parts}
    assert not [path for path, text in texts.items() if "not yet measured on fresh seeds" in text]
    folder = kit.root / "experiments" / kept[0]["iteration_id"]
    title = re.search(r"(?m)^# (.+)$", (folder / "hypothesis.md").read_text())
    manifest = json.loads((folder / "runs" / "run_0001" / "run_manifest.json").read_text())
    assert title is not None and title[1].lower().replace(" ", "_") in [arm["name"] for arm in manifest["arms"]]
