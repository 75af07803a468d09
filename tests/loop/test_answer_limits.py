"""Answers of any size and any characters, through the command line: record, ledger, documents, screen stay small."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import (
    Finished,
    LabKit,
    decision,
    design,
    docs,
    hypothesis,
    implementation,
    iteration,
    make_lab,
    review,
    script,
)
from model_kit import model_flags, model_lab, replies, reply
from standin import StandIn

pytestmark = pytest.mark.process

HUGE = "word " * 1_000_000
"""Five megabytes, as a model wrote them once."""
LONG = "word " * 3_990
"""As long as a text of an answer may be."""
LINE_BYTES = 100_000
"""The longest line of a ledger that an answer may lead to. The least answers make lines of 2 KB."""
DOCUMENT_BYTES = 150_000
SCREEN_BYTES = 30_000
"""What one command prints, at most."""
ALLOWED = ("script.yaml", "agent_result.json", "ledger.jsonl", "prompt.md", "refused.txt")
"""Files that hold answers as they came, prompts within their own limits, or many lines."""


def printed_at_most(ended: Finished) -> int:
    assert "Traceback" not in ended.out + ended.err
    for line in (ended.out + ended.err).split("\n"):
        assert line.isprintable(), "no character acts on the terminal"
    return len(ended.out.encode()) + len(ended.err.encode())


def require_small(kit: LabKit, ended: Finished) -> None:
    """What everybody reads of the lab is small; only the answers themselves are kept whole."""
    assert printed_at_most(ended) < SCREEN_BYTES
    for words in (("status", "--json"), ("review",)):
        assert printed_at_most(kit.autolab(*words)) < SCREEN_BYTES, words
    lines = (kit.store / "ledger.jsonl").read_bytes().split(b"\n")
    assert max(map(len, lines)) < LINE_BYTES
    assert (kit.root / ".autolab" / "state.json").stat().st_size < LINE_BYTES
    for folder in ("experiments", ".autolab", "9_reports", "paper"):
        for path in (kit.root / folder).rglob("*"):
            kept_whole = path.name in ALLOWED or path.name.endswith((".reply.json", ".prompt.md"))
            if path.is_file() and not kept_whole:
                assert path.stat().st_size < DOCUMENT_BYTES, path
    for name in ("RESEARCH_JOURNAL.md", "FINDINGS.md", "results.tsv"):
        path = kit.root / name
        assert not path.exists() or path.stat().st_size < DOCUMENT_BYTES, path


FINDING = {"check": "code", "severity": "blocking"}
FEW = {"attempts": {"stage": 2, "same_error": 2, "bounces": 2}}
ANSWERS: dict[str, dict[str, Any]] = {
    "a reason of five megabytes": {"decide_repeat": [decision("stop", HUGE)] * 2},
    "a reason as long as it may be": {"decide_repeat": decision("stop", LONG)},
    "giving up in five megabytes": {"hypothesis": [{"status": "failed", "summary": HUGE}] * 2},
    "giving up as long as it may be": {"hypothesis": {"status": "failed", "summary": LONG}},
    "asking to try again at length": {"hypothesis": [{"status": "needs_retry", "summary": LONG}] * 2},
    "no JSON in five megabytes": {"hypothesis": [{"raw": HUGE}] * 2},
    "an unknown key of five megabytes": {"hypothesis": [hypothesis(**{HUGE: 1})] * 2},
    "a hypothesis of five megabytes": {"hypothesis": [hypothesis(mechanism=HUGE)] * 2},
    "a hypothesis that is long in all its parts": {
        "hypothesis": hypothesis(
            mechanism=LONG,
            success=LONG,
            notes=LONG,
            risk_bounds=["word " * 39] * 100,
            references=["word " * 39] * 100,
            assumptions=["word " * 39] * 100,
        ),
        "decide_repeat": decision("stop", "done"),
    },
    "a design with a long description": {"design": design(description=LONG), "decide_repeat": decision("stop", "done")},
    "a hundred long findings": {
        "implementation": [implementation()] * 3,
        "implementation_review": [review(*[FINDING | {"message": LONG}] * 100)] * 3,
    },
    "a long finding": {
        "implementation": [implementation()] * 3,
        "implementation_review": [review(FINDING | {"message": LONG})] * 3,
    },
    "a plan of five megabytes": {"implementation": [implementation(plan=HUGE)] * 2},
    "documents as long as they may be": {
        "update_docs": docs("word " * 9_000, observation=LONG, inference=LONG, claim=LONG),
        "decide_repeat": decision("stop", "done"),
    },
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_any_size_leaves_a_small_record(tmp_path: Path, name: str) -> None:
    kit = make_lab(tmp_path, script(iteration(**ANSWERS[name])), config=FEW)
    require_small(kit, kit.autolab("loop", "--max-iterations", "1"))
    assert kit.events("answered"), "the answers came"


HIDDEN = "a\0b\x1b[2Jc\u202ed\x07e\x85f\u200bg"


def test_no_character_of_an_answer_acts_anywhere(tmp_path: Path) -> None:
    texts = iteration(
        hypothesis=hypothesis(mechanism=HIDDEN, success=HIDDEN, notes=HIDDEN, risk_bounds=[HIDDEN]),
        design=design(description=HIDDEN),
        implementation=implementation(plan=HIDDEN),
        implementation_review=review({"check": HIDDEN, "severity": "advisory", "message": HIDDEN, "file": HIDDEN}),
        update_docs=docs(HIDDEN, observation=HIDDEN, inference=HIDDEN, claim=HIDDEN),
        decide_repeat=decision("stop", HIDDEN),
    )
    kit = make_lab(tmp_path, script(texts))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    require_small(kit, ended)
    assert r"a\x00b\x1b[2Jc\u202ed" in ended.out
    documents = [*(kit.root / "experiments").rglob("*.md"), *(kit.root / "experiments").rglob("*.yaml")]
    documents += [kit.root / name for name in ("RESEARCH_JOURNAL.md", "FINDINGS.md", "paper/paperbanana.md")]
    for path in [*documents, kit.store / "ledger.jsonl", *(kit.root / "experiments").rglob("*.json")]:
        text = path.read_text()
        assert not any(character in text for character in "\0\x1b\u202e\x07\x85\u200b"), path
        # JSON could hold them as escapes of its own, which a reader turns back.
        assert "\\u0000" not in text and "\\u001b" not in text, path


def test_five_megabytes_of_a_model_and_of_its_service_are_one_line(tmp_path: Path) -> None:
    rest = [one for one in replies(iteration()) if "decide_repeat" not in one["when"]]
    long_reason = reply("decide_repeat", decision("stop", HUGE)["output"], times=2)
    refusals = [reply("decide_repeat", refusal=HUGE), reply("decide_repeat", text=HUGE)]
    broken = reply("decide_repeat", status=400, error={"message": HUGE}, times=0)
    with StandIn([*rest, long_reason, *refusals, broken]) as server:
        kit = model_lab(tmp_path, config={"attempts": {"stage": 5, "same_error": 5}})
        ended = kit.autolab("loop", "--max-iterations", "1", *model_flags(server))
        require_small(kit, ended)
    reasons = [line["data"]["reason"] for line in kit.events("call")][-5:]
    assert reasons[:4] == ["invalid", "invalid", "refused", "not_json"] and kit.state()["stage"] == "human_review"
    assert max(len(line["data"]["said"]) for line in kit.events("call")) <= 3_000


AGENT = """
import json, os, sys
stage = os.environ["AUTOLAB_STAGE"]
result = {"status": "complete", "summary": "s" * 10, "changed_files": [], "completion_token_seen": True}
if stage == "hypothesis":
    result["status"], result["summary"] = "failed", "word " * int(sys.argv[1])
