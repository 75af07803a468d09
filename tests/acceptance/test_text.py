"""Any text through every door: it is on record as it came or visibly so, and every reader goes on."""

from __future__ import annotations

import ast
import errno
import json
import os
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from account_kit import account
from hypothesis import given
from hypothesis import strategies as st
from lab_kit import LabKit, docs, hypothesis, implementation, iteration, make_lab, review, script
from text_kit import BYTES, DOOR, TEXTS, headings, sound

import autolab
from autolab.cli import command_line, doctor, status
from autolab.errors import AutolabError
from autolab.files import sha256_of
from autolab.ideas import lessons, past_ideas
from autolab.lab.git import Change
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger, parse
from autolab.lab.plumbing import _last_word
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.experiment import ArmMetrics, Lesson, Trial
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import PROSE
from autolab.lab.schemas.replies import OUTPUTS, DocsOutput, HypothesisOutput
from autolab.loop import request
from autolab.reports import curves, iteration_documents
from autolab.reports.journal import DocumentEntry, write
from autolab.reports.passages import Account
from autolab.researchers.base import Answer
from autolab.researchers.llm.reply_reader import read_error
from autolab.researchers.llm.wire import line_for_user
from autolab.researchers.prompts import render
from autolab.text import decode, has_surrogates, last_line, many_lines, one_line, short_names, whole, whole_value
from autolab.trials import metrics, score
from autolab.trials.evaluator import Problem
from autolab.verifiers import paths
from autolab.verifiers.findings import advisory_finding

TRIAL = {"trial": "a-s1", "arm": "a", "index": 0, "seed": 1, "attempt": 1, "commit": "c", "key": "k", "content": "c"}


# the functions


def test_every_character_is_as_it_was_or_its_escape() -> None:
    for code in range(0x110000):
        character = chr(code)
        shown = many_lines(f"a{character}b")[1:-1]
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\t\n\r":
            assert shown.isascii() and int(shown[2:], 16) == code, hex(code)
        elif shown != character and character != "\r":
            assert shown.isascii() and shown.startswith("\\"), hex(code)


@DOOR
@given(st.one_of(TEXTS, BYTES), st.integers(20, 300))
def test_lines_are_lines_of_bounded_length_and_a_text_that_is_shown_stays_as_it_is(
    text: str | bytes, limit: int
) -> None:
    shown = sound(many_lines(text), lines=True)
    assert many_lines(shown) == shown
    line = sound(one_line(text, limit))
    assert len(line) <= limit and (len(one_line(text)) <= limit or line.endswith("[cut]"))
    assert len(sound(last_line(text, limit))) <= limit


@DOOR
@given(st.dictionaries(TEXTS, st.integers(), max_size=8))
def test_names_lose_no_value(values: dict[str, int]) -> None:
    shown = short_names(values)
    assert sorted(shown.values()) == sorted(values.values()) and all(len(sound(key)) < 220 for key in shown)
    both = whole_value(values)
    assert sorted(both.values()) == sorted(values.values()) and not has_surrogates(both)


def test_nothing_reads_lines_by_what_str_takes_for_their_end() -> None:
    """`str.splitlines` ends a line at U+2028, U+0085, \\x0b, \\x0c and \\x1c too: JSON and our own forms do not."""
    package = Path(autolab.__file__).parent
    allowed = {"commands.py"}  # what tyro draws on a terminal
    found = []
    for path in package.rglob("*.py"):
        if "templates" not in path.parts and path.name not in allowed:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "splitlines")
            found += [f"{path.name}:{node.lineno}" for node in calls]
    assert found == []


# the ledger and what is copied from it


def _ledger(folder: str) -> Ledger:
    ledger = Ledger(Path(folder))
    ledger.create("0123abcd", Path(folder))
    return ledger


JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(TEXTS, st.integers(-(10**18), 10**18), st.floats(allow_nan=False, allow_infinity=False), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)


