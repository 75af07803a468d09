"""One list of what a lab must have: what `loop` is refused for, `verify` and `doctor` say in the same line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from lab_kit import LabKit, implementation, iteration, make_twin, script

from autolab.cli import commands, doctor
from autolab.errors import AutolabError
from autolab.lab.lab import Lab
from autolab.loop.preflight import START, TRIALS
from autolab.trials import containment

LOOP = ("loop", "--max-iterations", "1", "--plain")
CONFIG = ".autolab/config.yaml"
HELPS = iteration(implementation=implementation(4.0))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> LabKit:
    return make_twin(tmp_path_factory.mktemp("fresh"), script(HELPS))


@pytest.fixture
def kit(fresh: LabKit) -> Any:
    """The lab as it was made, put back after each test."""
    kept = fresh.root.with_name("kept")
    if not kept.exists():
        shutil.copytree(fresh.root, kept, symlinks=True)
    yield fresh
    shutil.rmtree(fresh.root)
    shutil.copytree(kept, fresh.root, symlinks=True)


def line(text: str) -> Callable[[LabKit], None]:
    """A line of its own in config.yaml, in place of one with the same key."""

    def spoil(kit: LabKit) -> None:
        path, key = kit.root / CONFIG, text.partition(":")[0]
        kept = re.sub(rf"(?m)^{key}:.*\n([ -].*\n)*", "", path.read_text())
        path.write_text(kept + text + "\n")

    return spoil


def gone(path: str, commit: bool = False) -> Callable[[LabKit], None]:
    def spoil(kit: LabKit) -> None:
        place = kit.root / path
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        if commit:
            kit.git("commit", "-qam", "removed")

    return spoil


def both(*spoils: Callable[[LabKit], None]) -> Callable[[LabKit], None]:
    def spoil(kit: LabKit) -> None:
        for one in spoils:
            one(kit)

    return spoil


def no_branch(kit: LabKit) -> None:
    kit.git("branch", "-m", "main", "elsewhere")


def branch_in_the_way(kit: LabKit) -> None:
    kit.git("branch", "exp")


def prompt(text: str | None) -> Callable[[LabKit], None]:
    """A prompt that nobody has held yet, or none."""

    def spoil(kit: LabKit) -> None:
        path = kit.root / ".autolab" / "prompts" / "stage_decide.md"
        path.unlink() if text is None else path.write_text(text)

    return spoil


def reads(path: str) -> Callable[[LabKit], None]:
    """A path that the training is given to read, at a level that encloses it; `{beside}` is the lab's parent folder."""

    def spoil(kit: LabKit) -> None:
        place = path.format(beside=kit.root.parent)
        line(f'train: {{command: "{{python}} -S -B train.py", reads: ["{place}"]}}')(kit)
        line("containment: partial")(kit)

    return spoil


def copy_of_the_labels(kit: LabKit) -> None:
    spare = kit.root.parent / "spare"
    spare.mkdir(exist_ok=True)
    shutil.copy(kit.root / "data" / "eval" / "labels.npy", spare / "answers.bin")
    reads("{beside}/spare")(kit)


def policy(kit: LabKit) -> None:
    (kit.root / ".autolab" / "verifier_policy.yaml").write_text("x: 1\n")


def rounded(kit: LabKit) -> None:
    """No evaluator, and a metric that is printed in steps above the smallest difference worth having."""
    for text in ("evaluate: null", "predict: null"):
        line(text)(kit)
    line("metric: {primary: val_loss, direction: minimize, success_delta: 0.05, quantum: 0.1}")(kit)