print("\\x1b[2J" + "printed " * 1_000_000)
with open(".autolab/agent_result.json", "w") as file:
    json.dump(result, file)
"""


@pytest.mark.parametrize(("words", "said"), [(3_990, "gave up"), (700_000, "at most 20000"), (1_000_000, "larger")])
def test_what_an_agent_says_is_bounded_too(tmp_path: Path, words: int, said: str) -> None:
    kit = make_lab(tmp_path, script(), config=FEW)
    program = tmp_path / "agent.py"
    program.write_text(AGENT)
    path = kit.root / ".autolab" / "config.yaml"
    command = f"{sys.executable} {program} {words}"
    researcher = {"name": "command", "command": command, "reads": [str(program)]}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"researcher": researcher}, sort_keys=False))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert said in ended.out, ended.out + ended.err
    require_small(kit, ended)


WRITING_AGENT = """
import json, os, sys
stage = os.environ["AUTOLAB_STAGE"]
with open(sys.argv[1]) as file:
    output = json.load(file)[stage]
if stage == "implementation":
    if sys.argv[2] != "nothing":
        with open("models/width.py", "w") as file:
            file.write(sys.argv[2])
    output = {"plan": "It is done."}
result = {"status": "complete", "summary": "done", "changed_files": [], "completion_token_seen": True}
with open(".autolab/agent_result.json", "w") as file:
    json.dump(result | {"output": output}, file)