@DOOR
@given(st.dictionaries(TEXTS, JSON, max_size=4))
def test_the_ledger_reads_every_value_that_it_writes(data: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = _ledger(folder)
        written = ledger.append("note", data)
        assert [line.data for line in Ledger(Path(folder)).lines()] == [written.data]
        assert Ledger(Path(folder)).check() == 1 and not has_surrogates(written.data)
        if not has_surrogates(data):
            assert written.data == json.loads(json.dumps(data)), "what can be held is held as it came"
        assert ledger.rebuild("0123abcd", Path(folder)).left_out == ()


def test_the_ledger_holds_every_character_and_every_escape_of_one(tmp_path: Path) -> None:
    ledger = _ledger(str(tmp_path))
    step = 0x1000
    for start in range(0, 0x110000, step):
        text = "".join(map(chr, range(start, start + step)))
        escapes = "".join(f"\\u{code:04x}" for code in range(start, start + step)) if start < 0x10000 else ""
        ledger.append("note", {"text": text, "escapes": escapes, text[:7]: 1})
        ledger.append("note", {"text": json.dumps(text), "twice": json.dumps(json.dumps(text[:99]))})
    found = list(ledger.lines())
    assert len(found) == ledger.check() == 2 * 0x110000 // step
    for number, line in enumerate(found[::2]):
        text = "".join(map(chr, range(number * step, number * step + step)))
        assert line.data["text"] == whole(text)


def test_a_foreign_line_with_escaped_pairs_is_read_and_one_with_half_a_pair_is_not(tmp_path: Path) -> None:
    line = _ledger(str(tmp_path)).append("note", {"text": "😀 \\ud83d"})
    value = {key: getattr(line, key) for key in ("n", "time", "event", "data", "prev", "hash")}
    found = parse(json.dumps(value).encode(), 0)
    assert found is not None and found.data == line.data
    assert parse(json.dumps(value | {"data": {"text": "\ud83d"}}).encode(), 0) is None


@DOOR
@given(TEXTS)
def test_a_lesson_with_any_title_is_recalled(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = _ledger(folder)
        title = HypothesisOutput.from_value(_output(RequestKind.HYPOTHESIS, "t"), "x").title + one_line(text, 200)
        value = {"iteration": 1, "iteration_id": "i1", "hypothesis_id": "h1", "title": title, "family": None}
        value |= {
            "base": "b" * 40,
            "status": "failed",
            "delta": 0.1,
            "decision": "stop",
            "commit": None,
            "verdict": None,
            "reason": "",
            "changes": {"key": whole(text)},
        }
        lesson = Lesson.from_value(value, "lesson")
        for _ in range(2):
            lessons.learn(Path(folder), ledger, [lesson], ledger.lines())
        known = lessons.recall(Path(folder), ledger, "i1")
        assert known == (lesson,)
        sound(past_ideas.history(known), lines=True)


def test_a_line_that_holds_a_result_is_named_and_kept_by_a_rebuild(tmp_path: Path) -> None:
    ledger = _ledger(str(tmp_path))
    ledger.append("init", {"lab_id": "0123abcd"})
    for seed in range(3):
        ledger.append("trial", {"run_id": "run_0001", "trial": TRIAL | {"trial": f"a-s{seed}", "score": {"loss": 1.0}}})
    rows = ledger.path.read_bytes().split(b"\n")[:-1]
    edited = rows[2].replace(b'"loss":1.0', b'"loss":0.1')
    copied = rows[3].replace(b'"loss":1.0', b'"loss":0.2')  # with the hash of a line that is there
    wreck = [rows[0], rows[1], edited, rows[3], copied, rows[3], rows[1][:-30]]
    ledger.path.write_bytes(b"\n".join(wreck) + b"\n")
    made = ledger.rebuild("0123abcd", tmp_path)
    assert [str(one) for one in made.left_out] == [
        "line 3 (trial run_0001/a-s1): changed since it was measured",
        "line 5 (trial run_0001/a-s2): another line has its hash",
        "line 7 (trial run_0001/a-s0): cannot be read as a line of a ledger",
    ]
    assert made.kept is not None and made.kept.read_bytes().split(b"\n")[:-1] == [edited, copied, wreck[-1]]
    found = list(ledger.lines())
    assert [line.event for line in found] == ["init", "trial", "trial", "ledger_rebuilt"]
    assert found[-1].data["left_out"] == [str(one) for one in made.left_out]
    findings = doctor._rebuilt(AutolabError("broken"), made)  # type: ignore[arg-type]
    assert [one.severity for one in findings] == ["advisory", "blocking", "blocking", "blocking"]
    assert all(str(made.kept) in one.message for one in findings[1:])


# the doors, in one lab: what came in is recorded there, and every reader is asked after each


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """After all doors: the whole of the lab is looked at, and fixed where nothing is broken."""
    kit = make_lab(tmp_path_factory.mktemp("doors"), script(iteration()))
    made = Lab(kit.root)
    yield made
    assert [finding for finding in doctor.verify_lab(Lab(kit.root)) if finding.severity == "blocking"] == []
    assert not [one for one in doctor.examine_machine(kit.root, fix=True) if one.check in ("fixed", "ledger")]
    for line in made.ledger.lines():
        assert not has_surrogates(line.data)


def _recorded(lab: Lab, **data: Any) -> None:
    """On record as the reason that the lab waits, which every reader shows."""
    lab.ledger.open()
    state, campaign = lab.load()
    reason = next((value for value in data.values() if isinstance(value, str)), "")
    line = lab.ledger.append("note", data)
    lab.transition(state.model_copy(update={"reason": reason}), campaign, why="test")
    assert line in list(lab.ledger.lines(line.offset))
    assert lab.load()[0].reason == whole(reason)
    found = status.read(lab.root)
    sound(status.text(found), lines=True)
    json.dumps(found)


def _output(stage: RequestKind, text: str) -> dict[str, Any]:
    """An answer with the text wherever there is room for one."""
    arm, finding = {"name": "a", "config_overrides": {"key": text}}, {"check": text, "severity": "advisory"}
    return {
        RequestKind.HYPOTHESIS: {"title": "A" + text, "mechanism": text, "success": text, "risk_bounds": [text]}
        | {"references": [text], "assumptions": [text], "notes": text, "body": text, "changes": {text: text}},
        RequestKind.DESIGN: {
            "description": text,
            "baselines": [arm],
            "variants": [arm | {"name": "b"}],
            "train": {text: text},
        }
        | {"secondary": [text], "criteria": [{"metric": text, "target": 1.0}], "dataset": text},
        RequestKind.IMPLEMENTATION: {"plan": text, "files": [{"path": text, "content": text}], "delete": [text]},
        RequestKind.IMPLEMENTATION_REVIEW: {"findings": [finding | {"message": text, "file": text}], "notes": text},
        RequestKind.UPDATE_DOCS: {"observation": text, "inference": text, "claim": text, "no_changes": text}
        | {"paper": [{"path": "paper/paperbanana.md", "text": text}]},
        RequestKind.DECIDE_REPEAT: {"decision": "stop", "reason": text},
    }[stage]


@pytest.mark.process
@DOOR
@given(TEXTS, st.sampled_from(sorted(OUTPUTS)), st.booleans())
def test_door_reply(lab: Lab, text: str, stage: RequestKind, escaped: bool) -> None:
    answer = {"status": "complete", "summary": text, "changed_files": [text], "completion_token_seen": False}
    raw = json.dumps(answer | {"output": _output(stage, text)}, ensure_ascii=escaped)
    found = request.read_reply(OUTPUTS[stage], Answer(raw), "agent_result.json", None)
    if isinstance(found, str):
        _recorded(lab, problem=sound(found))
        return
    output = found.output
    assert output is not None
    _recorded(lab, summary=found.result.summary, output=output.value())
    if isinstance(output, HypothesisOutput | DocsOutput):
        _documents(output, lab.root)


def _documents(output: HypothesisOutput | DocsOutput, root: Path) -> None:
    """What becomes of an answer in every document that quotes it."""
    told = account()
    if isinstance(output, HypothesisOutput):
        names = ("title", "mechanism", "success", "risk_bounds", "references", "changes")
        claim = told.hypothesis.model_copy(update={name: getattr(output, name) for name in names})
        told = replace(told, hypothesis=claim, design=told.design.model_copy(update={"changes": output.changes}))
    else:
        told = replace(told, docs=output)
    usual = account()
    for make in (
        iteration_documents.journal_entry,
        iteration_documents.findings_entry,
        iteration_documents.iteration_findings,
        _report,
    ):
        assert len(headings(make(told).text)) == len(headings(make(usual).text))
    entry = iteration_documents.journal_entry(told)
    with tempfile.TemporaryDirectory() as folder:
        assert write(Path(folder), entry).changed and not write(Path(folder), entry).changed
    assert DocumentEntry.from_json(entry.to_json(), "x") == entry


def _report(told: Account) -> DocumentEntry:
    return iteration_documents.report(told, None)


@pytest.mark.process
@DOOR
@given(BYTES, BYTES)
def test_door_log(lab: Lab, before: bytes, last: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "logs" / "train.err"
        log.parent.mkdir()
        log.write_bytes(before + b"\n" + last)
        said = score._last_words(Path(folder), "train")
    value = TRIAL | {"outcome": "failed", "message": f"train exited with status 1{said}"}
    trial = Trial.from_value(value, "trial")
    _recorded(lab, message=sound(trial.message), trial=trial.value())
    told = account(None)
    told = replace(told, results=told.results.model_copy(update={"error": trial.message}))
    assert len(headings(iteration_documents.findings_entry(told).text)) == 1
    assert iteration_documents.tsv_rows(
        told.manifest.model_copy(update={"status": "failed", "reason": trial.message}), None, "m", "d"
    )


@pytest.mark.process
@DOOR
@given(TEXTS, st.booleans())
def test_door_metric_name(lab: Lab, text: str, escaped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        attempt = Path(folder)
        (attempt / "train").mkdir()
        line = json.dumps({text: 0.5, "val_loss": 0.25, "epoch": 1}, ensure_ascii=escaped)
        (attempt / "train" / "metrics.json").write_bytes(line.encode("utf-8", "surrogatepass"))
        said = metrics.read(attempt, "metrics.json", ("val_loss",))
        (attempt / "logs").mkdir()
        (attempt / "logs" / "train.out").write_bytes(f"{text}: 0.5\nval_loss: 0.25\n".encode("utf-8", "surrogatepass"))
        printed = metrics.read(attempt, "stdout", ("val_loss",))
        history = attempt / "i" / "runs" / "r" / "trials" / "a-s1" / "a1" / "train" / "history.jsonl"
        history.parent.mkdir(parents=True)
        history.write_bytes(line.encode("utf-8", "surrogatepass") + b"\n")
        drawn, notes = curves.gather(attempt, "i/r", [Trial.from_value(TRIAL | {"outcome": "completed"}, "trial")])
    if isinstance(said, Problem):
        assert text in ("val_loss", "epoch"), said
        return
    assert isinstance(printed, dict) and printed["val_loss"] == 0.25
    assert len(said) == len({text, "val_loss", "epoch"}) and notes == []
    trial = Trial.from_value(TRIAL | {"outcome": "completed", "self_reported": said | printed}, "trial")
    _recorded(lab, trial=trial.value(), curves=[sound(curve.metric) for curve in drawn])
    told = account()
    arms = {
        arm: {name: ArmMetrics(mean=1.0, std=0.1, n=8) for name in (*said, "val_loss")} for arm in ("base", "small_cnn")
    }
    told = replace(told, metrics=told.metrics.model_copy(update={"arms": arms}))
    assert len(headings(iteration_documents.findings_entry(told).text)) == 1
    assert len(headings(iteration_documents.iteration_findings(told).text)) == 5


@pytest.mark.process
@DOOR
@given(BYTES)
def test_door_file_name(lab: Lab, raw: bytes) -> None:
    path = "a" + os.fsdecode(raw)
    change = Change("A", path, "000000", "100644", "", "")
    found = paths.path_policy([change], lab.config(), unlocked=False, existing=())
    found.append(advisory_finding("frozen", f"{path}: differs", path))
    for finding in found:
        sound(finding.message, lines=True)
        assert finding.file is None or sound(finding.file)
    _recorded(lab, findings=[finding.value() for finding in found], path=path)
    text = iteration_documents.merge_request(account(), "c" * 40, "b" * 40, [path, "train.py"], Claims())
    assert len(headings(text)) == 5
    sound(command_line._disk_message(OSError(errno.EACCES, "Permission denied", path)))


@pytest.mark.process
@DOOR
@given(TEXTS, BYTES)
def test_door_error_message(lab: Lab, text: str, raw: bytes) -> None:
    sound(str(AutolabError(text)))
    sound(command_line._disk_message(OSError(errno.EIO, text, None)))
    word = sound(_last_word(subprocess.CompletedProcess(["git"], 128, b"", raw)))
    answer = sound(line_for_user(read_error(500, raw).message))
    told = sound(line_for_user(read_error(500, json.dumps({"error": {"message": text}}).encode()).message))
    _recorded(lab, error=str(AutolabError(text)), git=word, http=[answer, told])
    try:
        text.encode()
    except UnicodeEncodeError as error:
        _recorded(lab, error=sound(one_line(str(error))))


@pytest.mark.process
@DOOR
@given(BYTES, TEXTS)
def test_door_journal(lab: Lab, raw: bytes, text: str) -> None:
    journal = lab.root / "human_journal.md"
    usual = journal.read_bytes()
    try:
        journal.write_bytes(raw)
        assert paths.meta_mode(decode(raw)) in (True, False)
        sound(render("{{program}}", {"program": many_lines(raw)}), lines=True)
        iteration_documents.report(account(), many_lines(raw))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "RESEARCH_JOURNAL.md"
            place.write_bytes(raw)
            observed = DocsOutput(observation=whole(text[: PROSE // 10]), inference="", claim="")
            write(Path(folder), iteration_documents.journal_entry(account(docs=observed)))
            assert place.read_bytes().endswith(raw)
        _recorded(lab, edited=sha256_of(raw), text=many_lines(raw))
    finally:
        journal.write_bytes(usual)


# one of each through the command line

NASTY = "\\ud83d \u2028 \u202e <img src=http://e.x/a.png> ![p](http://e.x/p.png) `x"
SPOILED = """
import json as _json, os as _os, pathlib as _pathlib
_place = _pathlib.Path(_os.environ["AUTOLAB_TRIAL_DIR"])
_row = '{"epoch": 1, "\\\\ud83d": 0.5, "a\\\\u2028<img src=x>": 1.0, "val_loss": 0.5}'
(_place / "history.jsonl").write_text(_row + "\\n")
open(_os.fsencode(_place) + b"/\\xff\\xfe.txt", "w").close()
"""
FAILS = """
import sys as _sys
if len(_sys.argv) == 1:
    raise ValueError('\\ud83d \\\\ud83d \\x1b[31m <img src=x>'.encode('utf-8', 'backslashreplace').decode())
"""


def _appended(kit: LabKit, more: str) -> dict[str, Any]:
    """The tiny lab's training with more at its end, as an answer writes it."""
    base = (kit.root / "train.py").read_text(encoding="utf-8")
    files = [*implementation()["output"]["files"], {"path": "train.py", "content": base + more}]
    return {"output": {"plan": NASTY, "files": files}}


@pytest.mark.process
def test_one_of_each_through_the_command_line(tmp_path: Path) -> None:
    kit = make_lab(tmp_path, {}, config={"attempts": {"bounces": 1}})
    claim = hypothesis(f"Steeper {NASTY}", mechanism=f"# Forged\n\n{NASTY}\n\n```\nnever closed", risk_bounds=[NASTY])
    words = {"observation": NASTY, "inference": "## Forged\n\n[a]: http://e.x", "claim": "<script>alert(1)</script>"}
    answers = script(
        iteration(hypothesis=claim, implementation=_appended(kit, SPOILED), update_docs=docs(**words)),
        iteration(
            hypothesis=hypothesis("Breaks"),
            implementation=[_appended(kit, FAILS), _appended(kit, FAILS + "# again")],
            implementation_review=[review()] * 2,
        ),
    )
    (kit.root / ".autolab" / "script.yaml").write_text(yaml.safe_dump(answers, sort_keys=False, allow_unicode=False))
    (kit.root / "human_journal.md").write_bytes(b"## \xff\xfe\n\xed\xa0\xbd\n")
    (kit.root / "9_reports").mkdir(exist_ok=True)
    (kit.root / "9_reports" / "_TEMPLATE.md").write_bytes(b"## Results \xff\n")
    first = kit.autolab("loop", "--max-iterations", "1", "--goal", "steeper \udcff \u202e")
    assert first.code == 0, first.out + first.err
    second = kit.autolab("loop", "--max-iterations", "1")
    assert second.code == 3 and second.err == "", second.out + second.err
    sound(second.out + second.err, lines=True)
    for words_ in (["status"], ["status", "--json"], ["verify"], ["doctor", "--fix"], ["registry"]):
        ended = kit.autolab(*words_)
        assert ended.code == 0 and ended.err == "", (words_, ended.out + ended.err)
    folder = kit.iterations()[0]
    journal = (kit.root / "RESEARCH_JOURNAL.md").read_text(encoding="utf-8")
    assert "Steeper \\ud83d \\u2028 \\u202e \\<img" in journal and "(`http://e.x/p.png`)" not in journal.split("\n")[0]
    for path in (folder / "hypothesis.md", folder / "implementation_plan.md"):
        matter = path.read_text(encoding="utf-8").rpartition("\n---\n")[2]
        assert len(headings(matter)) == 1, path
    table = (folder / "analysis" / "tables" / "history.csv").read_text(encoding="utf-8")
    assert "\\ud83d" in table and "a\\u2028<img src=x>" in table
    failed = [line["data"]["trial"] for line in kit.events("trial") if line["data"]["trial"]["outcome"] == "failed"]
    assert failed and all("\\ud83d \\x1b[31m <img src=x>" in trial["message"] for trial in failed)