REFUSED: dict[str, tuple[str, Callable[[LabKit], None], str]] = {
    "executor": ("executor", line("executor: {name: slurm}"), "slurm"),
    "executor's option": ("executor", line("executor: {name: local, options: {rows: 2}}"), "rows"),
    "executor's class": ("executor", line("executor: {name: 'no.such:Place'}"), "no.such:Place"),
    "dollars uncounted": ("researcher", line("budget: {dollars: 5}"), "budget.dollars"),
    "tokens uncounted": ("researcher", line("budget: {tokens: 5}"), "budget.tokens"),
    "gpu hours uncounted": ("config", line("budget: {gpu_hours: 5}"), "budget.gpu_hours"),
    "no budget for a calibration": ("budget", line("budget: {trials: 2}"), "calibrate: budget: trials"),
    "printed in large steps": ("success", rounded, "metric.success_delta: 0.05 is below metric.quantum 0.1"),
    "push": ("config", line("push: always"), "push"),
    "tracking": ("config", line("tracking: [wandb]"), "tracking"),
    "target": ("config", line("target: better"), "better"),
    "target of another metric": ("config", line("target: bleu>=1"), "bleu"),
    "researcher": ("researcher", line("researcher: {name: oracle}"), "oracle"),
    "researcher's option": ("researcher", line("researcher: {name: offline, script: x.yaml}"), "script"),
    "researcher's script": ("researcher", line("researcher: {name: scripted, script: gone.yaml}"), "gone.yaml"),
    "reviewer": ("researcher", line("reviewer: {name: oracle}"), "oracle"),
    "agent's program": (
        "agent",
        line("researcher: {name: command, command: no-such-agent}"),
        "no-such-agent: no such program",
    ),
    "agent's file": ("agent", line("researcher: {name: command, command: sh gone.sh}"), "gone.sh: no such file"),
    "a model that is not named": ("researcher", line("researcher: {name: llm}"), "model"),
    "python": ("python", line("python: ./no/python"), "./no/python"),
    "python that lists nothing": ("packages", line("python: /bin/true"), "/bin/true"),
    "environment": (
        "environment",
        line('train: {command: "{python} -S -B train.py", env: [NOT_SET_HERE]}'),
        "train.env: NOT_SET_HERE is not set here",
    ),
    "the lab to be read": ("reads", reads("{beside}"), "holds the lab, with its labels and its record"),
    "a copy of the labels": ("labels", copy_of_the_labels, "answers.bin: equals data/eval/labels.npy"),
    "data": ("data", line("data: data/gone"), "data/gone"),
    "split": ("data", line("evaluate: {script: eval.py, eval: data/gone}"), "data/gone"),
    "inputs of a split": ("data", gone("data/eval/inputs.npy", commit=True), "data/eval/inputs.npy"),
    "labels of a split": ("data", gone("data/eval/labels.npy", commit=True), "data/eval/labels.npy"),
    "evaluator": ("data", line("evaluate: {script: gone.py, eval: data/eval}"), "gone.py is not in commit"),
    "evaluator committed away": ("data", gone("eval.py", commit=True), "eval.py is not in commit"),
    "sequences": ("data", line("evaluate: {script: eval.py, eval: data/eval, altered_suffix: true}"), "altered_suffix"),
    "branch": ("data", no_branch, "branch main is gone"),
    "a branch in the way": ("refs", branch_in_the_way, "git branch -m exp NEW_NAME"),
    "secret": ("secret", gone(".git/autolab/secret"), "secret: missing or broken"),
    "prompt": ("prompts", prompt(None), "stage_decide.md: missing"),
    "prompt without a version": ("prompts", prompt("# no version\n"), "stage_decide.md"),
    "unknown key": ("config", line("colour: red"), "colour: unknown key"),
    "policy": ("policy", policy, "x: unknown"),
}
"""What is wrong -> the check that finds it, how it came, words of the line."""


@pytest.mark.process
@pytest.mark.parametrize("case", REFUSED)
def test_what_loop_is_refused_for_verify_says_in_the_same_line(
    kit: LabKit, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, spoil, says = REFUSED[case]
    spoil(kit)
    monkeypatch.chdir(kit.root)
    before = sorted(str(path) for path in kit.root.rglob("*"))
    found = doctor.verify_lab(Lab(kit.root))
    assert sorted(str(path) for path in kit.root.rglob("*")) == before, "verify writes nothing"
    with pytest.raises(AutolabError) as refused:
        commands.call("loop", list(LOOP[1:]))
    refusal = str(refused.value)
    assert says in refusal
    assert (check, refusal) in [(one.check, one.message) for one in found if one.severity == "blocking"]
    assert not kit.executed("start"), "nothing was spent"


def test_every_check_of_the_list_has_a_case() -> None:
    assert {check for check, _, _ in REFUSED.values()} - {"policy"} == (START | TRIALS).keys() - {"containment"}


@pytest.mark.process
def test_it_is_so_through_the_command_line(kit: LabKit) -> None:
    case = "executor"
    REFUSED[case][1](kit)
    ended = kit.autolab(*LOOP)
    assert (ended.code, ended.err.count("\n")) == (1, 1), ended.out + ended.err
    line_of = f"FAIL  {REFUSED[case][0]}: {ended.err.removeprefix('autolab: ')}"
    for command in ("verify", "doctor"):
        told = kit.autolab(command)
        assert (told.code, told.err) == (1, "") and line_of in told.out


@pytest.mark.process
def test_a_level_that_cannot_be_had_is_refused_and_said(kit: LabKit, monkeypatch: pytest.MonkeyPatch) -> None:
    line("containment: full")(kit)
    able = containment.Ability("partial", "bubblewrap was not found")
    monkeypatch.setattr(containment, "ability", lambda store, **_: able)
    monkeypatch.chdir(kit.root)
    with pytest.raises(AutolabError, match="containment: full cannot be had here: bubblewrap was not found") as refused:
        commands.call("loop", list(LOOP[1:]))
    told = [(one.check, one.message) for one in doctor.verify_lab(Lab(kit.root))]
    assert ("containment", str(refused.value)) in told


@pytest.mark.process
def test_a_lab_as_it_was_made_is_refused_nothing(kit: LabKit) -> None:
    assert doctor.verify_lab(Lab(kit.root)) == []