"""


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("WIDTH=4;return", "syntax: models/width.py:1: 'return' outside function: \"WIDTH=4;return\""),
        ("nothing", "nothing is changed"),
    ],
)
def test_what_an_agent_left_in_its_folder_is_judged_alike(tmp_path: Path, written: str, said: str) -> None:
    kit = make_lab(tmp_path, script(), config=FEW)
    program, answers = tmp_path / "agent.py", tmp_path / "answers.json"
    program.write_text(WRITING_AGENT)
    answers.write_text(json.dumps({stage: given[0]["output"] for stage, given in iteration().items()}))
    path = kit.root / ".autolab" / "config.yaml"
    command = f"{sys.executable} {program} {answers} {written}"
    researcher = {"name": "command", "command": command, "reads": [str(program), str(answers)]}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"researcher": researcher}, sort_keys=False))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 3 and said in ended.out, ended.out + ended.err
    assert said in kit.state()["reason"]
    for line in kit.events("checked"):
        assert line["data"]["checks"]["dry_run"] == "skip", "no program of the candidate ran"


def test_a_refused_answer_is_shown_to_the_next_attempt_and_an_applied_one_is_not(tmp_path: Path) -> None:
    first = {"plan": "x", "edits": [{"path": "models/width.py", "search": "Width", "replace": "WIDE"}]}
    second = {"plan": "x", "files": [{"path": "models/width.py", "content": "raise SystemExit('no')\n"}]}
    answers = [{"output": first}, {"output": second}, implementation()]
    kit = make_lab(tmp_path, script(iteration(implementation=answers, decide_repeat=decision("stop", "done"))))
    for kind in ("hypothesis", "implementation"):
        prompt = kit.root / ".autolab" / "prompts" / f"stage_{kind}.md"
        prompt.write_text(prompt.read_text().replace("# TASK", "REFUSED: {{refused_answer}}\n# TASK"))
    ended = kit.autolab("loop", "--max-iterations", "1")
    assert ended.code == 0, ended.out + ended.err
    logs = kit.root / ".autolab" / "logs" / "iterations" / kit.iterations()[0].name
    shown = [
        (logs / f"implementation-{number}.prompt.md").read_text().partition("REFUSED:")[2].partition("# TASK")[0]
        for number in (1, 2, 3)
    ]
    assert "none" in shown[0] and '"search": "Width"' in shown[1]
    assert "none" in shown[2], "the second was committed: the prompt shows its source"
    second_prompt = (logs / "implementation-2.prompt.md").read_text()
    assert "models/width.py: nearest to the text to replace are the lines 1 to 1" in second_prompt


def test_a_syntax_error_is_one_line_and_no_program_runs_for_it(tmp_path: Path) -> None:
    broken = {"plan": "x", "files": [{"path": "models/width.py", "content": "WIDTH = 4\nif WIDTH\n    WIDTH = 5\n"}]}
    kit = make_lab(tmp_path, script(iteration(implementation=[{"output": broken}] * 2)), config=FEW)
    ended = kit.autolab("loop", "--max-iterations", "1")
    line = "models/width.py:2: expected ':': \"if WIDTH\""
    assert ended.code == 3 and line in ended.out and kit.state()["reason"].endswith(line)
    assert not kit.events("candidate") and not kit.events("checked")


def test_a_model_that_wrote_what_cannot_be_applied_is_told_at_once_and_no_attempt_is_used(tmp_path: Path) -> None:
    faulty = [
        {"plan": "x", "edits": [{"path": "models/width.py", "search": "Width", "replace": "WIDE"}]},
        {"plan": "x", "files": [{"path": "models/width.py", "content": "WIDTH = \n"}]},
        {"plan": "x", "files": [{"path": "eval.py", "content": ""}]},
        {"plan": "I would set it."},
    ]
    stages = {stage: [answers[0]] * len(faulty) for stage, answers in iteration().items()}
    stages["hypothesis"] = [hypothesis(title) for title in ("One", "Two", "Three", "Four")]
    good = [{"path": "models/width.py", "content": f"WIDTH = {number}.5\n"} for number in range(2, 6)]
    answers = []
    for number, output in enumerate(faulty):
        answers += [{"output": output}, {"output": {"plan": "x", "files": [good[number]]}}]
    stages["implementation"] = answers
    with StandIn(replies(stages)) as server:
        kit = model_lab(tmp_path)
        ended = kit.autolab("loop", "--max-iterations", str(len(faulty)), *model_flags(server))
    assert ended.code == 0 and len(kit.iterations()) == len(faulty), ended.out + ended.err
    calls = [line["data"] for line in kit.events("call") if line["data"]["kind"] == "implementation"]
    assert [call["reason"] for call in calls] == ["invalid", "ok"] * len(faulty)
    said = [call["said"] for call in calls[::2]]
    assert said[0] == "edit of models/width.py: the text to replace stands there 0 times, not once"
    assert said[1].startswith("models/width.py:1: invalid syntax") and said[2].startswith("eval.py: ")
    assert said[3].startswith("nothing is changed")
    assert not [line for line in kit.events("transition") if line["data"].get("outcome") == "retry"]
    sent_back = [request.text for request in server.requests if "nearest to the text to replace" in request.text]
    assert len(sent_back) == 1, "the model reads the nearest lines"
    replayed = kit.autolab("replay", kit.iterations()[0].name)
    assert replayed.code == 0, replayed.out + replayed.err


def test_an_empty_implementation_passes_where_the_arms_differ_by_their_settings(tmp_path: Path) -> None:
    variants = [{"name": "steep", "config_overrides": {"width": 4.0}}]
    empty = {"output": {"plan": "The setting is there already."}}
    stages = iteration(design=design(variants=variants), implementation=empty, decide_repeat=decision("stop", "done"))
    kit = make_lab(tmp_path, script(stages))
    assert kit.autolab("loop", "--max-iterations", "1").code == 0
    assert json.loads((kit.iterations()[0] / "record.json").read_text())["status"]
