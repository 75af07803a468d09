"""What a user, a researcher, a trial or a disk can get wrong: one line, the right exit code, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_kit import (
    HELPS,
    NOTHING,
    Finished,
    Kept,
    LabKit,
    design,
    hypothesis,
    implementation,
    iteration,
    make_twin,
    review,
    script,
)

pytestmark = pytest.mark.process

LOOP = ("loop", "--max-iterations", "1")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tables of the two iterations that nothing disturbs."""
    kit = make_twin(tmp_path_factory.mktemp("unbroken"), script(HELPS, NOTHING))
    assert kit.autolab("loop", "--max-iterations", "2").code == 0
    return kit.tables()


@pytest.fixture(scope="module")
def midway(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A lab with one iteration finished and the second before its implementation."""
    kit = make_twin(tmp_path_factory.mktemp("midway"), script(HELPS, NOTHING))
    for words in (LOOP, ("run",), ("run",)):
        assert kit.autolab(*words).code == 0
    assert kit.state()["stage"] == "implementation"
    return Kept(kit)


def first(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables of the calibration and the first iteration alone."""
    return {name: value for name, value in tables.items() if name.startswith(("0/", "calibration/"))}


def refused(ended: Finished, code: int, *said: str) -> None:
    """One line on stderr, not a traceback, that says all of this."""
    assert ended.code == code, f"exit {ended.code}\n{ended.out}{ended.err}"
    assert ended.err.count("\n") == 1 and ended.err.startswith("autolab: "), ended.err
    for words in said:
        assert words in ended.err, ended.err


def goes_on(kit: LabKit, tables: dict[str, Any]) -> None:
    """The same command finishes what was begun, with the tables of a lab that nothing disturbed."""
    ended = kit.autolab(*LOOP)
    assert ended.code == 0, ended.out + ended.err
    assert kit.tables() == tables
    assert set(kit.executed("start").values()) == {1}, f"a finished trial ran again: {kit.executed('start')}"


def record(kit: LabKit) -> dict[str, Any]:
    """All that must not be lost, byte for byte: ledger, state, iterations, refs."""
    files = [kit.store / "ledger.jsonl", kit.root / ".autolab" / "state.json", *kit.root.glob("experiments/**/*")]
    held: dict[str, Any] = {str(path): path.read_bytes() for path in files if path.is_file()}
    return held | {"refs": kit.git("for-each-ref")}


# the command line

USAGE = {
    "unknown command": (("frobnicate",), ("'frobnicate'", "known: demo, init")),
    "unknown flag": (("loop", "--nope"), ("--nope", "autolab loop --help")),
    "unknown flag of status": (("status", "--nope"), ("--nope", "autolab status --help")),
    "flag without value": (("loop", "--max-iterations"), ("--max-iterations",)),
    "missing flag": (("loop",), ("--max-iterations",)),
    "not a number": (("loop", "--max-iterations", "many"), ("--max-iterations", "many")),
    "no iterations": (("loop", "--max-iterations", "0"), ("--max-iterations",)),
    "no patience": ((*LOOP, "--patience", "0"), ("--patience",)),
    "unknown answer": (("review", "maybe"), ("maybe", "approve", "retry", "stop")),
    "unknown template": (("init", "new", "--template", "nope"), ("--template", "nope", "digits")),
    "target not understood": ((*LOOP, "--target", "better"), ("target", "better", "METRIC>=NUMBER")),
    "target not measured": ((*LOOP, "--target", "bleu>=1"), ("target", "bleu", "val_loss, accuracy")),
    "target not a number": ((*LOOP, "--target-accuracy", "nan"), ("target", "nan")),
    "throwing the record away": ((*LOOP, "--no-keep"), ("--no-keep",)),
}


@pytest.mark.parametrize("case", USAGE)
def test_usage_errors_exit_with_2_in_one_line_and_change_nothing(midway: Kept, case: str) -> None:
    kit = midway.back()
    before = record(kit)
    words, said = USAGE[case]
    refused(kit.autolab(*words), 2, *said)
    assert record(kit) == before


UNKNOWN = {
    "researcher": ((*LOOP, "--researcher", "oracle"), ("oracle", "scripted")),
    "researcher's module": ((*LOOP, "--researcher", "no.such:Mind"), ("no.such:Mind",)),
    "executor": ((*LOOP, "--executor", "moon"), ("moon", "local")),
    "executor's module": ((*LOOP, "--executor", "no.such:Place"), ("no.such:Place",)),
    "script": ((*LOOP, "--script", "nowhere.yaml"), ("nowhere.yaml",)),
    "lab": (("status", "--dir", ".."), ("not in a lab", "autolab init")),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_a_command_names_and_is_not_there_is_refused_before_anything_is_spent(midway: Kept, case: str) -> None:
    kit = midway.back()
    before = record(kit)
    words, said = UNKNOWN[case]
    refused(kit.autolab(*words), 1, *said)
    assert record(kit) == before


# init


@pytest.mark.parametrize("inside", [".", "models", "inner/deep", "5_worktrees/h1-a-steeper-slope"])
def test_a_lab_in_a_lab_is_refused(midway: Kept, inside: str) -> None:
    kit = midway.back()
    before = record(kit)
    template = str(kit.root.parent / "template")
    refused(kit.autolab("init", inside, "--template", template), 1, str(kit.root), "lab")
    assert record(kit) == before and not (kit.root / "inner").exists()


def test_init_leaves_a_folder_that_is_not_empty_as_it_is(midway: Kept, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    refused(
        midway.kit.autolab("init", str(tmp_path), "--template", str(midway.kit.root.parent / "template")), 1, "empty"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_git_every_command_says_so_and_loses_nothing(midway: Kept, unbroken: dict[str, Any]) -> None:
    kit = midway.back()
    before, template = record(kit), str(kit.root.parent / "template")
    for words in (("init", str(kit.root.parent / "other"), "--template", template), ("run",), LOOP, ("publish",)):
        refused(kit.autolab(*words, PATH="/nonexistent"), 1, "git", "install")
    examined = kit.autolab("doctor", PATH="/nonexistent")
    assert examined.code == 1 and "git" in examined.out + examined.err and "Traceback" not in examined.err
    assert record(kit) == before
    goes_on(kit, unbroken)


# documents, by a user's hand between two commands


def in_file(pattern: str, old: str, new: str) -> Callable[[LabKit], None]:
    """Replace text (a regular expression) in the newest file that fits the pattern."""

    def spoil(kit: LabKit) -> None:
        path = sorted(kit.root.glob(pattern))[-1]
        text, count = re.subn(old, new, path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1, f"{old!r} is not in {path}"
        path.write_text(text)

    return spoil


DESIGN, CLAIM = "experiments/*/design.yaml", "experiments/*/hypothesis.md"
BY_HAND = {
    "unknown key": (in_file(DESIGN, r"\Z", "colour: red\n"), ("design.yaml: line ", "colour: unknown key")),
    "unknown inner key": (
        in_file(DESIGN, r"^metrics:$", "metrics:\n  best: 1"),
        ("line ", "metrics.best: unknown key"),
    ),
    "wrong type": (in_file(DESIGN, r"success_delta: .*", "success_delta: much"), ("line ", "metrics.success_delta")),
    "not a number": (
        in_file(DESIGN, r"success_delta: .*", "success_delta: .nan"),
        ("line ", "must be a finite number"),
    ),
    "missing entrypoint": (in_file(DESIGN, r"^entrypoint:\n(  .*\n)+", ""), ("design.yaml", "entrypoint: missing")),
    "empty entrypoint": (in_file(DESIGN, r"^  command: .*", "  command: null"), ("line ", "entrypoint")),
    "missing baseline": (in_file(DESIGN, r"^baselines:\n(- .*\n|  .*\n)+", ""), ("design.yaml: baselines: none",)),
    "missing direction": (in_file(CLAIM, r"^direction: .*\n", ""), ("hypothesis.md", "direction: missing")),
    "unknown direction": (in_file(CLAIM, r"^direction: .*", "direction: down"), ("hypothesis.md", "direction")),
    "two directions": (in_file(DESIGN, r"direction: minimize", "direction: maximize"), ("metrics.direction: contrad",)),
    "key twice": (in_file(DESIGN, r"\Z", "id: e9\n"), ("design.yaml: line ", "id: key given twice")),
    "not YAML": (in_file(DESIGN, r"\Z", "]\n"), ("design.yaml: line ", "not YAML")),
    "one seed twice": (
        in_file(DESIGN, r"seeds:\n.*", "seeds: [1, 1]"),
        ("design.yaml: line ", "a seed is given twice"),
    ),
    "front matter gone": (in_file(CLAIM, r"\A---\n", ""), ("hypothesis.md: line 1",)),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_document_broken_by_hand_is_refused_with_its_place_and_fixed_goes_on(
    midway: Kept, unbroken: dict[str, Any], case: str
) -> None:
    kit = midway.back()
    before = record(kit)
    spoil, said = BY_HAND[case]
    spoil(kit)
    refused(kit.autolab("run"), 1, *said)
    assert kit.state()["stage"] == "implementation"
    for path, content in before.items():
        if path.endswith(("design.yaml", "hypothesis.md")):
            Path(path).write_bytes(content)
    if case in ("unknown key", "missing baseline", "missing direction"):
        goes_on(kit, unbroken)


def test_a_document_that_was_removed_comes_back_from_the_record(midway: Kept, unbroken: dict[str, Any]) -> None:
    kit = midway.back()
    sorted(kit.root.glob(DESIGN))[-1].unlink()
    sorted(kit.root.glob(CLAIM))[-1].unlink()
    goes_on(kit, unbroken)


CONFIG, POLICY = ".autolab/config.yaml", ".autolab/verifier_policy.yaml"
CONTROL = {
    "unknown key": (in_file(CONFIG, r"\Z", "colour: red\n"), ("config.yaml: line ", "colour: unknown key")),
    "unknown inner key": (in_file(CONFIG, r"primary:", "best: 1\n  primary:"), ("line ", "metric.best: unknown key")),
    "wrong type": (in_file(CONFIG, r"success_delta: .*", "success_delta: much"), ("line ", "metric.success_delta")),
    "not a number": (in_file(CONFIG, r"success_delta: .*", "success_delta: .inf"), ("line ", "finite number")),
    "unknown direction": (in_file(CONFIG, r"direction: .*", "direction: down"), ("line ", "metric.direction", "down")),
    "missing metric": (in_file(CONFIG, r"^metric:\n(  .*\n)+", ""), ("config.yaml", "metric: missing")),
    "missing direction": (in_file(CONFIG, r"^  direction: .*\n", ""), ("config.yaml", "metric.direction: missing")),
    "key twice": (in_file(CONFIG, r"\Z", "goal: another\n"), ("config.yaml: line ", "goal: key given twice")),
    "not YAML": (in_file(CONFIG, r"\Z", "]\n"), ("config.yaml: line ", "not YAML")),
    "half an evaluator": (in_file(CONFIG, r"^predict:\n(  .*\n)+", ""), ("config.yaml", "evaluate and predict")),
    "level unknown": (in_file(CONFIG, r"containment: .*", "containment: high"), ("config.yaml", "containment")),
    "budget uncounted": (in_file(CONFIG, r"\Z", "budget: {gpu_hours: 5}\n"), ("config.yaml", "budget.gpu_hours")),
    "push not built": (in_file(CONFIG, r"\Z", "push: always\n"), ("config.yaml", "push")),
    "no attempts": (in_file(CONFIG, r"same_idea: \d+", "stage: 0"), ("config.yaml: line ", "attempts.stage")),
    "no such program": (in_file(CONFIG, r"\Z", "python: ./no/python\n"), ("config.yaml: python", "./no/python")),
    "no such data": (in_file(CONFIG, r"^data: .*", "data: data/gone"), ("config.yaml", "data/gone")),
    "unknown researcher": (in_file(CONFIG, r"name: scripted", "name: oracle"), ("oracle", "scripted")),
    "unknown executor": (in_file(CONFIG, r"\Z", "executor: {name: moon}\n"), ("moon", "local")),
    "unknown option": (in_file(CONFIG, r"\Z", "executor: {name: local, options: {rows: 2}}\n"), ("rows", "slots")),
    "no script": (in_file(CONFIG, r"script: \.autolab.*", "script: gone.yaml"), ("gone.yaml",)),
    "target": (in_file(CONFIG, r"\Z", "target: better\n"), ("config.yaml: target", "better", "METRIC>=NUMBER")),
    "policy key": (in_file(POLICY, r"\Z", "require_luck: true\n"), ("verifier_policy.yaml: line ", "require_luck")),
    "policy type": (in_file(POLICY, r"\Z", "require_tests: 1\n"), ("verifier_policy.yaml: line ", "require_tests")),
}


@pytest.mark.parametrize("case", CONTROL)
def test_a_broken_configuration_is_refused_with_its_place_and_fixed_goes_on(
    midway: Kept, unbroken: dict[str, Any], case: str
) -> None:
    kit = midway.back()
    state, held = kit.state(), {name: (kit.root / name).read_bytes() for name in (CONFIG, POLICY)}
    spoil, said = CONTROL[case]
    spoil(kit)
    refused(kit.autolab("run"), 1, *said)
    assert kit.state() == state
    for name, content in held.items():
        (kit.root / name).write_bytes(content)
    if case in ("unknown key", "no such data"):
        assert kit.autolab("status").code == 0
        goes_on(kit, unbroken)


# documents, by a researcher


def test_a_broken_design_of_the_researcher_is_sent_back_with_its_place(
    tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    good = design()["output"]
    whole = {"status": "complete", "summary": "", "changed_files": [], "completion_token_seen": False}
    not_finite = json.dumps(whole | {"output": good | {"success_delta": float("nan")}})
    answers = {
        "output: colour: unknown key": {"output": good | {"colour": "red"}},
        "output: description": {"output": good | {"description": 3}},
        "NaN is not a number": {"raw": not_finite},
        "output: baselines: missing": {"output": {k: v for k, v in good.items() if k != "baselines"}},
        "baselines: none": {"output": good | {"baselines": []}},
        "variants.0.name": {"output": good | {"variants": [{"name": "No Slug!"}]}},
        "arm name used twice": {"output": good | {"variants": [{"name": "baseline"}]}},
        "seeds: a seed is given twice": {"output": good | {"seeds": [1, 1]}},
        "seeds: none given": {"output": good | {"seeds": []}},
    }
    designs = [*answers.values(), design()]
    undirected = hypothesis(metric="accuracy")
    answer = iteration(hypothesis=[undirected, hypothesis()], design=designs)
    kit = make_twin(tmp_path, script(answer), config={"attempts": {"stage": len(designs)}})
    assert kit.autolab("run").code == 0
    assert kit.state()["stage"] == "hypothesis" and "direction: missing for accuracy" in kit.state()["reason"]
    assert kit.autolab("run").code == 0
    for number, said in enumerate(answers, 2):
        stepped = kit.autolab("run")
        assert (stepped.code, stepped.err) == (0, "")
        state = kit.state()
        assert (state["stage"], state["stage_attempt"]) == ("design", number), state
        assert said in state["reason"] and "\n" not in state["reason"]
        assert not list(kit.root.glob(DESIGN)), "a broken design was written"
    goes_on(kit, first(unbroken))


def test_a_design_whose_program_is_missing_is_sent_back(tmp_path: Path) -> None:
    config = {"train": {"command": "{python} -S gone.py"}, "attempts": {"stage": 1}}
    kit = make_twin(tmp_path, script(HELPS), config=config)
    assert [kit.autolab("run").code for _ in range(2)] == [0, 3]
    assert "entrypoint: gone.py is not in the base commit" in kit.state()["reason"]


def test_a_baseline_that_does_not_run_ends_the_calibration_in_one_line_and_fixed_it_goes_on(tmp_path: Path) -> None:
    kit = make_twin(tmp_path, script(HELPS))
    train = kit.root / "train.py"
    whole = train.read_text()
    train.write_text(whole.replace("def main() -> None:", "def main() -> None:\n    raise SystemExit('no such thing')"))
    kit.git("commit", "-qam", "broken")
    for words in (LOOP, ("calibrate",)):
        refused(kit.autolab(*words), 1, "calibrate: calibration_000", "baseline-s0", "then calibrate again")
    assert not kit.iterations() and kit.state()["stage"] == "hypothesis"
    train.write_text(whole)
    kit.git("commit", "-qam", "fixed")
    assert kit.autolab(*LOOP).code == 0
    assert set(kit.executed("start").values()) == {1}


# state.json


STATE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "edited": lambda text: text.replace('"implementation"', '"launch"'),
    "edited limit": lambda text: text.replace('"max_stage_attempts": 5', '"max_stage_attempts": 500'),
    "wrong type": lambda text: text.replace('"stage_attempt": 1', '"stage_attempt": "first"'),
    "unknown key": lambda text: text.replace("{", '{"mood": "fine", ', 1),
}


@pytest.mark.parametrize("case", STATE)
def test_a_state_broken_by_hand_is_refused_and_doctor_writes_it_again(
    midway: Kept, unbroken: dict[str, Any], case: str
) -> None:
    kit = midway.back()
    path = kit.root / ".autolab" / "state.json"
    whole = path.read_text()
    broken = STATE[case](whole)
    assert broken != whole
    path.write_text(broken)
    refused(kit.autolab("run"), 1, ".autolab/state.json", "autolab doctor --fix")
    assert path.read_text() == broken, "refusing must not repair"
    assert "stage      implementation" in kit.autolab("status").out, "status reads the ledger"
    assert kit.autolab("doctor", "--fix").code == 0
    assert path.read_text() == whole
    assert broken in [copy.read_text() for copy in path.parent.glob("state.edited.*")]
    if case in ("truncated", "edited"):
        goes_on(kit, unbroken)


# the ledger


def changed(event: str, old: str, new: str) -> Callable[[list[bytes]], list[bytes]]:
    """Change the first line of this event."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        at = next(i for i, line in enumerate(lines) if f'"event":"{event}"'.encode() in line)
        line = re.sub(old.encode(), new.encode(), lines[at], count=1)
        assert line != lines[at]
        return [*lines[:at], line, *lines[at + 1 :]]

    return spoil


def without(chosen: Callable[[list[bytes]], int]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [*lines[: chosen(lines) % len(lines)], *lines[chosen(lines) % len(lines) + 1 :]]


def opened(lines: list[bytes]) -> int:
    return max(i for i, line in enumerate(lines) if b'"why":"opened"' in line)


LEDGER: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "changed": (changed("run_ended", '"status":"completed"', '"status":"fine"'), "changed since it was written"),
    "changed trial": (changed("trial", '"val_loss":0', '"val_loss":9'), "changed since it was written"),
    "lengthened": (
        changed("run_ended", '"reason":""', '"reason":"' + "x" * 3000 + '"'),
        "changed since it was written",
    ),
    "missing": (without(lambda lines: len(lines) // 2), "missing or was replaced"),
    "missing first": (without(lambda lines: 0), "missing or was replaced"),
    "missing opening": (without(opened), "missing or was replaced"),
    "missing last": (without(lambda lines: -1), "the end is missing or torn"),
    "missing last three": (lambda lines: lines[:-3], "the end is missing or torn"),
    "doubled": (lambda lines: [*lines[:30], lines[29], *lines[30:]], "doubled"),
    "doubled last": (lambda lines: [*lines, lines[-1]], "doubled"),
    "torn": (lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]], "the end is missing or torn"),
    "torn inside": (lambda lines: [*lines[:20], lines[20][:40] + b"\n", *lines[21:]], "line 21: not a line"),
    "not text": (lambda lines: [*lines[:20], b"\xff\x00\n", *lines[20:]], "line 21: not a line"),
}


SHORT = ("changed trial", "missing first", "doubled last", "not text")
"""Cases so near to another one that going on to the end shows nothing new."""


@pytest.mark.parametrize("case", LEDGER)
def test_a_broken_ledger_is_refused_and_doctor_makes_the_chain_anew_with_a_copy(
    midway: Kept, unbroken: dict[str, Any], case: str
) -> None:
    kit = midway.back()
    path = kit.store / "ledger.jsonl"
    spoil, said = LEDGER[case]
    broken = b"".join(spoil(path.read_bytes().splitlines(keepends=True)))
    path.write_bytes(broken)
    for words in (("run",), ("status",)):
        refused(kit.autolab(*words), 1, "ledger.jsonl", said, "autolab doctor --fix")
    assert path.read_bytes() == broken, "refusing must not repair"
    fixed = kit.autolab("doctor", "--fix")
    lost = re.findall(r"FAIL.*line \d+ \(trial \w+/[\w-]+\): .*, kept in (\S+)", fixed.out)
    assert fixed.code == (1 if lost else 0), fixed.out + fixed.err
    if case == "changed trial":
        assert len(lost) == 1 and Path(lost[0]).read_bytes() in broken, "the line, as it was, beside the ledger"
    assert broken in [copy.read_bytes() for copy in kit.store.glob("ledger.broken.*")]
    if case not in SHORT:
        goes_on(kit, unbroken)
        assert kit.autolab("verify").code == 0


def test_a_line_that_was_never_finished_is_set_aside_by_the_next_command(
    midway: Kept, unbroken: dict[str, Any]
) -> None:
    kit = midway.back()
    path = kit.store / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"n":99,"time":"2026')
    assert kit.autolab("status").code == 0
    assert path.read_bytes() == whole + b'{"n":99,"time":"2026', "a reader repairs nothing"
    goes_on(kit, unbroken)
    assert [torn.read_bytes() for torn in kit.store.glob("ledger.torn.*")] == [b'{"n":99,"time":"2026']


def test_a_ledger_without_its_head_is_refused_and_fixed(midway: Kept, unbroken: dict[str, Any]) -> None:
    kit = midway.back()
    lab_id = json.loads((kit.store / "head").read_text())["lab_id"]
    (kit.store / "head").write_text('{"lab_id": "')
    for words in (("run",), ("status",)):
        refused(kit.autolab(*words), 1, "head", "autolab doctor --fix")
    assert kit.autolab("doctor", "--fix").code == 0
    goes_on(kit, unbroken)
    assert lab_id in kit.events("asked")[0]["data"]["key"]


# trials


def edited(path: str, search: str, replace: str) -> dict[str, Any]:
    edit = {"path": path, "search": search, "replace": replace}
    return {"output": {"plan": "Change it.", "files": implementation()["output"]["files"], "edits": [edit]}}


NO_METRIC = {
    "no predictions": edited("predict.py", "out.write_bytes(", "print("),
    "half the predictions": edited("predict.py", "{len(rows) // 2}", "{len(rows) // 4}"),
    "not an array": edited("predict.py", 'b"\\x93NUMPY', 'b"\\x93NUMPI'),
}


@pytest.mark.parametrize("case", NO_METRIC)
def test_a_trial_without_a_usable_metric_goes_back_to_its_author(
    tmp_path: Path, unbroken: dict[str, Any], case: str
) -> None:
    answers = iteration(implementation=[NO_METRIC[case], fixed(case)], implementation_review=[review()] * 2)
    kit = make_twin(tmp_path, script(answers))
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and ended.err == "", ended.out + ended.err
    (folder,) = kit.iterations()
    manifest = json.loads((folder / "runs" / "run_0001" / "run_manifest.json").read_text())
    assert (manifest["status"], manifest["comparisons"]) == ("failed", [])
    bad = [trial for trial in manifest["trials"] if trial["outcome"] != "completed"]
    assert {trial["arm"] for trial in bad} == {"steep"} and not any(trial["score"] for trial in bad)
    assert {trial["outcome"] for trial in bad} <= {"invalid_artifact", "failed"}
    assert f"{bad[0]['trial']}" in kit.events("transition")[-1]["data"].get("reason", "") or "send_back" in ended.out
    assert [kit.tables()[f"0/run_000{n}"] for n in (2, 3)] == [unbroken[f"0/run_000{n}"] for n in (1, 2)]


def fixed(case: str) -> dict[str, Any]:
    """The helpful candidate again: the edit of the case taken back."""
    edit = NO_METRIC[case]["output"]["edits"][0]
    return edited(edit["path"], edit["replace"], edit["search"])


SELF_REPORTED = {"metric": {"primary": "train_loss", "direction": "minimize", "success_delta": 0.05}}
SELF_REPORTED |= {"evaluate": None, "predict": None}  # type: ignore[dict-item]
SAYS = '{"train_loss": 1.0 / width}))\n    (folder / "history'
UNSAID = {
    "no metric": SAYS.replace("train_loss", "speed"),
    "NaN metric": SAYS.replace("1.0 / width", 'float("nan")'),
    "infinite metric": SAYS.replace("1.0 / width", 'float("inf")'),
    "text metric": SAYS.replace("1.0 / width", '"low"'),
    "nothing written": SAYS.replace("}))", "}) and '')"),
}


@pytest.mark.parametrize("case", UNSAID)
def test_a_trial_that_reports_no_number_of_its_own_goes_back_to_its_author(tmp_path: Path, case: str) -> None:
    answers = iteration(
        hypothesis=hypothesis(metric="train_loss", direction="minimize"),
        implementation=[edited("train.py", SAYS, UNSAID[case]), edited("train.py", UNSAID[case], SAYS)],
        implementation_review=[review()] * 2,
    )
    kit = make_twin(tmp_path, script(answers), config=SELF_REPORTED)
    ended = kit.autolab(*LOOP)
    assert ended.code == 0 and ended.err == "", ended.out + ended.err
    (folder,) = kit.iterations()
    runs = [json.loads((path / "run_manifest.json").read_text()) for path in sorted((folder / "runs").iterdir())]
    assert [run["status"] for run in runs] == ["failed", "completed"]
    bad = [trial for trial in runs[0]["trials"] if trial["outcome"] != "completed"]
    assert {trial["outcome"] for trial in bad} == {"invalid_artifact"}
    assert all("metrics.json" in trial["message"] for trial in bad)


# disks


@contextlib.contextmanager
def mounted(*words: str) -> Iterator[None]:
    """Mount something for as long as this lasts; skip where the machine does not let us."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"root may not mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", words[-1]], check=True)


def fill(ballast: Path, left: int) -> None:
    """Leave this many bytes of the disk free."""
    ballast.unlink(missing_ok=True)
    free = os.statvfs(ballast.parent)
    with contextlib.suppress(OSError), open(ballast, "wb") as file:
        size = max(0, free.f_bavail * free.f_frsize - left)
        for _ in range(size // 4096):
            file.write(b"x" * 4096)
            file.flush()


@pytest.mark.root("mounts a small disk")
def test_a_full_disk_stops_every_command_in_one_line_and_room_lets_it_go_on(
    tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)):
        kit = make_twin(small, script(HELPS, NOTHING))
        assert kit.autolab(*LOOP).code == 0
        ballast = small / "ballast"
        for left in (0, 8, 24, 40, 60, 80, 120):
            fill(ballast, left << 10)
            ended = kit.autolab(*LOOP)
            assert "Traceback" not in ended.err, ended.err
            if ended.code == 0:
                break
            refused(ended, 1, "room")
        assert left > 0, "the disk was never full"
        ballast.unlink()
        if ended.code != 0:
            assert kit.autolab(*LOOP).code == 0
        assert kit.tables() == unbroken
        assert set(kit.executed("done").values()) == {1}
        assert kit.autolab("verify").code == 0


def test_a_ledger_that_cannot_grow_is_left_as_it_was(midway: Kept, unbroken: dict[str, Any]) -> None:
    """A limit on file size stands for a full disk: it needs no rights, and hits in the middle of a line."""
    kit = midway.back()
    before = (kit.store / "ledger.jsonl").read_bytes()
    limit = len(before) + 100

    ended = subprocess.run(
        [sys.executable, "-m", "autolab", "run"],
        cwd=kit.root,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    refused(Finished(ended.returncode, ended.stdout, ended.stderr), 1, "ledger.jsonl", "room")
    assert (kit.store / "ledger.jsonl").read_bytes() == before
    goes_on(kit, unbroken)


@pytest.mark.root("mounts folders read-only")
@pytest.mark.parametrize("folder", [".", ".git", ".autolab", "experiments"])
def test_a_read_only_folder_is_named_and_writable_again_goes_on(
    midway: Kept, unbroken: dict[str, Any], folder: str
) -> None:
    kit = midway.back()
    place = str((kit.root / folder).resolve())
    before = record(kit)
    with mounted("--bind", place, place):
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        for words in (("run",), LOOP):
            refused(kit.autolab(*words), 1, "ead-only", place if folder != ".git" else ".git", "again")
        assert kit.autolab("status").code == 0, "a reader needs no write"
    after = record(kit)
    assert {name: after[name] for name in before if "ledger" not in name and name != "refs"} == {
        name: before[name] for name in before if "ledger" not in name and name != "refs"
    }
    goes_on(kit, unbroken)
